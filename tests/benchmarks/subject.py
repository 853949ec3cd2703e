"""A full-size subject of random numbers with a weak repeated signal, written as fast as the disk.

The simulator takes hours for 7.7 GB; speed does not depend on what the numbers mean.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from neuroclips_cli.simulation.brain_files import write_run
from neuroclips_cli.simulation.films import FPS, film_writer
from neuroclips_cli.simulation.geometry import brain_models

CLIPS, TR_S = 240, 2.0
TRAIN, TEST = (18, 2), (5, 10)
"""Segments and repetitions of cc2017."""
BASELINE, NOISE, SIGNAL, RESPONDING = 10_000.0, 60.0, 40.0, 14_000


def run_names(
    train: tuple[int, int] = TRAIN, test: tuple[int, int] = TEST
) -> list[tuple[str, int]]:
    """Film and repetition of every run."""
    return [
        (f"{kind}{film}", repetition)
        for kind, (films, repetitions) in (("seg", train), ("test", test))
        for film in range(1, films + 1)
        for repetition in range(1, repetitions + 1)
    ]


def write_subject(
    root: Path,
    *,
    train: tuple[int, int] = TRAIN,
    test: tuple[int, int] = TEST,
    grayordinates: str = "91k",
    clips: int = CLIPS,
    film_size: int = 32,
) -> Path:
    """Write runs, and films of the right length, a color for every clip; return `root`.

    Parameters
    ----------
    root
        Folder of the data set; one that is complete is taken as it is.
    train, test
        Segments and repetitions.
    grayordinates
        As in the simulator: ``91k`` or ``small``.
    clips
        Clips of every film.
    film_size
        Pixels of the films' sides.
    """
    done = root / "complete"
    wanted = f"{train} {test} {grayordinates} {clips} {film_size}"
    if done.exists() and done.read_text() == wanted:
        return root
    shutil.rmtree(root, ignore_errors=True)
    (root / "stimuli").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for kind in ("seg", "test"):
        film = root / "stimuli" / f"{kind}1.mp4"
        with film_writer(film, film_size) as append:
            for color in rng.integers(0, 256, (clips, 3), np.uint8):
                append(np.full((int(FPS * TR_S), film_size, film_size, 3), color, np.uint8))
        for name in {name for name, _ in run_names(train, test) if name.startswith(kind)}:
            if name != film.stem:
                (root / "stimuli" / f"{name}.mp4").hardlink_to(film)
    _write_runs(root, train, test, grayordinates, clips)
    done.write_text(wanted)
    return root


def _write_runs(
    root: Path, train: tuple[int, int], test: tuple[int, int], grayordinates: str, clips: int
) -> None:
    rng = np.random.default_rng(0)
    columns, cortex, heads = 0, 0, {}
    for volumes in (clips + 5, clips + 6):
        heads[volumes], columns, cortex = _header(grayordinates, volumes)
    count = columns * (clips + 6)
    pool = rng.standard_normal(2 * count, np.float32)
    pool *= np.float32(NOISE)
    responding = rng.permutation(cortex)[: min(RESPONDING, cortex // 4)]
    signals: dict[str, np.ndarray] = {}
    for film, repetition in run_names(train, test):
        volumes = clips + (6 if film.startswith("test") and film != "test1" else 5)
        if film not in signals:
            signals = {film: rng.standard_normal((len(responding), volumes), np.float32)}
        start = int(rng.integers(count))
        # In the file a grayordinate's volumes lie one behind the other.
        series = pool[start : start + columns * volumes].reshape(columns, volumes)
        series = series + np.float32(BASELINE)
        series[responding] += np.float32(SIGNAL) * signals[film]
        path = root / "subject1" / "fmri" / film / "cifti"
        path.mkdir(parents=True, exist_ok=True)
        with open(path / f"{film}_{repetition}_Atlas.dtseries.nii", "wb") as stream:
            stream.write(heads[volumes])
            series.astype("<f4", copy=False).tofile(stream)


def _header(grayordinates: str, volumes: int) -> tuple[bytes, int, int]:
    """Return everything before the data, the number of grayordinates and of cortical ones."""
    from nibabel.cifti2 import SeriesAxis

    models = brain_models(grayordinates)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.dtseries.nii"
        times = SeriesAxis(0, TR_S, volumes, unit="SECOND")
        write_run(path, np.zeros((volumes, len(models)), np.float32), times, models)
        content = path.read_bytes()
    cortex = int(np.char.startswith(np.asarray(models.name, str), "CIFTI_STRUCTURE_CORTEX").sum())
    return content[: len(content) - 4 * volumes * len(models)], len(models), cortex
