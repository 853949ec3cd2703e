"""The time that the two clips of a pair have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from neuroclips_cli.data.resample import ClipShape, ClipSource, CutClips


class ShapedClips(ClipSource, Protocol):
    """Clips that know what they were before they were brought to the protocol's rate and size."""

    @property
    def shapes(self) -> list[ClipShape]:
        """Return every clip's own shape."""
        ...


@dataclass(frozen=True)
class UnequalPair:
    """A pair that was compared over its common time only.

    Attributes
    ----------
    clip : str
        Its name.
    pred_s, gt_s, compared_s : float
        Durations in seconds, as far as there are frames to compare.
    """

    clip: str
    pred_s: float
    gt_s: float
    compared_s: float


@dataclass(frozen=True)
class Pairs:
    """Two sets of clips, cut pair by pair to the time that both clips have.

    Attributes
    ----------
    names : list of str
        What the pairs are called.
    pred, gt : ClipSource
        Row i of one belongs to row i of the other, and has as many frames.
    unequal : list of UnequalPair
        Pairs of which a clip lost frames.
    """

    names: list[str]
    pred: ClipSource
    gt: ClipSource
    unequal: list[UnequalPair]


class NothingInCommon(ValueError):
    """The clips of a pair are shown at different times."""


def pair_up(pred: ShapedClips, gt: ShapedClips, names: Sequence[str], fps: float) -> Pairs:
    """Cut both clips of every pair to their common time.

    Parameters
    ----------
    pred, gt : ShapedClips
        Both sets at the same frame rate.
    names : sequence of str
        What the pairs are called.
    fps : float
        That frame rate in Hz.

    Returns
    -------
    Pairs

    Raises
    ------
    NothingInCommon
        If the clips of a pair have no frame at the same time.
    """
    starts = [_first_frames(side.shapes, fps) for side in (pred, gt)]
    stops = [start + side.lengths for start, side in zip(starts, (pred, gt), strict=True)]
    start, stop = np.maximum(*starts), np.minimum(*stops)
    apart = np.flatnonzero(start >= stop)
    if len(apart):
        pair = int(apart[0])
        first, second = (
            f"{begin[pair] / fps:.3g} to {end[pair] / fps:.3g} s"
            for begin, end in zip(starts, stops, strict=True)
        )
        raise NothingInCommon(f"pair {names[pair]}: {first} and {second}")
    lengths = stop - start
    unequal = [
        UnequalPair(
            names[int(pair)],
            pred_s=float(pred.lengths[pair] / fps),
            gt_s=float(gt.lengths[pair] / fps),
            compared_s=float(lengths[pair] / fps),
        )
        for pair in np.flatnonzero((starts[0] != starts[1]) | (stops[0] != stops[1]))
    ]
    return Pairs(
        list(names),
        CutClips(pred, start - starts[0], lengths),
        CutClips(gt, start - starts[1], lengths),
        unequal,
    )


def _first_frames(shapes: Sequence[ClipShape], fps: float) -> np.ndarray:
    """Return the place on the common time grid at which each clip begins, int (clips,)."""
    return np.array([int(np.floor(shape.start_s * fps + 0.5)) for shape in shapes])
