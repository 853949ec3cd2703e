"""The paper's seven metrics (Table 1) over two sets of clips, in streaming batches.

Clips are read a batch at a time and never held all at once. What is kept per clip is small: the
classifiers' probabilities for the reconstruction, the ground truth's classes, and one number per
pixel metric. The ``shuffled_fmri`` control of the classifier metrics needs no second pass, the
kept probabilities are only paired anew; that of SSIM and PSNR reads the pixels again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from neuroclips_cli.metrics import consistency, nway, pixel
from neuroclips_cli.metrics.controls import derangements
from neuroclips_cli.metrics.resample import ClipSource

# Pairs of clips after which more shuffles of the pixel metrics no longer move the control's mean
# visibly (its standard error is below 0.005 SSIM), while SSIM at 256 x 256 takes 0.1 s per pair.
PIXEL_CONTROL_PAIRS = 2000


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


@dataclass(frozen=True)
class Judges:
    """The frozen networks that judge clips."""

    image: Classifier
    video: Classifier
    clip: ClipEmbedder


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes
    ----------
    ways : tuple of int
        N of the N-way accuracies.
    batch_size : int
        Clips in memory at a time.
    shuffles : int
        Re-pairings of the shuffled control; 0 for none.
    seed : int
        Seed of the re-pairings.
    """

    ways: tuple[int, ...] = (2, 50)
    batch_size: int = 32
    shuffles: int = 10
    seed: int = 0


@dataclass(frozen=True)
class Scores:
    """Per-clip values, every array float64 (clips,).

    Attributes
    ----------
    metrics : dict
        Metric name -> values of the reconstruction.
    shuffled : dict
        The same with ground truth paired with other clips' reconstructions, mean over shuffles;
        empty without shuffles.
    ground_truth, frozen_frame : dict
        ``clip_pcc`` of the ground truth, and of the reconstruction frozen at its first frame.
    """

    metrics: dict[str, np.ndarray]
    shuffled: dict[str, np.ndarray]
    ground_truth: dict[str, np.ndarray]
    frozen_frame: dict[str, np.ndarray]


@dataclass
class _Seen:
    """What one pass over the clips leaves behind."""

    frame_scores: np.ndarray  # float32 (clips, frames, classes), reconstruction
    frame_classes: np.ndarray  # int64 (clips, frames), ground truth
    video_scores: np.ndarray  # float32 (clips, classes)
    video_classes: np.ndarray  # int64 (clips,)
    pcc: np.ndarray
    pcc_truth: np.ndarray
    pcc_frozen: np.ndarray
    ssim: np.ndarray
    psnr: np.ndarray


def pixel_shuffles(clips: int, shuffles: int) -> int:
    """How many of the shuffles the pixel metrics take part in."""
    return min(shuffles, max(1, -(-PIXEL_CONTROL_PAIRS // clips)))


def steps(clips: int, plan: Plan) -> int:
    """Total that `measure` reports through ``advance``."""
    return clips * (1 + pixel_shuffles(clips, plan.shuffles))


def measure(
    pred: ClipSource,
    gt: ClipSource,
    judges: Judges,
    plan: Plan,
    advance: Callable[[int], None] | None = None,
) -> Scores:
    """Compute the metrics of the paper's Table 1 per clip, and their shuffled control.

    Parameters
    ----------
    pred, gt : ClipSource
        Reconstructions and ground truth, row i belongs to row i, both already at the protocol's
        frame rate and size.
    judges : Judges
        The frozen networks.
    plan : Plan
        How to measure.
    advance : callable, optional
        Called with the number of clips done; see `steps` for the total.

    Returns
    -------
    Scores
        Names: ``frame_<N>way``, ``video_<N>way``, ``clip_pcc``, ``ssim``, ``psnr`` (dB).

    Raises
    ------
    ValueError
        If the two sets differ in length.

    Notes
    -----
    One ground-truth class each: top-1 of the image classifier on the ground-truth frame of the
    same time, top-1 of the video classifier on the ground-truth clip. Frame metrics are means
    over the frames of a clip.
    """
    if len(pred) != len(gt):
        raise ValueError(f"{len(pred)} reconstructions, but {len(gt)} ground-truth clips")
    step = advance or (lambda count: None)
    seen = _look(pred, gt, judges, plan.batch_size, step)
    own = np.arange(len(pred))
    metrics = _accuracies(seen, own, plan.ways)
    metrics |= {"clip_pcc": seen.pcc, "ssim": seen.ssim, "psnr": seen.psnr}
    shuffled: dict[str, np.ndarray] = {}
    if plan.shuffles and len(pred) > 1:
        shuffled = _shuffled(pred, gt, seen, plan, step)
    return Scores(
        metrics=metrics,
        shuffled=shuffled,
        ground_truth={"clip_pcc": seen.pcc_truth},
        frozen_frame={"clip_pcc": seen.pcc_frozen},
    )


def metric_names(ways: Sequence[int]) -> list[str]:
    """Names in the order of the paper's Table 1."""
    return [
        *(f"video_{n}way" for n in ways),
        "clip_pcc",
        *(f"frame_{n}way" for n in ways),
        "ssim",
        "psnr",
    ]


def _batches(count: int, size: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


def _look(
    pred: ClipSource,
    gt: ClipSource,
    judges: Judges,
    batch_size: int,
    advance: Callable[[int], None],
) -> _Seen:
    parts: list[dict[str, np.ndarray]] = []
    for rows in _batches(len(pred), batch_size):
        parts.append(_judge(pred.read(rows), gt.read(rows), judges))
        advance(len(rows))
    return _Seen(**{name: np.concatenate([p[name] for p in parts]) for name in parts[0]})


def _judge(made: np.ndarray, true: np.ndarray, judges: Judges) -> dict[str, np.ndarray]:
    """Everything that is kept of one batch; both uint8 (clips, frames, h, w, 3)."""
    count, frames = made.shape[:2]

    def per_frame(function: Callable[[np.ndarray], np.ndarray], clips: np.ndarray) -> np.ndarray:
        return function(clips.reshape(-1, *clips.shape[2:])).reshape(count, frames, -1)

    embeddings = per_frame(judges.clip.image_embeddings, made)
    return {
        "frame_scores": per_frame(judges.image.probabilities, made),
        "frame_classes": per_frame(judges.image.probabilities, true).argmax(axis=-1),
        "video_scores": judges.video.probabilities(made),
        "video_classes": judges.video.probabilities(true).argmax(axis=-1),
        "pcc": consistency.clip_pcc(embeddings),
        "pcc_truth": consistency.clip_pcc(per_frame(judges.clip.image_embeddings, true)),
        "pcc_frozen": consistency.clip_pcc(consistency.frozen(embeddings)),
        "ssim": pixel.ssim(made, true).mean(axis=1),
        "psnr": pixel.psnr(made, true).mean(axis=1),
    }


def _accuracies(seen: _Seen, order: np.ndarray, ways: Sequence[int]) -> dict[str, np.ndarray]:
    """N-way accuracies with ground-truth clip i judged by the reconstruction ``order[i]``."""
    clips, frames, classes = seen.frame_scores.shape
    scores = seen.frame_scores[order].reshape(-1, classes)
    truth = seen.frame_classes.reshape(-1)
    values = {}
    for n in ways:
        values[f"video_{n}way"] = nway.nway_accuracy(
            seen.video_scores[order], seen.video_classes, n
        )
        per_frame = nway.nway_accuracy(scores, truth, n)
        values[f"frame_{n}way"] = per_frame.reshape(clips, frames).mean(axis=1)
    return values


def _shuffled(
    pred: ClipSource, gt: ClipSource, seen: _Seen, plan: Plan, advance: Callable[[int], None]
) -> dict[str, np.ndarray]:
    orders = derangements(len(pred), plan.shuffles, plan.seed)
    accuracies = [_accuracies(seen, order, plan.ways) for order in orders]
    values = {name: np.mean([a[name] for a in accuracies], axis=0) for name in accuracies[0]}
    # CLIP-pcc does not look at the ground truth at all: its control is itself, differently ordered
    values["clip_pcc"] = seen.pcc[orders].mean(axis=0)
    some = orders[: pixel_shuffles(len(pred), plan.shuffles)]
    values["ssim"], values["psnr"] = np.zeros((2, len(pred)))
    for order in some:
        for rows in _batches(len(pred), plan.batch_size):
            made, true = pred.read(order[rows]), gt.read(rows)
            values["ssim"][rows] += pixel.ssim(made, true).mean(axis=1) / len(some)
            values["psnr"][rows] += pixel.psnr(made, true).mean(axis=1) / len(some)
            advance(len(rows))
    return values
