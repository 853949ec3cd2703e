"""Detect invalid values and runs that do not correlate with their repetition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.runtime.batches import batches
from neuroclips_cli.signal.reproducibility import fisher_z, interrun_correlation

HUGE, TINY = 1e20, 1e-20
"""No scanner writes larger or smaller numbers; bytes in the wrong order or a wrong type do."""
BLOCK = 2048
"""Voxels at a time."""
SAMPLED = 4096
"""About as many columns of a large run tell its scale, which matters to factors of 10."""
FEWEST_CLIPS = 12
"""Below, a correlation over the clips says too little to call a run swapped."""
CLEAR_Z = 0.1
"""Typical repeat correlation (Fisher z) from which a missing one is conspicuous."""
MIN_RELATIVE_CORRELATION = 0.2
"""Share of the typical repeat correlation below which two runs are not repetitions."""


@dataclass(frozen=True)
class RunQuality:
    """Columns of one run that carry no measurement.

    Attributes
    ----------
    finite, constant, saturated : bool (voxels,)
        Columns without NaN and infinity, with one value only, and with a flat top or bottom.
    first_bad : int64 (voxels,)
        Volume of a column's first value that is not finite; -1 where all are.
    garbage : float
        Share of the values whose size no scanner writes, 0 to 1.
    scale : float
        Median over the columns, in large runs over a sample, of their standard deviation,
        arbitrary units.
    """

    finite: NDArray[np.bool_]
    constant: NDArray[np.bool_]
    saturated: NDArray[np.bool_]
    first_bad: NDArray[np.int64]
    garbage: float
    scale: float

    @property
    def lifeless(self) -> NDArray[np.bool_]:
        """Return which columns hold one value only, or values that are not finite."""
        return ~self.finite | self.constant

    def in_words(self, known: NDArray[np.bool_] | None = None) -> str:
        """Return the findings as part of a sentence; empty when there are none.

        Parameters
        ----------
        known : numpy.ndarray, optional
            bool (voxels,): columns that are reported elsewhere.

        Returns
        -------
        str
        """
        told = np.ones(len(self.finite), bool) if known is None else ~known
        parts = []
        bad = np.flatnonzero(~self.finite & told)
        if len(bad):
            volume, column = min(zip(self.first_bad[bad].tolist(), bad.tolist(), strict=True))
            parts.append(
                f"{len(bad)} voxels with NaN or infinity (first: volume {volume}, voxel {column})"
            )
        if constant := int((self.constant & told).sum()):
            parts.append(f"{constant} constant voxels")
        if saturated := int((self.saturated & told).sum()):
            parts.append(f"{saturated} saturated voxels")
        return ", ".join(parts)


def saturated_columns(series: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell which columns stay at their largest or smallest value in 10 % of the volumes or more.

    Parameters
    ----------
    series : numpy.ndarray
        float (volumes, voxels), arbitrary units; constant columns do not count.

    Returns
    -------
    numpy.ndarray
        bool (voxels,). At least 6 volumes must be at the limit.

    Examples
    --------
    >>> ramp = np.arange(20.0)
    >>> saturated_columns(np.stack([ramp, np.minimum(ramp, 10)], axis=1)).tolist()
    [False, True]
    """
    rows = np.ascontiguousarray(series.T)
    return _saturated(rows, *_extremes(rows))


def _saturated(
    rows: NDArray[np.floating], low: NDArray[np.floating], high: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Do the work of :func:`saturated_columns` on (voxels, volumes) whose extremes are known."""
    varying = high > low
    if not varying.all():
        varying[varying] = _saturated(rows[varying], low[varying], high[varying])
        return varying
    least = max(6, rows.shape[1] // 10)
    often = np.zeros(len(rows), bool)
    for edge in (low, high):
        at_edge = rows == edge[:, None]
        # Every row is there once. Counting by row pays only where all together are more often.
        if np.count_nonzero(at_edge) - len(rows) >= least - 1:
            often |= _count(at_edge) >= least
    return often


def _extremes(rows: NDArray[np.floating]) -> list[NDArray[np.floating]]:
    """Return every row's smallest and largest value; numpy's ``min`` takes twice as long."""
    values, starts = rows.reshape(-1), np.arange(0, rows.size, rows.shape[1])
    return [edge.reduceat(values, starts) for edge in (np.minimum, np.maximum)]


def _count(true: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count per row; in bytes, as many at a time as cannot overflow."""
    ones = true.view(np.uint8)
    pieces = [ones[:, start : start + 255] for start in range(0, ones.shape[1], 255)]
    return np.sum([np.einsum("vt->v", piece) for piece in pieces], axis=0, dtype=np.int64)


@dataclass(frozen=True)
class BlockQuality:
    """Findings of :func:`scan_block` in neighboring columns of a run, one entry per column.

    Attributes
    ----------
    finite, constant, saturated : bool (voxels,)
    deviations : float64 (columns,)
        Standard deviations over the volumes, of the sampled columns that are finite and vary.
    first_bad : int64 (voxels,)
        Volume of the first value that is not finite; -1 where all are.
    strange : int
        Values of a size that no scanner writes.
    volumes : int
    """

    finite: NDArray[np.bool_]
    constant: NDArray[np.bool_]
    saturated: NDArray[np.bool_]
    deviations: NDArray[np.float64]
    first_bad: NDArray[np.int64]
    strange: int
    volumes: int


def sampled_columns(block: slice, voxels: int) -> slice:
    """Return which columns of a block tell a run's scale: the same ones however it is cut.

    Examples
    --------
    >>> sampled_columns(slice(20, 40), voxels=3 * SAMPLED)
    slice(1, None, 3)
    """
    step = max(1, voxels // SAMPLED)
    return slice(-block.start % step, None, step)


def scan_block(series: NDArray[np.floating], sample: slice = slice(None)) -> BlockQuality:
    """Check some columns of a run for invalid values.

    Parameters
    ----------
    series : numpy.ndarray
        float (volumes, voxels), arbitrary units.
    sample : slice
        Columns whose deviation is measured, see :func:`sampled_columns`.

    Returns
    -------
    BlockQuality

    See Also
    --------
    combine_blocks : Combines the blocks of a run.
    scan_run : Checks a whole run at once.
    """
    rows = np.ascontiguousarray(series.T)
    with np.errstate(invalid="ignore", over="ignore"):
        low, high = _extremes(rows)  # NaN and infinity survive both
        finite = np.isfinite(low) & np.isfinite(high)
        varying = finite & (high > low)
        deviations = _deviation(rows[sample])[varying[sample]]
        # Almost no column comes near the limits; the others need no look at every value.
        odd = np.flatnonzero(~finite | (high > HUGE) | (low < TINY))
        size = np.abs(rows[odd])
        strange = ((size > HUGE) | ((size > 0) & (size < TINY))) & np.isfinite(size)
    first_bad = np.full(len(rows), -1)
    columns = np.flatnonzero(~finite)
    first_bad[columns] = (~np.isfinite(rows[columns])).argmax(axis=1)
    return BlockQuality(
        finite=finite,
        constant=finite & ~varying,
        saturated=_saturated(rows, low, high),
        deviations=deviations,
        first_bad=first_bad,
        strange=int(strange.sum()),
        volumes=rows.shape[1],
    )


def _deviation(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the standard deviation of every row, to the digits of the values themselves."""
    # Less its first value: exact, and a sum is then small enough for single precision.
    shifted = rows - rows[:, :1]
    total = shifted @ np.ones(rows.shape[1], rows.dtype)
    square = (np.vecdot(shifted, shifted) - np.square(total) / rows.shape[1]) / rows.shape[1]
    square = np.maximum(square, 0).astype(np.float64)
    if len(lost := np.flatnonzero(~np.isfinite(square))):
        square[lost] = rows[lost].var(axis=1, dtype=np.float64)
    return np.sqrt(square)


def combine_blocks(qualities: Sequence[BlockQuality]) -> RunQuality:
    """Combine the blocks of one run.

    Parameters
    ----------
    qualities : sequence of BlockQuality
        Blocks of columns in order.

    Returns
    -------
    RunQuality

    See Also
    --------
    scan_block : Checks one block.
    """
    deviations = np.concatenate([np.empty(0), *(g.deviations for g in qualities)])
    size = sum(g.volumes * len(g.finite) for g in qualities)
    return RunQuality(
        finite=np.concatenate([g.finite for g in qualities]),
        constant=np.concatenate([g.constant for g in qualities]),
        saturated=np.concatenate([g.saturated for g in qualities]),
        first_bad=np.concatenate([g.first_bad for g in qualities]),
        garbage=sum(g.strange for g in qualities) / size if size else 0.0,
        scale=float(np.median(deviations)) if len(deviations) else 0.0,
    )


def scan_run(series: NDArray[np.floating]) -> RunQuality:
    """Check a run for invalid values.

    Parameters
    ----------
    series : numpy.ndarray
        float (volumes, voxels), arbitrary units.

    Returns
    -------
    RunQuality

    Examples
    --------
    >>> from neuroclips_cli.signal import quality
    >>> found = quality.scan_run(np.array([[1.0, 5.0, np.nan], [2.0, 5.0, 1.0]]))
    >>> found.in_words()
    '1 voxels with NaN or infinity (first: volume 0, voxel 2), 1 constant voxels'
    """
    every = slice(0, series.shape[1])
    return combine_blocks([scan_block(series, sampled_columns(every, every.stop))])


def odd_scales(scales: Mapping[str, float], factor: float = 10.0) -> dict[str, float]:
    """Find the runs whose scale is far from that of the others.

    Parameters
    ----------
    scales : mapping
        Name of a run -> its scale (`RunQuality.scale`), arbitrary units; 0 is left out.
    factor : float
        Ratio to the median, above 1, from which a scale is reported.

    Returns
    -------
    dict
        Name -> ratio to the median, for ratios outside 1 / factor .. factor.

    Examples
    --------
    >>> odd_scales({"run1": 1.0, "run2": 2.0, "run3": 100.0})
    {'run3': 50.0}
    """
    known = {name: scale for name, scale in scales.items() if scale > 0}
    typical = float(np.median(list(known.values()))) if known else 1.0
    ratios = {name: scale / typical for name, scale in known.items()}
    return {name: r for name, r in ratios.items() if not 1 / factor < r < factor}


def inconsistent_segments(
    z: NDArray[np.floating], usable: NDArray[np.bool_]
) -> tuple[list[int], NDArray[np.int64]]:
    """Find segments whose repetitions correlate nowhere while those of the others do.

    Each segment is looked at in the voxels that answer best to the other segments (1 %, 20 at
    least), so that chance alone makes no segment look good.

    Parameters
    ----------
    z : numpy.ndarray
        float (segments, voxels), Fisher z of the inter-run correlation.
    usable : numpy.ndarray
        bool (voxels,).

    Returns
    -------
    segments : list of int
        Rows of ``z``; empty where there are fewer than 3 segments or no clear signal at all.
    best : numpy.ndarray
        int64 (voxels,), the voxels that answer best to all segments.

    See Also
    --------
    inconsistent_repetitions : The same among the repetitions of one segment.

    Examples
    --------
    >>> z = np.full((4, 30), 0.5)
    >>> z[2] = 0.0
    >>> segments, best = inconsistent_segments(z, np.ones(30, dtype=bool))
    >>> segments, len(best)
    ([2], 20)
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
    return _inconsistent(level), columns[best(scores)]


def inconsistent_repetitions(responses: NDArray[np.floating]) -> list[int]:
    """Find repetitions of a segment that do not correlate with the mean of the others.

    Parameters
    ----------
    responses : numpy.ndarray
        float (clips, repetitions, voxels); a missing repetition is NaN throughout.

    Returns
    -------
    list of int
        Positions along the second axis; empty where there are fewer than 3 repetitions or 12 clips.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> responses = np.repeat(rng.normal(size=(20, 1, 8)), 4, axis=1)
    >>> responses[:, 3] = rng.normal(size=(20, 8))
    >>> inconsistent_repetitions(responses)
    [3]
    """
    there = [r for r in range(responses.shape[1]) if np.isfinite(responses[:, r]).any()]
    if len(there) < 3 or len(responses) < FEWEST_CLIPS:
        return []
    level, voxels = np.zeros(len(there)), responses.shape[2]
    for piece in batches(voxels, BLOCK):
        # All voxels at once, in double precision, would take gigabytes.
        block = np.asarray(responses[:, :, piece], np.float64)[:, there]
        data = np.nan_to_num(block)
        total = data.sum(axis=1)
        for i in range(len(there)):
            r = interrun_correlation(data[:, i], total - data[:, i])
            level[i] += fisher_z(r).sum() / voxels
    return [there[i] for i in _inconsistent(level)]


def best_matching_run(runs: Mapping[str, NDArray[np.floating]]) -> dict[str, str]:
    """Find for every run the one that it correlates with best, where it does so clearly.

    Parameters
    ----------
    runs : mapping
        Name -> float (volumes, voxels); runs of other lengths are not compared.

    Returns
    -------
    dict
        Name -> name of the best match, where the mean Fisher z is at least `CLEAR_Z`.

    Examples
    --------
    >>> from neuroclips_cli.signal import quality
    >>> first = np.random.default_rng(0).normal(size=(50, 3))
    >>> quality.best_matching_run({"a": first, "b": first + 1})
    {'a': 'b', 'b': 'a'}
    """
    found = {}
    for name, series in runs.items():
        scores = {
            other: float(fisher_z(interrun_correlation(series, theirs)).mean())
            for other, theirs in runs.items()
            if other != name and theirs.shape == series.shape
        }
        best = max(scores, key=lambda other: scores[other], default="")
        if best and scores[best] >= CLEAR_Z:
            found[name] = best
    return found


def _inconsistent(level: NDArray[np.float64]) -> list[int]:
    """Return the positions of levels far below a clear median."""
    typical = float(np.median(level))
    if typical < CLEAR_Z:
        return []
    return [int(i) for i in np.flatnonzero(level < MIN_RELATIVE_CORRELATION * typical)]
