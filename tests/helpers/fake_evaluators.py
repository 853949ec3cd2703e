"""Small deterministic stand-ins for the networks that evaluate clips."""

from __future__ import annotations

import numpy as np
import pytest

from neuroclips_cli.metrics.evaluation import Evaluators
from neuroclips_cli.protocols import evaluators
from neuroclips_cli.protocols.evaluation_config import EVALUATORS
from neuroclips_cli.stages import evaluate

CLASSES = 60


class RandomClassifier:
    """Classifies pixels by random projections: unrelated pixels get unrelated classes.

    A classifier by nearness to prototypes would favor the central ones, and unrelated clips
    would then agree more often than chance says.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Return float32 (N, CLASSES) for uint8 (N, ..., h, w, 3)."""
        flat = pixels.reshape(len(pixels), -1) - 127.5
        weights = np.random.default_rng(self.seed).normal(size=(flat.shape[1], CLASSES))
        weights /= np.linalg.norm(weights, axis=0)
        scores = np.exp(flat @ weights / 100)
        return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


class PatchEmbedder:
    """Embeds a frame by the mean colors of its quarters."""

    def in_space(self, token_space: str) -> PatchEmbedder:
        """Return itself, which looks at frames as they are."""
        return self

    def tokens(self, frames: np.ndarray) -> np.ndarray:
        """Return float32 (N, 4, 3)."""
        half = frames.shape[1] // 2
        quarters = [
            frames[:, top : top + half, left : left + half].mean(axis=(1, 2))
            for top in (0, half)
            for left in (0, half)
        ]
        return (np.stack(quarters, axis=1) - 127.5).astype(np.float32)

    def image_embeddings(self, frames: np.ndarray) -> np.ndarray:
        """Return unit rows, float32 (N, 12)."""
        flat = self.tokens(frames).reshape(len(frames), -1)
        return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def fake_evaluators() -> Evaluators:
    """Return one of each."""
    return Evaluators(image=RandomClassifier(0), video=RandomClassifier(1), clip=PatchEmbedder())


def install(patch: pytest.MonkeyPatch, chosen: Evaluators | None = None) -> None:
    """Let stand-ins evaluator wherever ``evaluate`` would load networks."""
    for module in (evaluators, evaluate):
        patch.setattr(
            module, "find_evaluators", lambda config: evaluators.EvaluatorsAtHand(EVALUATORS, "")
        )
    patch.setattr(evaluate, "load_evaluators", lambda *rest: chosen or fake_evaluators())
    patch.setattr(evaluate, "token_clip", lambda *rest: PatchEmbedder())


def draw_clips(count: int, frames: int, size: int = 16, seed: int = 0) -> np.ndarray:
    """Return uint8 (count, frames, size, size, 3): four colored quarters that drift slowly."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(0, 255, size=(count, 1, 2, 2, 3))
    drift = rng.uniform(-25, 25, size=(count, 1, 2, 2, 3))
    times = np.linspace(0, 1, frames).reshape(1, frames, 1, 1, 1)
    colors = np.clip(base + drift * times, 0, 255)
    clips = colors.repeat(size // 2, axis=2).repeat(size // 2, axis=3)
    texture = rng.normal(0, 12, size=(count, 1, size, size, 3))
    return np.clip(clips + texture, 0, 255).astype(np.uint8)
