"""The signal part of preprocess on a full-size subject: against reading, np.polyfit and nilearn."""

from __future__ import annotations

import importlib.util
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np


def main(folder: Path) -> list[tuple[str, float, str]]:
    """Measure; the page cache is as warm as memory allows for both reading and preprocessing."""
    from neuroclips_cli.data.find_runs import find_runs
    from neuroclips_cli.data.layout import find_layout
    from neuroclips_cli.data.stretches import ARRAYS, stretches_of
    from neuroclips_cli.settings.load import load_settings
    from neuroclips_cli.stages import (
        _preprocess_arrays,
        _preprocess_inputs,
        _preprocess_selection,
    )
    from tests.benchmarks.subject import write_subject

    root = write_subject(folder / "full")
    settings = load_settings({"run.profile": "paper", "run.dataset": str(root)}, environ={})
    layout = find_layout(root, 1)
    runs = find_runs(root, 1, settings.data, None, tr_stated=False)
    paths = [p for s in (*layout.train, *layout.test) for p in s.runs.values()]
    for _ in range(2):
        reading = _timed(partial(_read_all, paths))
    began = time.perf_counter()
    source = _preprocess_inputs.open_source(runs, stretches_of(runs.rows), settings, None)
    # the stage folder is only read by other choices of voxels
    selection, _ = _preprocess_selection.select(None, source)  # type: ignore[arg-type]
    for name in ARRAYS:
        array = np.empty(source.shape(name, int(selection.selected.sum())), np.float32)
        _preprocess_arrays.fill_responses(source, name, array, selection.selected)
        del array
    ours = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    part = 1000
    series = source.first.read()[1:241]
    per_run = ours / len(paths)
    scale = series.shape[1] / part
    loop = _timed(partial(_polyfit, series[:, :part])) * scale
    rows = [
        ("reading the same files, s (warm)", reading, ""),
        ("signal part, s (headers, selection, responses)", ours, f"{ours / reading:.2f} x reading"),
        ("peak memory, GB", peak, ""),
        ("one run, per-voxel np.polyfit, s", loop, f"{loop / per_run:.0f} x ours per run"),
    ]
    rows += against_nilearn(series)
    return rows


def against_nilearn(series: np.ndarray) -> list[tuple[str, float, str]]:
    """Detrend and standardize one run, (volumes, voxels), in both ways; nothing without nilearn."""
    if not importlib.util.find_spec("nilearn"):
        return []
    from nilearn.signal import clean

    basis = np.polynomial.legendre.legvander(np.linspace(-1, 1, len(series)), 4)[:, 1:]
    theirs = partial(clean, detrend=False, standardize="zscore_sample", confounds=basis)
    ways = (
        partial(_detrend, series),
        partial(theirs, series),
        partial(theirs, series.astype(np.float64)),
    )
    # In turn and in processor time, so that other work on the machine counts as little as possible.
    seconds = [[_timed(way, time.process_time) for way in ways] for _ in range(9)]
    ours, single, double = np.median(seconds, axis=0).tolist()
    return [
        ("one run, all voxels detrended and standardized, s of processor", ours, ""),
        ("nilearn.signal.clean in single precision, s", single, f"{single / ours:.2f} x ours"),
        ("nilearn.signal.clean in double precision, s", double, f"{double / ours:.2f} x ours"),
    ]


def _detrend(series: np.ndarray) -> None:
    from neuroclips_cli.data.responses import BLOCK
    from neuroclips_cli.signal.detrend import standardize

    for start in range(0, series.shape[1], BLOCK):
        standardize(series[:, start : start + BLOCK], 4)


def _timed(work: partial[object], clock: Callable[[], float] = time.perf_counter) -> float:
    began = clock()
    work()
    return clock() - began


def _read_all(paths: list[Path]) -> None:
    buffer = bytearray(max(path.stat().st_size for path in paths))
    for path in paths:
        with open(path, "rb", buffering=0) as stream:
            stream.readinto(buffer)


def _polyfit(series: np.ndarray) -> None:
    times = np.linspace(-1, 1, len(series))
    for column in series.T:
        left = column - np.polyval(np.polyfit(times, column, 4), times)
        left /= left.std(ddof=1)
