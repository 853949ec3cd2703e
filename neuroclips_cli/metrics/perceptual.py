"""Perceptual distance: LPIPS on AlexNet (Zhang et al. 2018), by torchmetrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neuroclips_cli.errors import UserError

WHAT = "LPIPS on AlexNet (torchmetrics), mean over frames; 0 is best"
LAYERS = (0, 3, 6, 8, 10)
"""Places of AlexNet's convolutions among its features; LPIPS reads one slice behind each."""
SHAPED = tuple(enumerate(LAYERS))
SHAPES = ((64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3))
"""Of the weights of these convolutions."""


class Lpips:
    """LPIPS of frames, with AlexNet's weights from a local file.

    Parameters
    ----------
    weights : str
        torchvision's checkpoint ``alexnet-owt-7be5be79.pth``.
    device : str
        A torch device.

    Raises
    ------
    UserError
        If torchmetrics is not installed, or the file is missing or holds something else.
    """

    def __init__(self, weights: str, device: str = "cpu") -> None:
        try:
            # the public class fetches AlexNet from the network by itself; this is its inside
            from torchmetrics.functional.image.lpips import _LPIPS
        except ImportError as problem:
            raise UserError(
                "lpips needs torchmetrics: pip install 'neuroclips[lpips]', or leave lpips out of "
                "--extra-metrics"
            ) from problem
        tensors = _alexnet(Path(weights)) if weights else {}
        if not tensors:
            raise UserError(
                f"lpips needs torchvision's AlexNet weights and found none in '{weights}': "
                "download https://download.pytorch.org/models/alexnet-owt-7be5be79.pth and give "
                "--set evaluate.perceptual=PATH"
            )
        self.device = device
        self.network = _LPIPS(net="alex", pnet_rand=True)
        self.network.net.load_state_dict(tensors)
        self.network.eval().to(device)

    def __call__(self, pred: np.ndarray, gt: np.ndarray) -> np.ndarray:
        """Return the distance of every clip.

        Parameters
        ----------
        pred, gt : numpy.ndarray
            uint8 (clips, frames, h, w, 3), 32 x 32 pixels or more.

        Returns
        -------
        numpy.ndarray
            float64 (clips,), mean over frames; 0 for equal clips.
        """
        import torch

        with torch.inference_mode():
            clips = [
                self.network(self._tensor(pred), self._tensor(gt)).mean().item()
                for pred, gt in zip(pred, gt, strict=True)
            ]
        return np.array(clips, dtype=np.float64)

    def _tensor(self, frames: np.ndarray) -> Any:
        """Return frames as float32 (frames, 3, h, w) in -1..1."""
        import torch

        planes = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
        return planes.to(self.device).float() / 127.5 - 1


def _alexnet(path: Path) -> dict[str, Any]:
    """Return AlexNet's convolutions under the names of LPIPS; empty if the file has none."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found = {
            f"slice{place + 1}.{layer}.{kind}": content[f"features.{layer}.{kind}"]
            for place, layer in SHAPED
            for kind in ("weight", "bias")
        }
        shapes = [tuple(found[f"slice{n + 1}.{layer}.weight"].shape) for n, layer in SHAPED]
    except Exception:  # whatever is wrong with the file, it holds no weights
        return {}
    return found if shapes == list(SHAPES) else {}
