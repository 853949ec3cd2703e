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
        Why it is shown: ``best``, ``median``, ``worst`` or ``evenly spaced``.
    truth, made : numpy.ndarray
        uint8 (frames, h, w, 3): what was shown to the subject, and the reconstruction; both
        last as long.
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
    truth: np.ndarray
    made: np.ndarray
    blurry: np.ndarray | None
    keyframe: np.ndarray | None
    caption: str
    true_caption: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class ShownChain:
    """One fused chain: its clips' numbers and both films, uint8 (frames, h, w, 3)."""

    numbers: Sequence[int]
    truth: np.ndarray
    made: np.ndarray


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


def select(score: np.ndarray, each: int = 3, spaced: int = 7) -> list[tuple[int, str]]:
    """Choose rows that show a run honestly: its best, its middle, its worst, and plain others.

    Parameters
    ----------
    score : numpy.ndarray
        float (clips,), from `combined_score`.
    each : int
        How many best, median and worst rows.
    spaced : int
        How many more, evenly spaced through the rest regardless of score.

    Returns
    -------
    list of tuple
        Row and kind; no row twice. With few clips all of them, as ``evenly spaced``.
    """
    order = np.argsort(-score, kind="stable")
    if len(order) <= 3 * each + spaced:
        return [(row, "evenly spaced") for row in range(len(order))]
    middle = (len(order) - each) // 2
    chosen = [(int(row), "best") for row in order[:each]]
    chosen += [(int(row), "median") for row in order[middle : middle + each]]
    chosen += [(int(row), "worst") for row in order[-each:]]
    rest = np.setdiff1d(np.arange(len(order)), [row for row, _ in chosen])
    places = np.linspace(0, len(rest) - 1, spaced).round().astype(int)
    return chosen + [(int(rest[place]), "evenly spaced") for place in places]
