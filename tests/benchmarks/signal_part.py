"""The signal part of preprocess on a full-size subject: against reading, np.polyfit and nilearn."""

from __future__ import annotations

import importlib.util
import resource
import time
from functools import partial
from pathlib import Path

import numpy as np


def main(folder: Path) -> list[tuple[str, float, str]]:
    """Measure; the page cache is as warm as memory allows for both reading and preprocessing."""
    from neuroclips_cli.config import load_settings
    from neuroclips_cli.data.layout import find_layout
    from neuroclips_cli.stages import preprocess
    from tests.benchmarks.subject import write_subject

    root = write_subject(folder / "full")
    settings = load_settings({"run.profile": "paper", "run.dataset": str(root)}, environ={})
    layout = find_layout(root, 1)
    paths = [p for s in (*layout.train, *layout.test) for p in s.runs.values()]
    for _ in range(2):
        reading = _timed(partial(_read_all, paths))
    began = time.perf_counter()
    source = preprocess._open_source(layout, settings.data, False)
    selection, _ = preprocess._select(source, 2)
    for split in preprocess.SPLITS:
        shape = (source.total_clips(split), source.sizes()[split][1], selection.selected.sum())
        array = np.empty(shape, np.float32)
        preprocess._fill_responses(source, split, array, selection.selected, 2, lambda n: None)
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
    if importlib.util.find_spec("nilearn"):
        from nilearn.signal import clean

        basis = np.polynomial.legendre.legvander(np.linspace(-1, 1, 240), 4)
        nilearn = _timed(partial(clean, series, detrend=False, confounds=basis))
        rows.append(("one run, nilearn.signal.clean, s", nilearn, f"{nilearn / per_run:.1f} x"))
    return rows


def _timed(work: partial[object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


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
