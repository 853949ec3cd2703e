"""OpenCLIP: patch tokens that the brain is decoded to, and the joint image-text space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from neuroclips_cli.backbones.loading import freeze, unavailable
from neuroclips_cli.backbones.pixels import Preprocess
from neuroclips_cli.backbones.references import require_here, resolve
from neuroclips_cli.backbones.token_space import PUBLISHED, STANDARD
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.safetensors import read_tensors
from neuroclips_cli.runtime.batches import batches
from neuroclips_cli.runtime.precision import compute_in

PROJECTOR_FILE = "projector.safetensors"


@dataclass(frozen=True)
class ClipBackbone:
    """An OpenCLIP model, its tokenizer and its preprocessing.

    Attributes
    ----------
    model : open_clip.CLIP
        Evaluation mode; what it takes and gives is float32.
    tokenizer : callable
        List of str -> int64 (N, context).
    preprocess : Preprocess
        From the model's own preprocessing configuration.
    device : str
        A torch device.
    token_space : str
        ``standard`` or ``published``: the pixels that :meth:`tokens` are made from. Embeddings
        are always made from the frames as they are.
    """

    model: Any
    tokenizer: Any
    preprocess: Preprocess
    device: str
    token_space: str = STANDARD

    def in_space(self, token_space: str) -> ClipBackbone:
        """Return this model with tokens in a space of ``backbones.token_space``."""
        return replace(self, token_space=token_space)

    @torch.inference_mode()
    def _visual(
        self,
        frames: np.ndarray,
        batch_size: int,
        advance: Callable[[int], None] | None,
        upper_half: bool = False,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        pooled, tokens = [], []
        for piece in batches(len(frames), batch_size, advance):
            pixels = self.preprocess(frames[piece], self.device, upper_half=upper_half)
            whole, patches = self.model.visual(pixels)
            pooled.append(whole.cpu())
            tokens.append(patches.cpu())
        return pooled, tokens

    def tokens(
        self,
        frames: np.ndarray,
        batch_size: int = 64,
        advance: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Return the patch tokens after the last layer norm, without the class token.

        Parameters
        ----------
        frames : numpy.ndarray
            uint8 (N, H, W, 3).
        batch_size : int
            Frames at a time.
        advance : callable, optional
            Called with the number of frames done.

        Returns
        -------
        numpy.ndarray
            float32 (N, tokens, dim); 256 x 1664 for ViT-bigG/14 (paper B.2).
        """
        upper_half = self.token_space == PUBLISHED
        return torch.cat(self._visual(frames, batch_size, advance, upper_half)[1]).float().numpy()

    def image_embeddings(
        self,
        frames: np.ndarray,
        batch_size: int = 64,
        advance: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Return unit image embeddings, float32 (N, embed_dim), of uint8 (N, H, W, 3) frames."""
        pooled = torch.cat(self._visual(frames, batch_size, advance)[0]).float()
        return functional.normalize(pooled, dim=-1).numpy()

    def token_projection(self) -> torch.Tensor:
        """Return CLIP's own map from token width to the joint space, float32 (dim, embed_dim).

        Raises
        ------
        UserError
            If the image tower ends without one.
        """
        projection = getattr(self.model.visual, "proj", None)
        if projection is None or projection.ndim != 2:
            raise UserError(
                "this CLIP model's image tower has no linear projection to begin with: choose one "
                "with OpenCLIP's own vision transformer in [backbones]"
            )
        return projection.detach().float().cpu()

    @torch.inference_mode()
    def text_embeddings(self, texts: Sequence[str], batch_size: int = 256) -> np.ndarray:
        """Return unit text embeddings, float32 (N, embed_dim)."""
        parts = []
        for piece in batches(len(texts), batch_size):
            ids = self.tokenizer(list(texts[piece])).to(self.device)
            parts.append(self.model.encode_text(ids).float().cpu())
        return functional.normalize(torch.cat(parts), dim=-1).numpy()


def compute_clip_in(precision: str, model: Any) -> Any:
    """Let both towers of a CLIP model compute in ``precision``; see `precision.compute_in`."""
    compute_in(precision, model.visual, store=False)
    return compute_in(precision, model, ("encode_text",), store=False)


def load_clip(ref: str, device: str = "cpu", precision: str = "float32") -> ClipBackbone:
    """Load an OpenCLIP model through its own factory.

    Parameters
    ----------
    ref : str
        ``assets:<name>``, a folder with ``open_clip_config.json``, or a hub id.
    device : str
        A torch device.
    precision : str
        ``float32`` or ``bfloat16``.

    Returns
    -------
    ClipBackbone

    Raises
    ------
    UserError
        If it cannot be found, or its image tower gives no patch tokens.
    """
    import open_clip

    source = resolve(ref.removeprefix("hf-hub:"))
    require_here(source, ref)
    name = f"local-dir:{source}"
    try:
        model = open_clip.create_model(
            name, precision="fp32", device="cpu", weights_only=True, require_pretrained=True
        )
        tokenizer = open_clip.get_tokenizer(name)
    except (OSError, ValueError, RuntimeError) as problem:
        raise unavailable(ref, problem) from problem
    if not hasattr(model.visual, "output_tokens"):
        raise UserError(
            f"the CLIP model '{ref}' gives no patch tokens: choose one with OpenCLIP's own "
            "vision transformer, such as laion/CLIP-ViT-bigG-14-laion2B-39B-b160k."
        )
    model.visual.output_tokens = True
    freeze(model, device)
    compute_clip_in(precision, model)
    return ClipBackbone(
        model=model,
        tokenizer=tokenizer,
        preprocess=_preprocess(model.visual.preprocess_cfg),
        device=device,
    )


def _preprocess(config: dict[str, Any]) -> Preprocess:
    size = config["size"]
    return Preprocess(
        size=(size, size) if isinstance(size, int) else (int(size[0]), int(size[1])),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        crop=config.get("resize_mode", "shortest") == "shortest",
        interpolation="bilinear" if config.get("interpolation") == "bilinear" else "bicubic",
    )


def load_projector(ref: str) -> torch.Tensor:
    """Load Reftm's frozen projector from image tokens to the text space (paper Eq. 10).

    Parameters
    ----------
    ref : str
        Folder (or ``assets:<name>``) with ``projector.safetensors``, which holds ``weight``.

    Returns
    -------
    torch.Tensor
        float32 (token_dim, embed_dim): text-space embedding = mean over tokens @ weight.

    Raises
    ------
    UserError
        If the file is not there.
    """
    path = Path(resolve(ref)) / PROJECTOR_FILE
    if not path.is_file():
        raise UserError(
            f"the projector file {path} does not exist: make it with 'neuroclips train-projector' "
            "or correct projector in [backbones] of neuroclips.toml."
        )
    tensors = read_tensors(path)
    if "weight" not in tensors:
        raise UserError(f"{path} holds no 'weight': make it with 'neuroclips train-projector'")
    return tensors["weight"].float()
