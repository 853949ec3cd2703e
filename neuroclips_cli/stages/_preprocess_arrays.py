"""The arrays that preprocess writes: responses to the clips, and the clips' frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from threading import Event

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli import console
from neuroclips_cli.data.responses import BLOCK, Responses, standardized_responses
from neuroclips_cli.data.stimuli import clip_frames
from neuroclips_cli.data.stretches import (
    ARRAYS,
    Stretch,
)
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.npy import release_pages
from neuroclips_cli.runs.stage import Stage
from neuroclips_cli.runtime import threads
from neuroclips_cli.runtime.batches import batches
from neuroclips_cli.signal.reproducibility import (
    Selection,
    mean_over_repetitions,
)
from neuroclips_cli.signal.training_statistics import RunStatistics, over_runs
from neuroclips_cli.stages._preprocess_inputs import PreprocessSource, rows_of

ROWS = 64
"""Clips at a time where repetitions are averaged."""


_Place = tuple[Stretch, int, slice]
"""A segment, one of its repetitions, and its rows of an array."""


def _by_run(source: PreprocessSource, places: Sequence[_Place]) -> list[list[_Place]]:
    """Put together what is read from one run, where it is standardized as a whole.

    Runs of hundreds of trials are then read once and not once per trial.
    """
    if source.data.standardize != "run":
        return [[place] for place in places]
    groups: dict[object, list[_Place]] = {}
    for segment, repetition, rows in places:
        row = segment.rows[repetition]
        groups.setdefault((row.run, row.confounds), []).append((segment, repetition, rows))
    return list(groups.values())


def _responses(
    source: PreprocessSource,
    selected: NDArray[np.bool_],
    array: NDArray[np.float32],
    places: Sequence[_Place],
) -> Responses:
    """Write the responses of one run to its segments' clips into their rows of the array."""
    viewings = [source.view(segment, repetition) for segment, repetition, _ in places]
    readings = [
        viewing.reading(source.clips[segment.name], source.data)
        for viewing, (segment, *_) in zip(viewings, places, strict=True)
    ]
    segment, repetition, rows = places[0]
    found = standardized_responses(
        viewings[0].run,
        readings[0].over,
        selected,
        source.data.detrend_order,
        training=segment.array == "train",
        block=BLOCK,
        at=np.concatenate([reading.at for reading in readings]),
        method=readings[0].method,
        clean=viewings[0].cleaner(source.data),
        out=array[rows, repetition - 1] if len(places) == 1 else None,
    )
    if len(places) > 1:
        ends = np.cumsum([len(reading.at) for reading in readings])
        for (_, repetition, rows), z in zip(places, np.split(found.z, ends[:-1]), strict=True):
            array[rows, repetition - 1] = z
    return found


def write_test_responses(
    stage: Stage, source: PreprocessSource, selection: Selection, usable: NDArray[np.bool_]
) -> tuple[Selection, NDArray[np.bool_]]:
    """Write the responses to the test films, which are read here for the first time.

    A voxel that has no signal in any repetition of a test film is left out, as those without a
    signal in a training run are: returns the selection without it.
    """
    shape = source.shape("test", int(selection.selected.sum()))
    with stage.open_array("fmri_test_repetitions.npy", shape, np.float32) as array:
        lost, _ = fill_responses(source, "test", array, selection.selected)
        silent = np.zeros(shape[-1], bool)
        for segment, rows in rows_of(source, "test"):
            first = array[rows.start].reshape(shape[1], -1, shape[-1])[:, 0]
            silent |= ~np.isfinite(first).any(axis=0)
            middle = (
                array[rows] if array.ndim == 3 else array[rows, :, (source.data.window - 1) // 2]
            )
            source.checked.repetitions(segment, middle)
            release_pages(array)
        if not silent.any():
            _write_mean(stage, array)
    if silent.any():
        console.warn(
            f"{int(silent.sum())} selected voxels hold no signal in any run of some test film: "
            "left out"
        )
        gone = np.flatnonzero(selection.selected)[silent]
        kept, still = selection.selected.copy(), usable.copy()
        kept[gone] = still[gone] = False
        if not kept.any():
            raise UserError(
                "no selected voxel holds a signal in every test film: check the test runs of "
                f"{', '.join(s.name for s in source.segments('test'))}"
            )
        return write_test_responses(stage, source, replace(selection, selected=kept), still)
    _report_lost(stage, "voxels_without_signal", lost)
    return selection, usable


def write_training_responses(
    stage: Stage, source: PreprocessSource, selected: NDArray[np.bool_]
) -> None:
    shape = source.shape("train", int(selected.sum()))
    with stage.open_array("fmri_train.npy", shape, np.float32) as array:
        _, statistics = fill_responses(source, "train", array, selected)
    _write_training_statistics(stage, statistics)


def _write_mean(stage: Stage, repetitions: NDArray[np.float32]) -> None:
    """Write the mean over the repetitions that there are."""
    shape = (repetitions.shape[0], *repetitions.shape[2:])
    with stage.open_array("fmri_test.npy", shape, np.float32) as mean:
        for rows in batches(len(repetitions), ROWS):
            mean[rows] = mean_over_repetitions(repetitions[rows])
            release_pages(mean)
            release_pages(repetitions)


def _report_lost(stage: Stage, fact: str, lost: dict[str, int]) -> None:
    if lost:
        names = ", ".join(f"{name} ({n})" for name, n in lost.items())
        console.warn(f"selected voxels without a signal in single runs: {names}")
    stage.fact(fact, lost)


def report_values(stage: Stage, source: PreprocessSource) -> None:
    for sentence in (warnings := source.checked.warnings()):
        console.warn(sentence)
    stage.fact("warnings", warnings)


def fill_responses(
    source: PreprocessSource, name: str, array: NDArray[np.float32], selected: NDArray[np.bool_]
) -> tuple[dict[str, int], list[RunStatistics]]:
    """Fill one array.

    Returns how many selected voxels have no signal in which runs, and the statistics of training
    runs.
    """
    lost: dict[str, int] = {}
    statistics: list[RunStatistics] = []
    todo = [
        (segment, repetition, rows)
        for segment, rows in rows_of(source, name)
        for repetition in segment.rows
    ]
    word = "responses to training" if name == "train" else f"responses to {name}"
    with console.progress(word, len(todo), unit="run") as advance:
        work = partial(_responses, source, selected, array)
        groups = _by_run(source, todo)
        results = threads.in_order(work, groups, threads=source.threads(1))
        for places, found in zip(groups, results, strict=True):
            segment, repetition, _ = places[0]
            if found.quality:
                source.checked.run(segment.runs[repetition], found.quality, len(selected))
            if found.statistics:
                statistics.append(found.statistics)
            if found.without_signal:
                names = [f"{segment.name}_{repetition}" for segment, repetition, _ in places]
                lost |= dict.fromkeys(names, found.without_signal)
            release_pages(array)
            advance(len(places))
    _fill_missing(source, name, array)
    return lost, statistics


def _fill_missing(source: PreprocessSource, name: str, array: NDArray[np.float32]) -> None:
    """Fill repetitions that were not recorded: NaN of test films, else the mean of those that were.

    So every training film counts alike whatever its number of repetitions, and the mean over all
    is that over the recorded ones.
    """
    every = set(range(1, array.shape[1] + 1))
    for segment, rows in rows_of(source, name):
        there = [repetition - 1 for repetition in segment.rows]
        for missing in every - set(segment.rows):
            array[rows, missing - 1] = np.nan if name == "test" else array[rows, there].mean(axis=1)
        release_pages(array)


def _write_training_statistics(stage: Stage, statistics: list[RunStatistics]) -> None:
    """Write what ``decode`` knows of runs that are not finished yet."""
    with stage.atomic("training_statistics.npz") as path:
        np.savez(path, **asdict(over_runs(statistics)))


def write_frames(stage: Stage, source: PreprocessSource) -> None:
    data, films = source.data, source.recordings.films
    total = sum(source.total_clips(array) for array in ARRAYS)
    with console.progress("frames", total, unit="clip") as advance:
        for array in (name for name in ARRAYS if source.segments(name)):
            size = data.frame_size
            shape = (source.total_clips(array), data.frames_per_clip, size, size, 3)
            with stage.open_array(f"frames_{array}.npy", shape, np.uint8) as frames:
                decode_films(source, list(rows_of(source, array)), frames, advance)
    decoders = {segment.name: films[segment.film].decoder for segment in source.stretches}
    stage.fact("film_decoders", decoders)


def decode_films(
    source: PreprocessSource,
    films: Sequence[tuple[Stretch, slice]],
    frames: NDArray[np.uint8],
    advance: Callable[[int], None],
) -> None:
    """Decode every stretch once and in order into its rows, one per thread."""
    data, stop = source.data, Event()

    def decode(film: tuple[Stretch, slice]) -> int:
        """Decode one stretch, unless another one failed."""
        segment, rows = film
        clips = clip_frames(
            source.recordings.films[segment.film],
            source.clips[segment.name],
            data.clip_s,
            data.frames_per_clip,
            data.frame_size,
            start_s=segment.film_start_s,
            stop=stop,
        )
        for row, clip in zip(range(rows.start, rows.stop), clips, strict=True):
            if stop.is_set():
                break
            frames[row] = clip
        return rows.stop - rows.start

    for clips in threads.in_order(decode, films, stop=stop):
        release_pages(frames)
        advance(clips)
