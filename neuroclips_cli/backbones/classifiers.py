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


class ImageClassifier(_Classifier):
    """A ViT with a classification head, and its preprocessing."""

    @torch.inference_mode()
    def probabilities(
        self,
        frames: np.ndarray,
        batch_size: int = 64,
        advance: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Classify frames.

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
            float32 (N, classes); rows sum to 1.
        """
        parts = []
        for piece in batches(len(frames), batch_size, advance):
            logits = self.model(pixel_values=self.preprocess(frames[piece], self.device)).logits
            parts.append(logits.float().softmax(-1).cpu())
        return torch.cat(parts).numpy()


class VideoClassifier(_Classifier):
    """A VideoMAE with a classification head, and its preprocessing."""

    @torch.inference_mode()
    def probabilities(
        self,
        clips: np.ndarray,
        batch_size: int = 16,
        advance: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Classify clips from ``num_frames`` frames spread evenly from first to last.

        Parameters
        ----------
        clips : numpy.ndarray
            uint8 (N, frames, H, W, 3).
        batch_size : int
            Clips at a time.
        advance : callable, optional
            Called with the number of clips done.

        Returns
        -------
        numpy.ndarray
            float32 (N, classes); rows sum to 1.
        """
        count = int(self.model.config.num_frames)
        chosen = np.linspace(0, clips.shape[1] - 1, count).round().astype(int)
        parts = []
        for piece in batches(len(clips), batch_size, advance):
            sampled = np.asarray(clips[piece])[:, chosen]
            pixels = self.preprocess(sampled.reshape(-1, *sampled.shape[2:]), self.device)
            logits = self.model(pixel_values=pixels.unflatten(0, (-1, count))).logits
            parts.append(logits.float().softmax(-1).cpu())
        return torch.cat(parts).numpy()


def load_image_classifier(
    ref: str, device: str = "cpu", precision: str = "float32"
) -> ImageClassifier:
    """Load a ``ViTForImageClassification`` with its image processor's preprocessing.

    Raises
    ------
    UserError
        If it cannot be found, or holds another kind of network.
    """
    _require_kind(ViTForImageClassification, ref)
    processor = load_pretrained(AutoImageProcessor, ref)
    model = load_network(ViTForImageClassification, ref, device, precision=precision)
    return ImageClassifier(model, from_image_processor(processor), device)


def load_video_classifier(
    ref: str, device: str = "cpu", precision: str = "float32"
) -> VideoClassifier:
    """Load a ``VideoMAEForVideoClassification`` with its image processor's preprocessing.

    Raises
    ------
    UserError
        If it cannot be found, or holds another kind of network.
    """
    _require_kind(VideoMAEForVideoClassification, ref)
    processor = load_pretrained(AutoImageProcessor, ref)
    model = load_network(VideoMAEForVideoClassification, ref, device, precision=precision)
    return VideoClassifier(model, from_image_processor(processor), device)


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
