"""ConvNeXt maps, which the released Perception Reconstructor's auxiliary map is compared with.

The network is VICRegL's ConvNeXt-XL with its projector of maps; MindEye2 publishes it as
``convnext_xlarge_alpha0.75_fullckpt.pth``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import ConvNextConfig, ConvNextModel

from neuroclips_cli.backbones.conversion.files import read_weights
from neuroclips_cli.backbones.conversion.unwrap import from_common_prefix
from neuroclips_cli.backbones.loading import freeze
from neuroclips_cli.backbones.pixels import resize_frames, unit_pixels
from neuroclips_cli.errors import UserError
from neuroclips_cli.runtime.batches import batches

REDUCTION = 32
"""Pixels of a frame per position of its map."""
FIRST_NORM = "backbone.norm.weight"
"""An entry that every VICRegL checkpoint has."""
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.228, 0.224, 0.225)  # the released code's figures
_NAMES = (
    (r"^backbone\.downsample_layers\.0\.0\.", "backbone.embeddings.patch_embeddings."),
    (r"^backbone\.downsample_layers\.0\.1\.", "backbone.embeddings.layernorm."),
    (r"^backbone\.downsample_layers\.(\d)\.", r"backbone.encoder.stages.\1.downsampling_layer."),
    (r"^backbone\.stages\.(\d)\.(\d+)\.norm\.", r"backbone.encoder.stages.\1.layers.\2.layernorm."),
    (r"^backbone\.stages\.(\d)\.(\d+)\.", r"backbone.encoder.stages.\1.layers.\2."),
    (r"^backbone\.norm\.", "backbone.layernorm."),
)


class ConvNextMaps(nn.Module):
    """The last map of a ConvNeXt, normalized and projected position by position.

    Parameters
    ----------
    config : ConvNextConfig
        Of the trunk.
    widths : sequence of int
        Of the projector: input, hidden, hidden, output.
    """

    def __init__(self, config: ConvNextConfig, widths: list[int]) -> None:
        super().__init__()
        self.backbone = ConvNextModel(config)
        layers: list[nn.Module] = []
        for before, after in zip(widths[:-2], widths[1:-1], strict=True):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU()]
        layers.append(nn.Linear(widths[-2], widths[-1], bias=False))
        self.maps_projector = nn.Sequential(*layers)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels 0..1 ``(n, 3, h, w)`` to ``(n, h / 32 x w / 32, width)``."""
        mean, deviation = (pixels.new_tensor(v).view(3, 1, 1) for v in (_MEAN, _DEVIATION))
        features = self.backbone((pixels - mean) / deviation).last_hidden_state
        return self.maps_projector(self.backbone.layernorm(features.flatten(2).transpose(1, 2)))

    @torch.inference_mode()
    def two_views(self, frames: np.ndarray, positions: int, batch_size: int = 32) -> np.ndarray:
        """Return the maps of frames and of an augmented view of each.

        The released trainer draws the view anew in every step; here one view per frame is drawn
        and kept, from torch's global generator.

        Parameters
        ----------
        frames : numpy.ndarray
            uint8 (n, h, w, 3).
        positions : int
            Height and width of a map.
        batch_size : int
            Frames at a time.

        Returns
        -------
        numpy.ndarray
            float32 (n, 2, positions x positions, width).
        """
        side = positions * REDUCTION
        device = str(next(self.parameters()).device)
        augment = _augmentation(side)
        parts = []
        for piece in batches(len(frames), batch_size):
            pixels = unit_pixels(resize_frames(frames[piece], side), device)
            views = torch.stack([augment(image) for image in pixels])
            pair = torch.stack([self(pixels), self(views)], dim=1)
            parts.append(pair.float().cpu().numpy())
        return np.concatenate(parts)


def _augmentation(side: int) -> Any:
    """Return the released trainer's augmentation of one image (3, h, w)."""
    from torchvision.transforms import v2

    jitter = v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    return v2.Compose(
        [
            v2.RandomApply([jitter], p=0.8),
            v2.RandomGrayscale(p=0.1),
            v2.RandomSolarize(threshold=0.5, p=0.1),
            v2.RandomResizedCrop(side, scale=(0.9, 0.9), ratio=(1.0, 1.0)),
        ]
    )


def load_convnext(ref: str, device: str = "cpu") -> ConvNextMaps:
    """Load the published checkpoint.

    Parameters
    ----------
    ref : str
        ``[backbones] convnext``: the ``.pth`` file.
    device : str
        A torch device.

    Raises
    ------
    UserError
        If none is named, or the file is missing or of another kind.
    """
    if not ref:
        raise UserError(
            'train_pr.contrast = "convnext" needs the ConvNeXt checkpoint: give its path as '
            "convnext in [backbones] (MindEye2's convnext_xlarge_alpha0.75_fullckpt.pth)"
        )
    path = Path(ref).expanduser()
    weights = from_common_prefix(read_weights(path), lambda inner: FIRST_NORM in inner)
    network = from_published(weights, str(path))
    freeze(network, device)
    return network


def from_published(weights: Mapping[str, Tensor], source: str) -> ConvNextMaps:
    """Build the network that a checkpoint's shapes describe and fill it."""
    # Layer scales, should a checkpoint hold any, are not loaded by the released code either.
    state = {
        _renamed(name): value
        for name, value in weights.items()
        if name.startswith(("backbone.", "maps_projector.")) and not name.endswith(".gamma")
    }
    sizes = _sizes(weights, source)
    projector = [n for n in weights if re.fullmatch(r"maps_projector\.\d+\.weight", n)]
    matrices = [weights[n] for n in projector if weights[n].ndim == 2]
    widths = [matrices[0].shape[1], *(matrix.shape[0] for matrix in matrices)]
    network = ConvNextMaps(ConvNextConfig(**sizes), widths)
    missing, unexpected = network.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise UserError(
            f"{source} is not a VICRegL ConvNeXt: '{[*missing, *unexpected][0]}' differs; check "
            "which file it is"
        )
    return network


def _renamed(name: str) -> str:
    for pattern, replacement in _NAMES:
        changed, found = re.subn(pattern, replacement, name)
        if found:
            return changed
    return name


def _sizes(weights: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    """Read depths and widths off the names and shapes."""
    if not {FIRST_NORM, "backbone.downsample_layers.0.0.weight"} <= weights.keys():
        first = next(iter(weights), "nothing")
        raise UserError(
            f"{source} is not a VICRegL ConvNeXt: it lacks '{FIRST_NORM}' (its first entry is "
            f"'{first}'); check which file it is"
        )
    blocks = [re.match(r"backbone\.stages\.(\d)\.(\d+)\.norm\.weight", n) for n in weights]
    places = [(int(m[1]), int(m[2])) for m in blocks if m]
    stages = range(max(stage for stage, _ in places) + 1)
    return {
        "depths": [sum(stage == s for s, _ in places) for stage in stages],
        "hidden_sizes": [
            len(weights[f"backbone.stages.{stage}.0.norm.weight"]) for stage in stages
        ],
        "num_stages": len(stages),
        "layer_scale_init_value": 0.0,
        "layer_norm_eps": 1e-6,
    }
