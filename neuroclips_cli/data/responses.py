"""The responses of a run to its clips, read a block of voxels at a time and standardized."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.runs import Run
from neuroclips_cli.data.viewings import Clean
from neuroclips_cli.signal.clip_times import Interpolation, at_positions
from neuroclips_cli.signal.quality import RunQuality, combine_blocks, sampled_columns, scan_block
from neuroclips_cli.signal.single_precision import standardize_run
from neuroclips_cli.signal.training_statistics import RunStatistics

BLOCK = 2048
"""Voxels at a time: a run's block of 2 MB stays in the processor's cache for all its steps."""


@dataclass(frozen=True)
class Responses:
    """Standardized responses of one run.

    Attributes
    ----------
    z : numpy.ndarray
        float32 (clips, voxels) or (clips, window, voxels), detrended and at unit deviation over the
        window of volumes; NaN in voxels without a signal in this run.
    without_signal : int
        How many voxels are NaN.
    quality : RunQuality or None
        What is wrong with all voxels of the run, where it was looked through.
    statistics : RunStatistics or None
        Baseline, drift and noise of the window, where they were measured.
    """

    z: NDArray[np.float32]
    without_signal: int
    quality: RunQuality | None
    statistics: RunStatistics | None


def standardized_responses(
    run: Run,
    window: slice,
    selected: NDArray[np.bool_],
    order: int,
    *,
    training: bool,
    block: int = BLOCK,
    at: NDArray[np.float64] | None = None,
    method: Interpolation = "cubic",
    clean: Clean | None = None,
    out: NDArray[np.float32] | None = None,
) -> Responses:
    """Read the selected voxels of a run and standardize them over a window of volumes.

    Order of operations: confounds are taken off the whole run; the window is detrended and
    standardized; where clips fall between volumes, the standardized series is interpolated. In this
    order a voxel has unit deviation over the recorded volumes whatever the clips' length, and
    where clips fall on volumes nothing is interpolated at all.

    Parameters
    ----------
    run : Run
        An opened run.
    window : slice
        The volumes that answer to the clips; it moves with the delay (paper 4.1).
    selected : numpy.ndarray
        bool (voxels of the run,).
    order : int
        Degree of the polynomial that is removed.
    training : bool
        A training run was looked through before: only blocks with selected voxels are read, and
        its statistics are measured. Of other runs every block is looked through in passing.
    block : int
        Voxels at a time.
    at : numpy.ndarray, optional
        float64 (clips, window): where the responses are read, in volumes, 0 for the window's first
        one. Absent: every volume of the window is a response.
    method : str
        How it is interpolated between volumes.
    clean : callable, optional
        Takes confounds off the whole run's series, (volumes, voxels).
    out : numpy.ndarray, optional
        float32, of the shape of ``z``, which is written there; for runs that fill the memory.

    Returns
    -------
    Responses
    """
    if at is None:
        at = np.arange(window.stop - window.start, dtype=np.float64)[:, None]
    several = at.shape[1:] if at.shape[1] > 1 else ()
    shape = (len(at), *several, int(selected.sum()))
    z = np.empty(shape, np.float32) if out is None else out
    qualities, measured, without, done = [], [], 0, 0
    for columns, series in run.blocks(block, selected if training else None):
        if not training:
            qualities.append(scan_block(series, sampled_columns(columns, len(selected))))
        if not selected[columns].any():
            continue
        part = series.T[selected[columns]].T
        part = (part if clean is None else clean(part))[window]
        standardized, good, statistics = standardize_run(part, order)
        standardized[:, ~good] = np.nan
        read = at_positions(standardized, at.ravel(), method)
        z[..., done : done + len(good)] = read.reshape(*shape[:-1], len(good))
        done += len(good)
        without += int((~good).sum())
        measured.append(statistics)
    return Responses(
        z,
        without,
        None if training else combine_blocks(qualities),
        _joined(measured) if training else None,
    )


def _joined(blocks: list[RunStatistics]) -> RunStatistics:
    """Put the statistics of blocks of voxels side by side."""
    return RunStatistics(
        np.concatenate([block.trend for block in blocks], axis=1),
        np.concatenate([block.deviation for block in blocks]),
        np.concatenate([block.autocorrelation for block in blocks]),
        blocks[0].volumes,
    )
