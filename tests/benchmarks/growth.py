"""Clips per minute and memory of evaluate and reconstruct, as the number of clips grows.

Needs a finished demo: ``neuroclips demo --folder DIR/neuroclips-demo``, DIR being ``--folder``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.benchmarks.commands import run_command

EVALUATED = (30, 120, 480, 1200)
RECONSTRUCTED = (15, 30, 60, 120)
"""Reconstructing 1200 clips takes the better part of an hour on one core."""


def main(folder: Path) -> list[tuple[str, float, str]]:
    """Run the commands, each in a process of its own; nothing of the finished run is changed."""
    run = folder / "neuroclips-demo" / "runs" / "sub-01"
    if not (run / "reconstruct" / "clips.npy").exists():
        raise SystemExit(f"{run} holds no finished demo: neuroclips demo --folder {run.parents[1]}")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        work = Path(place)
        return [*_evaluate(run, work), *_reconstruct(run, work)]


def _evaluate(run: Path, work: Path) -> list[tuple[str, float, str]]:
    """Measure arrays of the run's clips, repeated."""
    made = np.load(run / "reconstruct" / "clips.npy", mmap_mode="r")
    true = np.load(run / "preprocess" / "frames_test.npy", mmap_mode="r")
    rows: list[tuple[str, float, str]] = []
    for count in EVALUATED:
        # An array is taken at the protocol's rate: every frame of 8 per second nearest to 3.
        times = np.round(np.arange(true.shape[1]) * 8 / 3).astype(int)
        np.save(work / "pred.npy", np.resize(made[:, times], (count, *true.shape[1:])))
        np.save(work / "gt.npy", np.resize(true, (count, *true.shape[1:])))
        words = ["--pred", "pred.npy", "--gt", "gt.npy", "--out", f"out-{count}"]
        rows += _rows("evaluate", count, work, ["evaluate", *words])
    return rows


def _reconstruct(run: Path, work: Path) -> list[tuple[str, float, str]]:
    """Reconstruct the first clips of the run into a copy of it."""
    for stage in ("preprocess", "train-pr", "train-sr"):
        shutil.copytree(run / stage, work / "runs" / "sub-01" / stage)
    rows: list[tuple[str, float, str]] = []
    for count in RECONSTRUCTED:
        words = ["reconstruct", "--overwrite", "--device", "cpu", "--clips", f"0:{count}"]
        rows += _rows("reconstruct", count, work, words)
    return rows


def _rows(what: str, count: int, work: Path, words: list[str]) -> list[tuple[str, float, str]]:
    used = run_command(work, words)
    seconds = used.seconds
    note = (
        f"{60 * count / seconds:.0f} clips/min, {used.processor:.1f} s of processor, "
        f"{used.memory:.2f} GB"
    )
    print(f"{what} {count}: {seconds:.1f} s, {note}", file=sys.stderr, flush=True)
    return [(f"{what}, {count} clips, s", seconds, note)]
