"""What it costs to decode a run while it is recorded: a table of finished and of followed runs.

Reads a run on a simulated data set (``preprocess``, ``train-pr`` and ``train-sr``) and prints a
Markdown table. Each test run is standardized as ``decode`` does it, over all its volumes, and as
``decode --follow`` does it, volume by volume, with and without the film's length known. One
repetition and the mean of all are decoded by the run's reconstructors::

    python examples/follow_table.py neuroclips-demo/runs/sub-01 [--clips 0:200:2]

Each row has the mean of a metric over the clips and its 95 % interval, and how the standardized
scans correlate with those of the finished run, over the voxels, in clips 0-4, 5-9 and later of a
film.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli import Run
from neuroclips_cli.data.new_scans import (
    FilmTiming,
    open_new_run,
    read_trained_voxels,
    read_training_statistics,
)
from neuroclips_cli.data.run_table import RunRow, read_run_table
from neuroclips_cli.data.scan_files import scan_row
from neuroclips_cli.signal.causal import CausalStandardizer
from neuroclips_cli.signal.clip_times import response_positions
from neuroclips_cli.signal.reproducibility import mean_over_repetitions
from neuroclips_cli.stages._follow import film_span

METRICS = ("frame_2way", "frame_50way", "video_2way", "ssim")
AGES = (slice(0, 5), slice(5, 10), slice(10, None))


def test_runs(run: Run) -> Iterator[tuple[int, list[RunRow]]]:
    """Yield the number of clips of every test film, and its runs in the order of repetitions."""
    films: dict[tuple[Path, float], list[RunRow]] = {}
    for row in read_run_table(run.folder / "preprocess" / "runs.tsv"):
        if row.split == "test":
            films.setdefault((row.film, row.film_start_s), []).append(row)
    for rows in films.values():
        clips = round((rows[0].duration_s or 0.0) / run.settings.data.clip_s)
        yield clips, sorted(rows, key=lambda row: row.repetition)


def followed(run: Run, *, length_known: bool) -> tuple[NDArray[np.float32], list[float]]:
    """Standardize all test runs volume by volume.

    Returns
    -------
    numpy.ndarray
        float32 (clips, repetitions, voxels).
    list of float
        Time that each volume took, in s.
    """
    folder, data = run.folder / "preprocess", run.settings.data
    voxels, statistics = read_trained_voxels(folder), read_training_statistics(folder, "following")
    films, took = [], []
    for clips, rows in test_runs(run):
        repetitions = []
        for row in rows:
            start_s, tr_s = row.scan_start_s or 0.0, row.tr_s or data.tr_s
            timing = FilmTiming(start_s, row.duration_s if length_known else None)
            first_s = row.first_volume_s or 0.0
            span = film_span(timing, data, tr_s, first_s)
            standardizer = CausalStandardizer(statistics, span)
            series = open_new_run(scan_row(row.files[0]), voxels).read()[:, voxels.selected]
            z = []
            for volume in series:
                began = time.perf_counter()
                z.append(standardizer.update(volume))
                took.append(time.perf_counter() - began)
            positions = response_positions(
                clips,
                start_s=start_s - first_s,
                clip_s=data.clip_s,
                delay_s=data.delay_s,
                tr_s=tr_s,
            )
            repetitions.append(np.stack(z)[positions[:, 0].astype(int)])
        films.append(np.stack(repetitions, axis=1))
    return np.concatenate(films), took


def agreement(run: Run, scans: NDArray[np.float32], finished: NDArray[np.float32]) -> str:
    """Correlate scans with those of the finished runs, by the clips' place in their film."""
    found: list[list[float]] = [[] for _ in AGES]
    start = 0
    for clips, _ in test_runs(run):
        for place, age in enumerate(AGES):
            rows = range(start, start + clips)[age]
            found[place] += [float(np.corrcoef(scans[r], finished[r])[0, 1]) for r in rows]
        start += clips
    return " / ".join(f"{np.mean(values):.2f}" for values in found)


def main() -> None:
    """Print one line per kind of scans."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("run", type=Path, help="such as neuroclips-demo/runs/sub-01")
    options.add_argument("--clips", default="::", help="which test clips, START:STOP:STEP")
    asked = options.parse_args()
    run = Run(asked.run)
    finished = run.array("preprocess", "fmri_test_repetitions.npy")
    chosen = slice(*(int(part) if part else None for part in asked.clips.split(":")))
    numbers = list(range(len(finished))[chosen])
    kinds, took = {"finished run": np.asarray(finished)}, []
    for name, known in (("followed, length known", True), ("followed", False)):
        kinds[name], seconds = followed(run, length_known=known)
        took += seconds
    print(f"{len(numbers)} clips; {1000 * np.median(took):.1f} ms per volume (median)\n")
    print(f"| scans | {' | '.join(METRICS)} | correlation |")
    print("|---" * (2 + len(METRICS)) + "|")
    for average in (True, False):
        target = mean_over_repetitions(finished) if average else finished[:, 0]
        for name, every in kinds.items():
            scans = mean_over_repetitions(every) if average else every[:, 0]
            decoded = run.decode(scans[numbers], numbers)
            measured = run.evaluate(decoded.clips, numbers)["metrics"]
            cells = [
                f"{measured[m]['mean']:.3f} [{measured[m]['ci95'][0]:.3f}, "
                f"{measured[m]['ci95'][1]:.3f}]"
                for m in METRICS
            ]
            title = f"{'mean of all' if average else 'one repetition'}, {name}"
            cells.append(agreement(run, scans, target))
            print(f"| {title} | {' | '.join(cells)} |", flush=True)
            print(title, time.strftime("%H:%M:%S"), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
