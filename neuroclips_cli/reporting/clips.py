"""Which clips a report shows, and everything that is shown of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ShownClip:
    """One clip of the report.

    Attributes
    ----------
    number : int
        Test clip, counted from 0.
    kind : str
        Why it is shown: ``random``, ``best``, ``median``, ``worst`` or ``all``; of new scans when
        it was shown.
    gt : numpy.ndarray or None
        uint8 (frames, h, w, 3), what was shown to the subject; None where that is not known.
    pred : numpy.ndarray
        uint8 (frames, h, w, 3), the reconstruction, which lasts as long.
    blurry : numpy.ndarray or None
        uint8 (frames, h, w, 3), None where the run did without.
    keyframe : numpy.ndarray or None
        uint8 (h, w, 3), None where the run did without.
    caption : str
        Decoded caption; empty where there is none.
    true_caption : str
        Of the film, where known.
    scores : mapping
        Metric name -> this clip's value.
    """

    number: int
    kind: str
    gt: np.ndarray | None
    pred: np.ndarray
    blurry: np.ndarray | None
    keyframe: np.ndarray | None
    caption: str
    true_caption: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class ShownChain:
    """One fused chain: its clips' numbers and both films, uint8 (frames, h, w, 3)."""

    numbers: Sequence[int]
    gt: np.ndarray
    pred: np.ndarray


def combined_score(per_clip: Mapping[str, np.ndarray]) -> np.ndarray:
    """Rank of each clip in 0..1, averaged over the hardest accuracies and SSIM.

    Parameters
    ----------
    per_clip : mapping
        Metric name -> float (clips,). Used are SSIM and, of frame and video accuracy, the one
        with most ways.

    Returns
    -------
    numpy.ndarray
        float (clips,); higher is better. Ranks make metrics of different scale count alike.
    """
    used = ["ssim"]
    for kind in ("frame", "video"):
        ways = [name for name in per_clip if name.startswith(f"{kind}_") and name.endswith("way")]
        used += sorted(ways, key=lambda name: int(name[6:-3]))[-1:]
    ranks = []
    for name in used:
        # clips of equal value share their mean rank
        _, group, count = np.unique(per_clip[name], return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(count) - (count + 1) / 2)[group] / max(len(group) - 1, 1))
    return np.asarray(np.mean(ranks, axis=0))


def select(
    score: np.ndarray, *, seed: int = 0, drawn: int = 6, each: int = 2
) -> list[tuple[int, str]]:
    """Choose clips by a rule that does not flatter: drawn at random, best, median and worst.

    Parameters
    ----------
    score : numpy.ndarray
        float (clips,), from `combined_score`.
    seed : int
        Of the random draw.
    drawn : int
        How many are drawn at random, whatever their score.
    each : int
        How many best, median and worst ones of those that were not drawn.

    Returns
    -------
    list of tuple
        Row and kind, no row twice: ``random`` in the order of the film, then ``best``, ``median``
        and ``worst``. Where there are no more clips than that, all of them, as ``all``.
    """
    if len(score) <= drawn + 3 * each:
        return [(row, "all") for row in range(len(score))]
    rows = np.sort(np.random.default_rng(seed).choice(len(score), drawn, replace=False))
    order = np.argsort(-score, kind="stable")
    order = order[~np.isin(order, rows)]
    middle = (len(order) - each) // 2
    chosen = {
        "random": rows,
        "best": order[:each],
        "median": order[middle : middle + each],
        "worst": order[-each:],
    }
    return [(int(row), kind) for kind, found in chosen.items() for row in found]
