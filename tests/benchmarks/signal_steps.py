"""The steps of preprocess's signal part per run, in processor time, against reading the same bytes.

8 runs of full size (two training films twice, a test film four times). Each is as fast as the best
of several rounds, so that other work on the machine counts little; processor time adds up over
threads. Set OMP_NUM_THREADS=1: BLAS threads wait by running.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from tests.benchmarks.subject import RESPONDING, TEST, TRAIN, run_names, write_subject

ROUNDS = 7
FEW_TRAIN, FEW_TEST = (2, 2), (1, 4)


def main(folder: Path) -> list[tuple[str, float, str]]:
    """Measure with warm files; the last row weighs the steps as cc2017's 36 and 50 runs do."""
    from neuroclips_cli.data.stretches import stretches_of
    from neuroclips_cli.settings.load import load_settings
    from neuroclips_cli.stages import _preprocess_arrays, _preprocess_inputs, _preprocess_selection

    root = write_subject(folder / "few", train=FEW_TRAIN, test=FEW_TEST)
    settings = load_settings({"run.profile": "paper", "run.dataset": str(root)}, environ={})
    _, runs = _preprocess_inputs.find_subject(settings)
    source = _preprocess_inputs.open_source(runs, stretches_of(runs.rows), settings, None)
    paths = sorted(root.rglob("*.dtseries.nii"))
    chosen, _ = _preprocess_selection.select(None, source)  # type: ignore[arg-type]
    # two films are too few for the test: as many voxels as answer, which are the best ones
    selected = chosen.mean_z >= np.partition(chosen.mean_z, -RESPONDING)[-RESPONDING]
    shapes = {name: source.shape(name, int(selected.sum())) for name in ("train", "test")}
    arrays = {name: np.empty(shape, np.float32) for name, shape in shapes.items()}

    def fill(name: str) -> object:
        return _preprocess_arrays.fill_responses(source, name, arrays[name], selected)

    works: dict[str, tuple[Callable[[], object], int]] = {
        "reading": (partial(_read_all, paths), len(paths)),
        "training run, checks and correlation of the repetitions": (
            partial(_preprocess_selection.select, None, source),  # type: ignore[arg-type]
            len(run_names(FEW_TRAIN, (0, 0))),
        ),
        "training run, responses and statistics": (
            partial(fill, "train"),
            len(run_names(FEW_TRAIN, (0, 0))),
        ),
        "test run, checks and responses": (partial(fill, "test"), len(run_names((0, 0), FEW_TEST))),
    }
    best = dict.fromkeys(works, np.inf)
    for _ in range(ROUNDS):  # in turn
        for step, (work, of) in works.items():
            began = time.process_time()
            work()
            best[step] = min(best[step], 1000 * (time.process_time() - began) / of)
    reading, first, second, test = best.values()
    train_runs, test_runs = TRAIN[0] * TRAIN[1], TEST[0] * TEST[1]
    whole = (train_runs * (first + second) + test_runs * test) / (train_runs + test_runs)
    rows = [(f"{step}, ms of processor", ms, f"{ms / reading:.2f} x") for step, ms in best.items()]
    label = f"{train_runs} training and {test_runs} test runs ({RESPONDING} voxels), ms for each"
    return [*rows, (label, whole, f"{whole / reading:.2f} x reading")]


def _read_all(paths: list[Path]) -> None:
    """Read into one buffer, which no program can do without."""
    buffer = bytearray(max(path.stat().st_size for path in paths))
    for path in paths:
        with open(path, "rb", buffering=0) as stream:
            stream.readinto(buffer)
