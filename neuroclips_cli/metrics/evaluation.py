"""The paper's seven metrics (Table 1) and more over two sets of clips, in streaming batches.

Clips are read a batch at a time and never held all at once. What is kept per clip is small: the
classifiers' probabilities for the reconstruction, the ground truth's classes, the CLIP embeddings
of its frames, and one number per pixel metric. The shuffled control of what the networks say needs
no second pass, the kept values are only paired anew; that of the pixel metrics reads the pixels
again. Metrics of a network that is not at hand are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from neuroclips_cli.data.resample import ClipSource
from neuroclips_cli.metrics import consistency, pixel
from neuroclips_cli.metrics.controls import derangements, scene_derangement
from neuroclips_cli.metrics.extra import EXTRA_METRICS, PairMetric
from neuroclips_cli.metrics.semantic import Estimates, EvaluatorOutputs, Evaluators, run_evaluators
from neuroclips_cli.protocols.rules import ProtocolRules

__all__ = [
    "Evaluators",
    "MeasureOptions",
    "Scores",
    "extra_metric_names",
    "measure",
    "metric_names",
    "steps",
]

# Pairs of clips after which more shuffles of the pixel metrics no longer move the control's mean
# visibly (its standard error is below 0.005 SSIM), while SSIM at 256 x 256 takes 0.1 s per pair.
PIXEL_CONTROL_PAIRS = 2000


@dataclass(frozen=True)
class MeasureOptions:
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
        Seed of the re-pairings and the draws.
    monte_carlo : int
        Draws per N-way accuracy for the sampled estimate beside the exact value; 0 for none.
    rules : ProtocolRules
        What the protocol decides.
    extra_metrics : mapping
        Further metrics of pairs of clips by name, such as end-point error.
    scenes : tuple of str, optional
        Label of each clip, for the control that exchanges whole scenes.
    """

    ways: tuple[int, ...] = (2, 50)
    batch_size: int = 32
    shuffles: int = 10
    seed: int = 0
    monte_carlo: int = 0
    rules: ProtocolRules = field(default_factory=ProtocolRules)
    extra_metrics: Mapping[str, PairMetric] = field(default_factory=dict)
    scenes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Scores:
    """Per-clip values, every array float64 (clips,).

    Attributes
    ----------
    metrics : dict
        Metric name -> values of the reconstruction; NaN where a metric does not cover a clip.
    shuffled : dict
        The same with ground truth paired with other clips' reconstructions, mean over shuffles;
        empty without shuffles.
    shuffled_scenes : dict
        The same with whole stretches exchanged, one re-pairing for the pixel metrics; empty
        where no scenes are known.
    ground_truth, frozen_frame : dict
        ``clip_pcc`` of the ground truth, and of the reconstruction frozen at its first frame;
        empty without CLIP.
    brightness : numpy.ndarray
        Mean pixel value of the ground truth, 0..255: tells films apart that are called alike.
    monte_carlo : dict
        Accuracy -> its sampled estimate per clip and that estimate's standard error; empty
        unless asked for.
    """

    metrics: dict[str, np.ndarray]
    shuffled: dict[str, np.ndarray]
    shuffled_scenes: dict[str, np.ndarray]
    ground_truth: dict[str, np.ndarray]
    frozen_frame: dict[str, np.ndarray]
    brightness: np.ndarray
    monte_carlo: Estimates = field(default_factory=dict)


def pixel_shuffles(clips: int, shuffles: int) -> int:
    """Return how many of the shuffles the pixel metrics take part in.

    Parameters
    ----------
    clips : int
        Number of clips, at least 1.
    shuffles : int
        Re-pairings of the control.

    Returns
    -------
    int
        Enough for `PIXEL_CONTROL_PAIRS` pairs of clips, at most ``shuffles``.

    Examples
    --------
    >>> pixel_shuffles(1200, 10), pixel_shuffles(100, 10)
    (2, 10)
    """
    return min(shuffles, max(1, -(-PIXEL_CONTROL_PAIRS // clips)))


def steps(clips: int, options: MeasureOptions) -> int:
    """Return the total that `measure` reports through ``advance``.

    Parameters
    ----------
    clips : int
        Number of pairs of clips.
    options : Plan
        How to measure.

    Returns
    -------
    int
        Clips of the main pass and of every pass of the shuffled pixel control.

    Examples
    --------
    >>> steps(5, MeasureOptions(shuffles=2)), steps(5, MeasureOptions(shuffles=0))
    (15, 5)
    """
    by_scene = int(options.shuffles > 0 and clips > 1 and scene_orders(options) is not None)
    return clips * (1 + pixel_shuffles(clips, options.shuffles) + by_scene)


def scene_orders(options: MeasureOptions) -> np.ndarray | None:
    """Draw the re-pairings of the control that exchanges whole scenes.

    Parameters
    ----------
    options : Plan
        Its scenes, shuffles and seed are used.

    Returns
    -------
    numpy.ndarray or None
        int64 (shuffles, clips); None where no scenes are known, or one holds more than half of the
        clips.

    See Also
    --------
    neuroclips_cli.metrics.controls.scene_derangement : One re-pairing.
    """
    if options.scenes is None:
        return None
    rng = np.random.default_rng([options.seed, 1])
    drawn = [scene_derangement(np.asarray(options.scenes), rng) for _ in range(options.shuffles)]
    orders = [order for order in drawn if order is not None]
    return np.stack(orders) if orders else None


def measure(
    pred: ClipSource,
    gt: ClipSource,
    evaluators: Evaluators,
    options: MeasureOptions,
    advance: Callable[[int], None] | None = None,
) -> Scores:
    """Compute the metrics of the paper's Table 1 and more per clip, and their shuffled control.

    Parameters
    ----------
    pred, gt : ClipSource
        Reconstructions and ground truth, row i belongs to row i and has as many frames, both
        already at the protocol's frame rate and size. Pairs may differ in length.
    evaluators : Evaluators
        The frozen networks.
    options : Plan
        How to measure.
    advance : callable, optional
        Called with the number of clips done; see `steps` for the total.

    Returns
    -------
    Scores
        Names: those of `metric_names` and `extra_metric_names` that can be measured; PSNR in dB.

    Raises
    ------
    ValueError
        If the two sets differ in length.

    See Also
    --------
    steps : The total of ``advance``.
    neuroclips_cli.metrics.statistics.summarize : Mean and interval over clips.

    Notes
    -----
    Ground-truth classes: the most probable ones of the image classifier on the ground-truth frame
    of the same time, and of the video classifier on the ground-truth clip; the rules say how many.
    Frame metrics are means over the frames of a clip. Where clips of different length are paired
    anew, the shuffled control compares as many frames as both have.

    Order of operations:

    1. the evaluation networks and the pixel metrics, batch by batch;
    2. accuracies and CLIP metrics of the pairs from the networks' outputs;
    3. the shuffled control: the outputs paired anew, the pixel metrics computed again;
    4. the same with whole scenes exchanged;
    5. CLIP-pcc of the ground truth and of the frozen first frame, for reference.
    """
    if len(pred) != len(gt):
        raise ValueError(f"{len(pred)} reconstructions, but {len(gt)} ground-truth clips")
    if not np.array_equal(pred.lengths, gt.lengths):
        raise ValueError("a reconstruction and its ground truth differ in their number of frames")
    step = advance or (lambda count: None)
    pairwise = {**pair_metrics(options.rules), **options.extra_metrics}
    seen, pixels = _look(pred, gt, evaluators, options, pairwise, step)
    own = np.arange(len(pred))
    brightness = pixels.pop("brightness")
    metrics = {**_of_outputs(seen, own, options), **pixels}
    names = [
        n
        for n in (*metric_names(options.ways), *extra_metric_names(options.extra_metrics))
        if _has_value(metrics, n)
    ]
    shuffled: dict[str, np.ndarray] = {}
    by_scene: dict[str, np.ndarray] = {}
    if options.shuffles and len(pred) > 1:
        orders = derangements(len(pred), options.shuffles, options.seed)
        some = pixel_shuffles(len(pred), options.shuffles)
        shuffled = _shuffled(pred, gt, seen, options, pairwise, step, orders, some)
        moved = scene_orders(options)
        if moved is not None:
            by_scene = _shuffled(pred, gt, seen, options, pairwise, step, moved, 1)
    truth, frozen = {}, {}
    if "clip_pcc" in names and seen.pred is not None and seen.gt is not None:
        still = consistency.frozen(seen.pred)
        truth["clip_pcc"] = seen.smoothness(seen.gt, options.rules)
        frozen["clip_pcc"] = seen.smoothness(still, options.rules)
    trials = options.monte_carlo
    return Scores(
        metrics={name: metrics[name] for name in names},
        shuffled={name: shuffled[name] for name in names if name in shuffled},
        shuffled_scenes={name: by_scene[name] for name in names if name in by_scene},
        ground_truth=truth,
        frozen_frame=frozen,
        brightness=brightness,
        monte_carlo=seen.sampled(options.ways, trials, options.seed) if trials else {},
    )


def metric_names(ways: Sequence[int]) -> list[str]:
    """Return the names of the metrics in the order of the paper's Table 1.

    Parameters
    ----------
    ways : sequence of int
        N of the N-way accuracies.

    Returns
    -------
    list of str

    Examples
    --------
    >>> metric_names([2, 50])
    ['video_2way', 'video_50way', 'clip_pcc', 'frame_2way', 'frame_50way', 'ssim', 'psnr']
    """
    return [
        *(f"video_{n}way" for n in ways),
        "clip_pcc",
        *(f"frame_{n}way" for n in ways),
        "ssim",
        "psnr",
    ]


def extra_metric_names(extra_metrics: Mapping[str, PairMetric] | Sequence[str] = ()) -> list[str]:
    """Return the names of the metrics beyond Table 1.

    Parameters
    ----------
    extra_metrics : mapping or sequence of str
        Names of the metrics asked for in addition, such as ``epe``.

    Returns
    -------
    list of str

    Examples
    --------
    >>> extra_metric_names(["epe"])
    ['clip_similarity', 'pixel_pearson', 'hue_similarity', 'epe']
    """
    return ["clip_similarity", "pixel_pearson", "hue_similarity", *extra_metrics]


def _has_value(metrics: Mapping[str, np.ndarray], name: str) -> bool:
    return name in metrics and not np.isnan(metrics[name]).all()


def _batches(lengths: np.ndarray, size: int) -> list[np.ndarray]:
    """Return clips of the same number of frames, at most ``size`` at a time."""
    same = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
    return [rows[start : start + size] for rows in same for start in range(0, len(rows), size)]


def _look(
    pred: ClipSource,
    gt: ClipSource,
    evaluators: Evaluators,
    options: MeasureOptions,
    pairwise: Mapping[str, PairMetric],
    advance: Callable[[int], None],
) -> tuple[EvaluatorOutputs, dict[str, np.ndarray]]:
    """Return what the networks say of all clips, and the pixel metrics of every pair."""
    lengths = pred.lengths
    evaluated: dict[str, np.ndarray] = {}
    pixels: dict[str, np.ndarray] = {}
    for rows in _batches(lengths, options.batch_size):
        frames = int(lengths[rows[0]])
        pred_clips, gt_clips = pred.read(rows, frames), gt.read(rows, frames)
        said = run_evaluators(pred_clips, gt_clips, evaluators, options.rules.truth_classes)
        for name, values in said.items():
            per_frame = name not in ("video_scores", "video_classes")
            _put(evaluated, name, rows, values, lengths, per_frame=per_frame)
        measured = {name: metric(pred_clips, gt_clips) for name, metric in pairwise.items()}
        measured["brightness"] = gt_clips.mean(axis=(1, 2, 3, 4))
        for name, values in measured.items():
            _put(pixels, name, rows, values, lengths, per_frame=False)
        advance(len(rows))
    return EvaluatorOutputs(lengths, **evaluated), pixels


def _put(
    arrays: dict[str, np.ndarray],
    name: str,
    rows: np.ndarray,
    values: np.ndarray,
    lengths: np.ndarray,
    *,
    per_frame: bool,
) -> None:
    """Write a batch's values into the array of all clips; the frames beyond an end stay empty."""
    frames = (int(lengths.max()),) if per_frame else ()
    shape = (len(lengths), *frames, *values.shape[1 + per_frame :])
    if name not in arrays:
        empty = np.nan if values.dtype.kind == "f" else 0
        arrays[name] = np.full(shape, empty, values.dtype)
    if per_frame:
        arrays[name][rows, : values.shape[1]] = values
    else:
        arrays[name][rows] = values


def _shuffled(
    pred: ClipSource,
    gt: ClipSource,
    seen: EvaluatorOutputs,
    options: MeasureOptions,
    pairwise: Mapping[str, PairMetric],
    advance: Callable[[int], None],
    orders: np.ndarray,
    pixel_orders: int,
) -> dict[str, np.ndarray]:
    evaluated = [_of_outputs(seen, order, options) for order in orders]
    values = {name: _mean([each[name] for each in evaluated]) for name in evaluated[0]}
    some = orders[:pixel_orders]
    values |= {name: np.zeros(len(pred)) for name in pairwise}
    for number, order in enumerate(some):
        due = {n: metric for n, metric in pairwise.items() if number == 0 or n not in SLOW}
        shortest = np.minimum(gt.lengths, pred.lengths[order])
        for rows in _batches(shortest, options.batch_size):
            frames = int(shortest[rows[0]])
            pred_clips = pred.read(order[rows], frames)
            gt_clips = gt.read(rows, frames)
            for name, metric in due.items():
                share = 1 if name in SLOW else len(some)
                values[name][rows] += metric(pred_clips, gt_clips) / share
            advance(len(rows))
    return values


def _mean(shuffles: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the shuffles, float64 (clips,), around those without a value."""
    values = np.stack(shuffles)
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = total / known.sum(axis=0)
    return mean


def _of_outputs(
    seen: EvaluatorOutputs, order: np.ndarray, options: MeasureOptions
) -> dict[str, np.ndarray]:
    # without a gate CLIP-pcc does not look at the ground truth at all: its control is itself,
    # differently ordered
    by_clip = {
        "clip_pcc": seen.consistency(order, options.rules),
        "clip_similarity": seen.similarity(order),
    }
    known = {name: values for name, values in by_clip.items() if values is not None}
    return {**seen.accuracies(order, options.ways), **known}


SLOW = tuple(name for name, metric in EXTRA_METRICS.items() if metric.slow)
"""These take part in one shuffle of the control only."""


def pair_metrics(rules: ProtocolRules) -> dict[str, PairMetric]:
    """Return the pixel metrics that are always computed.

    Parameters
    ----------
    rules : ProtocolRules
        The protocol; it chooses the variant of SSIM.

    Returns
    -------
    dict
        Name -> function of two uint8 arrays (clips, frames, height, width, 3) that returns float64
        (clips,), the mean over the frames of each clip; PSNR in dB.

    Examples
    --------
    >>> metrics = pair_metrics(ProtocolRules())
    >>> black = np.zeros((1, 2, 8, 8, 3), dtype=np.uint8)
    >>> metrics["psnr"](black, black).tolist(), metrics["ssim"](black, black).tolist()
    ([100.0], [1.0])
    """
    return {
        "ssim": lambda pred, gt: pixel.ssim_variant(pred, gt, rules.ssim).mean(axis=1),
        "psnr": lambda pred, gt: pixel.psnr(pred, gt).mean(axis=1),
        "pixel_pearson": lambda pred, gt: pixel.pearson(pred, gt).mean(axis=1),
        "hue_similarity": lambda pred, gt: pixel.hue_similarity(pred, gt).mean(axis=1),
    }
