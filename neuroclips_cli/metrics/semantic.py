"""Outputs of the evaluation networks for all clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from neuroclips_cli.metrics import consistency, nway
from neuroclips_cli.protocols.rules import ProtocolRules


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
class Evaluators:
    """The frozen networks that evaluate clips; None where one is not at hand."""

    image: Classifier | None
    video: Classifier | None
    clip: ClipEmbedder | None


Estimates = dict[str, tuple[np.ndarray, np.ndarray]]
"""N-way accuracy -> its sampled value per clip and that value's standard error."""


@dataclass
class EvaluatorOutputs:
    """The networks' judgments of both sets of clips, row i of one belongs to row i of the other.

    Axis ``frames`` is as long as the longest pair; what lies beyond the end of a shorter one is
    NaN, or class 0. What a missing network would have said is None.

    Attributes
    ----------
    lengths : numpy.ndarray
        int (clips,), frames of each pair.
    frame_scores, video_scores : numpy.ndarray or None
        float32 (clips, frames, classes) and (clips, classes), of the reconstruction.
    frame_classes, video_classes : numpy.ndarray or None
        int64 (clips, frames, K) and (clips, K), of the ground truth.
    pred, gt : numpy.ndarray or None
        float32 (clips, frames, dim), CLIP embeddings of both.
    """

    lengths: np.ndarray
    frame_scores: np.ndarray | None = None
    frame_classes: np.ndarray | None = None
    video_scores: np.ndarray | None = None
    video_classes: np.ndarray | None = None
    pred: np.ndarray | None = None
    gt: np.ndarray | None = None

    def accuracies(self, order: np.ndarray, ways: Sequence[int]) -> dict[str, np.ndarray]:
        """Compute the N-way accuracies under a pairing.

        Parameters
        ----------
        order : numpy.ndarray
            int64 (clips,): ground-truth clip i is compared with reconstruction ``order[i]``.
        ways : sequence of int
            N of the accuracies.

        Returns
        -------
        dict
            ``video_<N>way`` and ``frame_<N>way`` -> float64 (clips,), 0..1; frames are averaged.
        """
        values = {}
        video, frame = self._videos(order), self._frames(order)
        for n in ways:
            if video is not None:
                values[f"video_{n}way"] = nway.nway_accuracy(*video, n)
            if frame is not None:
                won = nway.nway_accuracy(*frame, n)
                values[f"frame_{n}way"] = self._per_clip(won, order)
        return values

    def sampled(self, ways: Sequence[int], trials: int, seed: int) -> Estimates:
        """Estimate the N-way accuracies of the true pairs by drawing distractors.

        Parameters
        ----------
        ways : sequence of int
            N of the accuracies.
        trials : int
            Draws per row (the paper: 100).
        seed : int
            Seed of the draws.

        Returns
        -------
        dict
            Accuracy -> estimate and its standard error, float64 (clips,) each.
        """
        rng = np.random.default_rng(seed)
        own = np.arange(len(self.lengths))
        video, frame = self._videos(own), self._frames(own)
        values = {}
        for n in ways:
            if video is not None:
                values[f"video_{n}way"] = nway.sampled_accuracy(*video, n, trials, rng)
            if frame is not None:
                won, error = nway.sampled_accuracy(*frame, n, trials, rng)
                mean_error = np.sqrt(self._per_clip(error**2, own) / self.lengths)
                values[f"frame_{n}way"] = self._per_clip(won, own), mean_error
        return values

    def consistency(self, order: np.ndarray, rules: ProtocolRules) -> np.ndarray | None:
        """Compute CLIP-pcc under a pairing, gated by similarity where the protocol asks for it.

        Parameters
        ----------
        order : numpy.ndarray
            int64 (clips,): ground-truth clip i is compared with reconstruction ``order[i]``.
        rules : ProtocolRules
            Frames to compare and the gate.

        Returns
        -------
        numpy.ndarray or None
            float64 (clips,), -1..1, 0 where the gate is not passed; None without CLIP.
        """
        if self.pred is None or self.gt is None:
            return None
        values = self.smoothness(self.pred, rules)[order]
        if rules.similarity_gate > -1:
            whole = consistency.paired_cosine(self._whole(self.pred)[order], self._whole(self.gt))
            values = np.where(np.isnan(values) | (whole > rules.similarity_gate), values, 0.0)
        return values

    def smoothness(self, embeddings: np.ndarray, rules: ProtocolRules) -> np.ndarray:
        """Compute CLIP-pcc of clips that may differ in length.

        Parameters
        ----------
        embeddings : numpy.ndarray
            float32 (clips, frames, dim).
        rules : ProtocolRules
            Frames to compare.

        Returns
        -------
        numpy.ndarray
            float64 (clips,), -1..1; NaN for a clip of one frame.
        """
        values = np.full(len(self.lengths), np.nan)
        for length in np.unique(self.lengths[self.lengths > 1]):
            rows = self.lengths == length
            values[rows] = consistency.clip_pcc(embeddings[rows, :length], rules.pairs)
        return values

    def similarity(self, order: np.ndarray) -> np.ndarray | None:
        """Compute the mean CLIP similarity of simultaneous frames under a pairing.

        Parameters
        ----------
        order : numpy.ndarray
            int64 (clips,): ground-truth clip i is compared with reconstruction ``order[i]``.

        Returns
        -------
        numpy.ndarray or None
            float64 (clips,), -1..1; None without CLIP.
        """
        if self.pred is None or self.gt is None:
            return None
        cosines = consistency.paired_cosine(self.pred[order], self.gt)
        return self._per_clip(cosines[self._shared(order)], order)

    def _whole(self, embeddings: np.ndarray) -> np.ndarray:
        """Mean over the frames of each clip of the unit embeddings, float64 (clips, dim)."""
        frames = self._shared(np.arange(len(self.lengths)))[..., None]
        total: np.ndarray = np.where(frames, consistency.unit(embeddings), 0).sum(axis=1)
        return total / self.lengths[:, None]

    def _shared(self, order: np.ndarray) -> np.ndarray:
        """Frames that ground-truth clip i and reconstruction ``order[i]`` have both."""
        shortest = np.minimum(self.lengths, self.lengths[order])
        frames: np.ndarray = np.arange(self.lengths.max()) < shortest[:, None]
        return frames

    def _videos(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        if self.video_scores is None or self.video_classes is None:
            return None
        return self.video_scores[order], self.video_classes

    def _frames(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        if self.frame_scores is None or self.frame_classes is None:
            return None
        shared = self._shared(order)
        return self.frame_scores[order][shared], self.frame_classes[shared]

    def _per_clip(self, values: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Mean per clip of values that belong to the frames of `_shared`, in order."""
        clips, _ = np.nonzero(self._shared(order))
        counts = np.bincount(clips, minlength=len(order))
        return np.bincount(clips, weights=values, minlength=len(order)) / counts


def run_evaluators(
    pred: np.ndarray, gt: np.ndarray, evaluators: Evaluators, truth_classes: int
) -> dict[str, np.ndarray]:
    """Run the evaluation networks on one batch.

    Parameters
    ----------
    pred, gt : numpy.ndarray
        uint8 (clips, frames, height, width, 3), reconstructions and ground truth.
    evaluators : Evaluators
        The networks; the outputs of missing ones are left out.
    truth_classes : int
        K, the most probable classes that count as ground truth.

    Returns
    -------
    dict
        Attribute of `EvaluatorOutputs` -> its rows for this batch.
    """
    count, frames = pred.shape[:2]

    def per_frame(function: Callable[[np.ndarray], np.ndarray], clips: np.ndarray) -> np.ndarray:
        return function(clips.reshape(-1, *clips.shape[2:])).reshape(count, frames, -1)

    def top(scores: np.ndarray) -> np.ndarray:
        if truth_classes == 1:
            return scores.argmax(axis=-1)[..., None]
        return np.argsort(scores, axis=-1, kind="stable")[..., -truth_classes:]

    said: dict[str, np.ndarray] = {}
    if evaluators.image is not None:
        said["frame_scores"] = per_frame(evaluators.image.probabilities, pred)
        said["frame_classes"] = top(per_frame(evaluators.image.probabilities, gt))
    if evaluators.video is not None:
        said["video_scores"] = evaluators.video.probabilities(pred)
        said["video_classes"] = top(evaluators.video.probabilities(gt))
    if evaluators.clip is not None:
        said["pred"] = per_frame(evaluators.clip.image_embeddings, pred)
        said["gt"] = per_frame(evaluators.clip.image_embeddings, gt)
    return said
