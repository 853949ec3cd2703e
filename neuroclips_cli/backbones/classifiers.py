"""Classifiers that evaluate reconstructions: frames by a ViT, clips by VideoMAE (paper 4.3)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoImageProcessor,
    VideoMAEForVideoClassification,
    ViTForImageClassification,
)

from neuroclips_cli.backbones.loading import load_network, load_pretrained
from neuroclips_cli.backbones.local_files import folder_of
from neuroclips_cli.backbones.pixels import Preprocess, from_image_processor
from neuroclips_cli.backbones.references import locate
from neuroclips_cli.errors import UserError
from neuroclips_cli.runtime.batches import batches


@dataclass(frozen=True)
class _Classifier:
    model: Any
    preprocess: Preprocess
    device: str

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.model.config.num_labels)

    @torch.inference_mode()
    def probabilities(
        self, items: np.ndarray, batch_size: int = 64, advance: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Classify frames, or clips.

        Parameters
        ----------
        items : numpy.ndarray
            uint8 frames (N, H, W, 3), or clips (N, frames, H, W, 3).
        batch_size : int
            Items at a time.
        advance : callable, optional
            Called with the number of items done.

        Returns
        -------
        numpy.ndarray
            float32 (N, classes); rows sum to 1.
        """
        parts = []
        for piece in batches(len(items), batch_size, advance):
            logits = self.model(pixel_values=self._pixels(items[piece])).logits
            parts.append(logits.float().softmax(-1).cpu())
        return torch.cat(parts).numpy()

    def _pixels(self, items: np.ndarray) -> torch.Tensor:
        return self.preprocess(items, self.device)


class ImageClassifier(_Classifier):
    """A ViT with a classification head, and its preprocessing."""


class VideoClassifier(_Classifier):
    """A VideoMAE with a classification head, and its preprocessing.

    It sees ``num_frames`` frames of a clip, spread evenly from first to last.
    """

    @torch.inference_mode()
    def probabilities(
        self, items: np.ndarray, batch_size: int = 16, advance: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Classify clips, fewer at a time than frames."""
        return super().probabilities(items, batch_size, advance)

    def _pixels(self, items: np.ndarray) -> torch.Tensor:
        count = int(self.model.config.num_frames)
        chosen = np.linspace(0, items.shape[1] - 1, count).round().astype(int)
        sampled = np.asarray(items)[:, chosen]
        pixels = self.preprocess(sampled.reshape(-1, *sampled.shape[2:]), self.device)
        return pixels.unflatten(0, (-1, count))


def load_image_classifier(
    ref: str, device: str = "cpu", precision: str = "float32"
) -> ImageClassifier:
    """Load a ``ViTForImageClassification``; see :func:`loading.load_network`.

    Raises
    ------
    UserError
        If it cannot be found, or holds another kind of network.
    """
    return ImageClassifier(*_load(ViTForImageClassification, ref, device, precision), device)


def load_video_classifier(
    ref: str, device: str = "cpu", precision: str = "float32"
) -> VideoClassifier:
    """Load a ``VideoMAEForVideoClassification``; see :func:`load_image_classifier`."""
    return VideoClassifier(*_load(VideoMAEForVideoClassification, ref, device, precision), device)


def _load(kind: Any, ref: str, device: str, precision: str) -> tuple[Any, Preprocess]:
    """Load a network and its image processor's preprocessing."""
    _require_kind(kind, ref)
    processor = load_pretrained(AutoImageProcessor, ref)
    network = load_network(kind, ref, device, precision=precision)
    return network, from_image_processor(processor)


def _require_kind(kind: type, ref: str) -> None:
    """Refuse a folder of another network, whose weights would not be used without a word."""
    folder = folder_of(*locate(ref))
    path = (folder or Path()) / "config.json"
    if folder is None or not path.is_file():
        return
    try:
        named = list(json.loads(path.read_text("utf-8"))["architectures"])
    except (ValueError, KeyError, TypeError) as problem:
        raise UserError(
            f"{path} names no network (`architectures`): fetch the folder again, or name another "
            "one"
        ) from problem
    if kind.__name__ not in named:
        raise UserError(
            f"'{ref}' holds a network of another kind ({', '.join(map(str, named))}), and this "
            f"evaluator needs a {kind.__name__}: name another folder or hub id"
        )
