"""What one pass over the clips leaves behind of the networks' judgements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from neuroclips_cli.metrics import consistency, nway
from neuroclips_cli.metrics.rules import Rules


class Classifier(Protocol):
    """Gives class probabilities of frames (N, h, w, 3) or of clips (N, frames, h, w, 3)."""

    def probabilities(self, pixels: np.ndarray, /) -> np.ndarray:
        """Return float32 (N, classes)."""
        ...


class ClipEmbedder(Protocol):
    """CLIP's image tower, with and without pooling."""

    def image_embeddings(self, frames: np.ndarray, /) -> np.ndarray:
        """Return float32 (N, dim) for uint8 (N, h, w, 3)."""
        ...

    def tokens(self, frames: np.ndarray, /) -> np.ndarray:
        """Return float32 (N, tokens, dim) for uint8 (N, h, w, 3)."""
        ...

    def in_space(self, token_space: str, /) -> ClipEmbedder:
        """Return it with tokens in a space of ``backbones.token_space``."""
        ...


@dataclass(frozen=True)
class Judges:
    """The frozen networks that judge clips."""

    image: Classifier
    video: Classifier
    clip: ClipEmbedder


Estimates = dict[str, tuple[np.ndarray, np.ndarray]]
"""N-way accuracy -> its sampled value per clip and that value's standard error."""


@dataclass
class Judged:
    """The networks' judgements of both sets of clips, row i of one belongs to row i of the other.

    Attributes
    ----------
    frame_scores, video_scores : numpy.ndarray
        float32 (clips, frames, classes) and (clips, classes), of the reconstruction.
    frame_classes, video_classes : numpy.ndarray
        int64 (clips, frames, K) and (clips, K), of the ground truth.
    made, true : numpy.ndarray
        float32 (clips, frames, dim), CLIP embeddings of both.
    """

    frame_scores: np.ndarray
    frame_classes: np.ndarray
    video_scores: np.ndarray
    video_classes: np.ndarray
    made: np.ndarray
    true: np.ndarray

    def accuracies(self, order: np.ndarray, ways: Sequence[int]) -> dict[str, np.ndarray]:
        """N-way accuracies with ground-truth clip i judged by the reconstruction ``order[i]``."""
        values = {}
        for n in ways:
            video, frame = self._pairs(order)
            values[f"video_{n}way"] = nway.nway_accuracy(*video, n)
            values[f"frame_{n}way"] = self._per_clip(nway.nway_accuracy(*frame, n))
        return values

    def sampled(self, ways: Sequence[int], trials: int, seed: int) -> Estimates:
        """Return the same of the true pairs, estimated from ``trials`` draws each."""
        rng = np.random.default_rng(seed)
        video, frame = self._pairs(np.arange(len(self.made)))
        values = {}
        for n in ways:
            values[f"video_{n}way"] = nway.sampled_accuracy(*video, n, trials, rng)
            won, error = nway.sampled_accuracy(*frame, n, trials, rng)
            frames = self.frame_scores.shape[1]
            mean_error = np.sqrt(self._per_clip(error**2) / frames)
            values[f"frame_{n}way"] = self._per_clip(won), mean_error
        return values

    def consistency(self, order: np.ndarray, rules: Rules) -> np.ndarray:
        """CLIP-pcc of reconstruction ``order[i]``, gated by ground-truth clip i where asked."""
        values = consistency.clip_pcc(self.made, rules.pairs)[order]
        if rules.gate > -1:
            values = np.where(self._whole_similarity(order) > rules.gate, values, 0.0)
        return values

    def similarity(self, order: np.ndarray) -> np.ndarray:
        """CLIP similarity of every frame with the ground truth's of the same time, mean."""
        return consistency.paired_cosine(self.made[order], self.true).mean(axis=1)

    def _whole_similarity(self, order: np.ndarray) -> np.ndarray:
        whole = [consistency.unit(side).mean(axis=1) for side in (self.made[order], self.true)]
        return consistency.paired_cosine(*whole)

    def _pairs(
        self, order: np.ndarray
    ) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        classes, known = self.frame_scores.shape[-1], self.frame_classes.shape[-1]
        frames = (
            self.frame_scores[order].reshape(-1, classes),
            self.frame_classes.reshape(-1, known),
        )
        return (self.video_scores[order], self.video_classes), frames

    def _per_clip(self, values: np.ndarray) -> np.ndarray:
        mean: np.ndarray = values.reshape(self.frame_scores.shape[:2]).mean(axis=1)
        return mean


def judge(
    made: np.ndarray, true: np.ndarray, judges: Judges, truth_classes: int
) -> dict[str, np.ndarray]:
    """Return what `Judged` keeps of one batch; both uint8 (clips, frames, h, w, 3)."""
    count, frames = made.shape[:2]

    def per_frame(function: Callable[[np.ndarray], np.ndarray], clips: np.ndarray) -> np.ndarray:
        return function(clips.reshape(-1, *clips.shape[2:])).reshape(count, frames, -1)

    def top(scores: np.ndarray) -> np.ndarray:
        if truth_classes == 1:
            return scores.argmax(axis=-1)[..., None]
        return np.argsort(scores, axis=-1, kind="stable")[..., -truth_classes:]

    return {
        "frame_scores": per_frame(judges.image.probabilities, made),
        "frame_classes": top(per_frame(judges.image.probabilities, true)),
        "video_scores": judges.video.probabilities(made),
        "video_classes": top(judges.video.probabilities(true)),
        "made": per_frame(judges.clip.image_embeddings, made),
        "true": per_frame(judges.clip.image_embeddings, true),
    }
