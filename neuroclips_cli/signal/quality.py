"""What is wrong with scans: values that are no measurement, runs that are nobody's twin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.signal.reproducibility import fisher_z, repeat_correlation

HUGE, TINY = 1e20, 1e-20
"""No scanner writes larger or smaller numbers; bytes in the wrong order or a wrong type do."""
FEWEST_CLIPS = 12
"""Below, a correlation over the clips says too little to call a run swapped."""
CLEAR_Z = 0.1
"""Typical repeat correlation (Fisher z) from which a missing one is conspicuous."""
LONELY = 0.2
"""Share of the typical repeat correlation below which two runs are no repetitions."""


@dataclass(frozen=True)
class Findings:
    """Columns of one run that carry no measurement, and where the first bad value lies.

    Attributes
    ----------
    not_finite, constant, saturated : int
        Columns with NaN or infinity, with one value only, and with a flat top or bottom.
    first : tuple of int or None
        Volume and column of the first value that is not finite.
    garbage : float
        Share of the values whose size no scanner writes, 0 to 1.
    scale : float
        Median over the columns of their standard deviation, arbitrary units.
    """

    not_finite: int
    constant: int
    saturated: int
    first: tuple[int, int] | None
    garbage: float
    scale: float

    def in_words(self) -> str:
        """Return the findings as part of a sentence; empty when there are none."""
        parts = []
        if self.first is not None:
            volume, column = self.first
            parts.append(
                f"{self.not_finite} voxels with NaN or infinity (first: volume {volume}, "
                f"voxel {column})"
            )
        if self.constant:
            parts.append(f"{self.constant} constant voxels")
        if self.saturated:
            parts.append(f"{self.saturated} saturated voxels")
        return ", ".join(parts)


def saturated_columns(series: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell which columns stay at their largest or smallest value in 10 % of the volumes or more.

    Parameters
    ----------
    series
        (volumes, voxels); constant columns do not count.

    Returns
    -------
    bool (voxels,)
    """
    low, high = series.min(axis=0), series.max(axis=0)
    least = max(6, series.shape[0] // 10)
    at_top = np.count_nonzero(series == high, axis=0)
    at_bottom = np.count_nonzero(series == low, axis=0)
    return (high > low) & (np.maximum(at_top, at_bottom) >= least)


def inspect(series: NDArray[np.floating]) -> Findings:
    """Look for what is no measurement.

    Parameters
    ----------
    series
        (volumes, voxels), arbitrary units.
    """
    finite = np.isfinite(series)
    good = finite.all(axis=0)
    bad = np.argwhere(~finite) if not good.all() else np.empty((0, 2), np.int64)
    size = np.abs(series)
    with np.errstate(invalid="ignore", over="ignore"):
        strange = (size > HUGE) | ((size > 0) & (size < TINY))
        deviation = series.std(axis=0, dtype=np.float64)
    constant = good & (series.max(axis=0) == series.min(axis=0))
    lively = good & ~constant
    return Findings(
        not_finite=int((~good).sum()),
        constant=int(constant.sum()),
        saturated=int(saturated_columns(series).sum()),
        first=(int(bad[0, 0]), int(bad[0, 1])) if len(bad) else None,
        garbage=float((strange & finite).mean()) if series.size else 0.0,
        scale=float(np.median(deviation[lively])) if lively.any() else 0.0,
    )


def odd_scales(scales: Mapping[str, float], factor: float = 10.0) -> dict[str, float]:
    """Return the runs whose scale is ``factor`` times above or below the median, with the ratio."""
    known = {name: scale for name, scale in scales.items() if scale > 0}
    typical = float(np.median(list(known.values()))) if known else 1.0
    ratios = {name: scale / typical for name, scale in known.items()}
    return {name: r for name, r in ratios.items() if not 1 / factor < r < factor}


def lonely_segments(
    z: NDArray[np.floating], usable: NDArray[np.bool_]
) -> tuple[list[int], NDArray[np.int64]]:
    """Find segments whose repetitions correlate nowhere while those of the others do.

    Each segment is looked at in the voxels that answer best to the other segments (1 %, 20 at
    least), so that chance alone makes no segment look good.

    Parameters
    ----------
    z
        (segments, voxels) Fisher z of the repeat correlation.
    usable
        bool (voxels,).

    Returns
    -------
    segments : list of int
        Rows of ``z``; empty where there are fewer than 3 segments or no clear signal at all.
    best : int64 (voxels,)
        The voxels that answer best to all segments.
    """
    columns = np.flatnonzero(usable)
    count = min(len(columns), max(20, len(columns) // 100))
    scores = np.asarray(z, np.float64)[:, columns]

    def best(rows: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.argsort(-np.median(rows, axis=0), kind="stable")[:count]

    if len(scores) < 3 or not count:
        return [], columns[:0]
    level = np.array(
        [row[best(np.delete(scores, i, axis=0))].mean() for i, row in enumerate(scores)]
    )
    return _lonely(level), columns[best(scores)]


def lonely_repetitions(responses: NDArray[np.floating]) -> list[int]:
    """Find repetitions of a segment that do not go with the mean of the others.

    Parameters
    ----------
    responses
        (clips, repetitions, voxels); a missing repetition is NaN throughout.

    Returns
    -------
    list of int
        Positions along the second axis; empty where there are fewer than 3 repetitions.
    """
    there = [r for r in range(responses.shape[1]) if np.isfinite(responses[:, r]).any()]
    if len(there) < 3 or len(responses) < FEWEST_CLIPS:
        return []
    data = np.nan_to_num(np.asarray(responses[:, there], np.float64))
    total = data.sum(axis=1)
    level = np.array(
        [
            fisher_z(repeat_correlation(data[:, i], total - data[:, i])).mean()
            for i in range(len(there))
        ]
    )
    return [there[i] for i in _lonely(level)]


def matches(runs: Mapping[str, NDArray[np.floating]]) -> dict[str, str]:
    """Return for every run the one that it correlates with best, where it does so clearly.

    Parameters
    ----------
    runs
        Name -> (volumes, voxels); runs of other lengths are not compared.
    """
    found = {}
    for name, series in runs.items():
        scores = {
            other: float(fisher_z(repeat_correlation(series, theirs)).mean())
            for other, theirs in runs.items()
            if other != name and theirs.shape == series.shape
        }
        best = max(scores, key=lambda other: scores[other], default="")
        if best and scores[best] >= CLEAR_Z:
            found[name] = best
    return found


def _lonely(level: NDArray[np.float64]) -> list[int]:
    """Return the positions of levels far below a clear median."""
    typical = float(np.median(level))
    if typical < CLEAR_Z:
        return []
    return [int(i) for i in np.flatnonzero(level < LONELY * typical)]
