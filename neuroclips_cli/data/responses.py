"""The responses of a run to its clips, read a block of voxels at a time and standardized."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.runs import Run
from neuroclips_cli.signal.detrend import standardize
from neuroclips_cli.signal.quality import RunQuality, combine_blocks, scan_block
from neuroclips_cli.signal.training_statistics import RunStatistics, run_statistics

BLOCK = 2048
"""Voxels at a time: a run's block of 2 MB stays in the processor's cache for all its steps."""


@dataclass(frozen=True)
class Responses:
    """Standardized responses of one run.

    Attributes
    ----------
    z : numpy.ndarray
        float32 (clips, voxels), detrended and at unit deviation over the window; NaN in voxels
        without a signal in this run.
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
) -> Responses:
    """Read the selected voxels of a run and standardize them over a window of volumes.

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

    Returns
    -------
    Responses
    """
    qualities, parts, measured, without = [], [], [], 0
    for columns, series in run.blocks(block, selected if training else None):
        if not training:
            qualities.append(scan_block(series))
        if selected[columns].any():
            part = series[window][:, selected[columns]]
            z, good = standardize(part, order)
            parts.append(np.where(good, z, np.nan).astype(np.float32, order="C"))
            without += int((~good).sum())
            if training:
                measured.append(run_statistics(part, order))
    return Responses(
        np.concatenate(parts, axis=1),
        without,
        None if training else combine_blocks(qualities),
        _joined(measured) if training else None,
    )


def _joined(blocks: list[RunStatistics]) -> RunStatistics:
    """Put the statistics of blocks of voxels side by side."""
    return RunStatistics(
        np.concatenate([block.trend for block in blocks], axis=1),
        np.concatenate([block.deviation for block in blocks]),
    )
