"""Memory of preprocess on 170k grayordinates: 20 runs of 900 volumes, a quarter of cortex selected.

Runs of one kind are links to one file, so that the data set takes 5 GB of disk instead of 12.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from neuroclips_cli.data.run_table import RunRow, write_run_table
from neuroclips_cli.simulation.brain_files import write_run
from neuroclips_cli.simulation.films import FPS, film_writer

GRAYORDINATES, MESH, CORTEX, VOLUMES, TR_S = 170_494, 59_292, 54_216, 900, 1.0
FILM_S, START_S, BLOCK = 860.0, 20.0, 4096
TRAIN, TEST = (6, 2), (2, 4)
"""Films and repetitions: 20 runs."""


def main(folder: Path) -> list[tuple[str, float, str]]:
    """Write the data set, and run the command in a process of its own."""
    root = folder / "grayordinates-170k"
    table = _write(root)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        words = ["preprocess", "--runs", str(table), "--profile", "tiny", "--workdir", place]
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "neuroclips_cli", *words])
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        if status:
            raise SystemExit("preprocess failed")
        shape = np.load(
            Path(place) / "sub-01" / "preprocess" / "fmri_train.npy", mmap_mode="r"
        ).shape
    what = f"170k grayordinates, 900 volumes, 20 runs ({shape[-1]} voxels selected)"
    return [
        (f"preprocess, {what}: peak memory, GB", usage.ru_maxrss / 1e6, ""),
        ("the same: minutes", seconds / 60, ""),
        ("the same: minutes of processor", (usage.ru_utime + usage.ru_stime) / 60, ""),
    ]


def _write(root: Path) -> Path:
    """Write films, runs and run table; return the table."""
    table = root / "runs.tsv"
    if table.exists():
        return table
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    rows = []
    for split, (films, repetitions) in (("train", TRAIN), ("test", TEST)):
        for repetition in range(1, repetitions + 1):
            _write_series(root / f"{split}{repetition}.dtseries.nii", split, repetition)
        for film in range(1, films + 1):
            path = root / f"{split}-film{film}.mp4"
            with film_writer(path, 32) as append:
                for second in range(int(FILM_S)):
                    gray = (7 * film + second + 50 * (split == "test")) % 250
                    append(np.full((int(FPS), 32, 32, 3), gray, np.uint8))
            for repetition in range(1, repetitions + 1):
                run = root / f"{split}{film}_{repetition}.dtseries.nii"
                run.hardlink_to(root / f"{split}{repetition}.dtseries.nii")
                given = (0.0, START_S, FILM_S, TR_S, split, repetition)
                rows.append(RunRow("1", "", (run,), "", path, *given))
    return write_run_table(table, rows)


def _write_series(path: Path, split: str, repetition: int) -> None:
    """Write a run that answers in every fourth grayordinate, a block of them at a time."""
    from nibabel.cifti2 import BrainModelAxis, SeriesAxis

    sides = [
        BrainModelAxis.from_surface(np.arange(CORTEX), MESH, f"Cortex{side}")
        for side in ("Left", "Right")
    ]
    inside = np.zeros((60, 60, 20), bool)
    inside.reshape(-1)[: GRAYORDINATES - 2 * CORTEX] = True
    models = sides[0] + sides[1] + BrainModelAxis.from_mask(inside, "BrainStem", np.eye(4))
    empty = np.broadcast_to(np.float32(0), (VOLUMES, GRAYORDINATES))
    times = SeriesAxis(0, TR_S, VOLUMES, unit="SECOND")
    write_run(path, empty, times, models)
    noise, signal = np.random.default_rng([1, repetition]), np.random.default_rng(len(split))
    with open(path, "r+b") as stream:
        stream.seek(-4 * VOLUMES * GRAYORDINATES, os.SEEK_END)
        for start in range(0, GRAYORDINATES, BLOCK):
            count = min(BLOCK, GRAYORDINATES - start)
            series = 10_000 + 60 * noise.standard_normal((count, VOLUMES), np.float32)
            shared = signal.standard_normal((count, VOLUMES), np.float32)
            series[::4] += 60 * shared[::4]
            stream.write(series.astype("<f4").tobytes())
