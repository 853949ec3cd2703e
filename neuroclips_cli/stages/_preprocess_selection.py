"""Which voxels preprocess keeps, by the training films alone (paper 4.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli import console
from neuroclips_cli.data.brain_maps import write_maps
from neuroclips_cli.data.responses import BLOCK
from neuroclips_cli.data.runs import CiftiRun
from neuroclips_cli.data.stretches import Stretch
from neuroclips_cli.data.structures import without_prefix
from neuroclips_cli.errors import UserError
from neuroclips_cli.runs.stage import Stage, read_array
from neuroclips_cli.runtime import threads
from neuroclips_cli.settings.schema import DataSettings
from neuroclips_cli.signal.clip_times import at_positions, next_volume_s, span
from neuroclips_cli.signal.detrend import standardize, usable_columns
from neuroclips_cli.signal.quality import (
    BlockQuality,
    RunQuality,
    combine_blocks,
    sampled_columns,
    scan_block,
)
from neuroclips_cli.signal.reproducibility import (
    Selection,
    select_voxels,
    voxel_reproducibility,
)
from neuroclips_cli.signal.selection import choose_all
from neuroclips_cli.stages._lag_scan import SeenFilm, facts, scan_lag, warning
from neuroclips_cli.stages._preprocess_inputs import PreprocessSource, rows_of
from neuroclips_cli.stages._voxel_choice import (
    Candidates,
    ResponseBlocks,
    TrainingFilm,
    choose_voxels,
)

FEWEST_MOMENTS = 3
"""Volumes of a film, beyond the order of its polynomial, that a correlation needs."""
TWICE = 2
"""Repetitions that a stretch of film needs for its voxels' reproducibility."""
ANSWERS = {
    "reproducibility": ("answers reproducibly", "between repetitions"),
    "test-reliability": ("answers reproducibly", "between repetitions"),
    "encoding": ("follows the films' features", "with what they predict"),
    "intersubject": ("answers as other subjects' do", "with them"),
}
"""What a chosen voxel does, and what its correlation is of."""


def select(stage: Stage, source: PreprocessSource) -> tuple[Selection, NDArray[np.bool_]]:
    """Choose voxels by the training runs; test runs are not looked at.

    Returns the selection and which voxels carry a signal in all training runs.
    """
    how, segments = source.data.selection, source.segments("train")
    repeated = [s for s in segments if s.split == "train" and len(s.rows) >= TWICE]
    tested = [s for s in repeated if not _too_short(source, s)]
    if how == "reproducibility" and len(tested) < len(repeated):
        short = next(s for s in repeated if s not in tested)
        raise UserError(
            f"{short.film} was on for a few volumes only, too few for the correlation of its "
            "repetitions: choose voxels in another way, with data.selection = atlas, "
            "test-reliability, encoding or intersubject"
        )
    if how == "reproducibility" and len(tested) < TWICE:
        raise UserError(
            f"{len(tested)} training films were seen at least twice, and the reproducibility of "
            "voxels needs two of them: choose voxels in another way, with data.selection = atlas, "
            "test-reliability, encoding or intersubject"
        )
    usable = np.ones(len(source.first.columns), bool)
    lifeless = np.ones(len(usable), bool)
    scores = []
    runs = sum(len(s.rows) for s in segments)
    most = max(len(s.rows) for s in segments)
    word = "reproducibility" if how == "reproducibility" else "training runs"
    with console.progress(word, runs, unit="run") as advance:
        score = partial(_score, source, _Seen())
        results = threads.in_order(score, segments, threads=source.threads(most))
        for segment, (z, good, found) in zip(segments, results, strict=True):
            for repetition, findings in found.items():
                source.checked.run(segment.runs[repetition], findings, len(usable))
                lifeless &= findings.lifeless
                advance(1)
            usable &= good
            if segment in tested:
                scores.append(z)
    if len(tested) >= TWICE:
        source.checked.twins(tested, np.array(scores), usable, partial(_film_series, source))
    source.checked.lifeless_everywhere(lifeless)
    region, level = source.recordings.region, source.data.selection_p
    if how == "reproducibility":
        z = np.array(scores)
        return select_voxels(z, level, usable=usable, region=region, tested=~lifeless), usable
    among = Candidates(usable, ~lifeless, region, level, source.data.detrend_order)
    return choose_voxels(how, _training_films(stage, source), among), usable


def untested(source: PreprocessSource) -> tuple[Selection, NDArray[np.bool_]]:
    """Return that nothing was measured of a subject without training runs, as :func:`select`."""
    count = len(source.first.columns)
    nothing, usable = np.zeros(count, bool), np.ones(count, bool)
    return choose_all(usable=usable, region=nothing, tested=nothing), usable


def _training_films(stage: Stage, source: PreprocessSource) -> list[TrainingFilm]:
    """Return the training films, those held out for validation left out."""
    films = []
    for segment, rows in rows_of(source, "train"):
        if segment.split == "train":
            film = TrainingFilm(
                name=segment.name,
                repetitions=len(segment.rows),
                responses=partial(_response_blocks, [(source, segment)]),
                frames=partial(_frames_of, stage, rows),
                others=partial(_response_blocks, _same_film(source, segment)),
            )
            films.append(film)
    return films


def record_lag_scan(stage: Stage, source: PreprocessSource, selection: Selection) -> None:
    """Note at which delay scans tell most of the clips; warn if the configured one is far off."""
    films = [
        SeenFilm(source.view(segment, min(segment.rows)), _frames_of(stage, rows))
        for segment, rows in rows_of(source, "train")
        if segment.split == "train"
    ]
    found = scan_lag(films, selection, source.data) if films else None
    stage.fact("lag_scan", None if found is None else facts(found))
    if found is not None and (sentence := warning(found, source.data, films[0].viewing.tr_s)):
        console.warn(sentence)
        stage.fact("warnings", [*stage.record["facts"]["warnings"], sentence])


def _frames_of(stage: Stage, rows: slice) -> NDArray[np.uint8]:
    """Return some training clips that were written already."""
    frames: NDArray[np.uint8] = read_array(stage.folder / "frames_train.npy")[rows]
    return frames


def _same_film(
    source: PreprocessSource, segment: Stretch
) -> list[tuple[PreprocessSource, Stretch]]:
    """Return the same stretch of film in the training runs of all other subjects."""
    return [
        (other, theirs)
        for other in source.others
        for theirs in other.segments("train")
        if theirs.split == "train"
        and theirs.film.resolve() == segment.film.resolve()
        and theirs.film_start_s == segment.film_start_s
    ]


def _response_blocks(seen: Sequence[tuple[PreprocessSource, Stretch]]) -> ResponseBlocks:
    """Yield the standardized responses of runs that showed one film, a block of voxels at a time.

    Of a window of several volumes the middle one is read.
    """
    runs = []
    for source, segment in seen:
        data, clips = replace(source.data, window=1), source.clips[segment.name]
        for repetition in segment.rows:
            viewing = source.view(segment, repetition)
            clean = viewing.cleaner(data)
            runs.append((viewing.run, viewing.reading(clips, data), clean, data.detrend_order))
    for blocks in zip(*(run.blocks(BLOCK) for run, *_ in runs), strict=True):
        found: list[NDArray[np.floating]] = []
        for (_, reading, clean, order), (_, series) in zip(runs, blocks, strict=True):
            cleaned = series if clean is None else clean(series)
            z, good = standardize(cleaned[reading.over], order)
            found.append(
                np.where(good, at_positions(z, reading.at.ravel(), reading.method), np.nan)
            )
        yield blocks[0][0], found


class _Seen:
    """By run: which voxels carry a signal, and what else was seen; looked through once each."""

    def __init__(self) -> None:
        self._locks: dict[object, Lock] = {}
        self._found: dict[object, tuple[NDArray[np.bool_], RunQuality]] = {}

    def of(
        self, run: object, look: Callable[[], tuple[NDArray[np.bool_], RunQuality]]
    ) -> tuple[NDArray[np.bool_], RunQuality]:
        """Return what is known of a run; another thread that looks at it is waited for."""
        with self._locks.setdefault(run, Lock()):
            if run not in self._found:
                self._found[run] = look()
            return self._found[run]


def _score(
    source: PreprocessSource, known: _Seen, segment: Stretch
) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[int, RunQuality]]:
    """Read a segment's runs once, side by side and a block of voxels at a time.

    Where nothing is compared and runs are standardized as a whole, what was found of a run is
    ``known`` from its other segments, which may be hundreds of trials.

    Returns the voxels' scores, which of them carry a signal in all repetitions, both while the
    film ran and in the responses to it, and what else is wrong with each repetition.
    """
    compared = len(segment.rows) >= TWICE and not _too_short(source, segment)
    if compared or source.data.standardize != "run":
        return _scan(source, segment, tuple(segment.rows), compared=compared)

    def look(repetition: int) -> tuple[NDArray[np.bool_], RunQuality]:
        _, good, seen = _scan(source, segment, (repetition,), compared=False)
        return good, seen[repetition]

    usable, found = np.ones(len(source.first.columns), bool), {}
    for repetition, row in segment.rows.items():
        good, found[repetition] = known.of((row.run, row.confounds), partial(look, repetition))
        usable &= good
    return np.zeros(len(usable)), usable, found


def _scan(
    source: PreprocessSource, segment: Stretch, repetitions: Sequence[int], *, compared: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[int, RunQuality]]:
    """Read some of a segment's runs side by side; see :func:`_score`."""
    data, clips = source.data, source.clips[segment.name]
    viewings = {r: source.view(segment, r) for r in repetitions}
    moments = _film_moments(source, segment)
    cleaners = {r: viewing.cleaner(data) for r, viewing in viewings.items()}
    over = {r: viewing.reading(clips, data).over for r, viewing in viewings.items()}
    qualities: dict[int, list[BlockQuality]] = {repetition: [] for repetition in viewings}
    scores, usable = [], []
    for blocks in zip(*(viewing.run.blocks(BLOCK) for viewing in viewings.values()), strict=True):
        windows, good = [], np.ones(blocks[0][1].shape[1], bool)
        sample = sampled_columns(blocks[0][0], len(source.first.columns))
        for repetition, (_columns, series) in zip(viewings, blocks, strict=True):
            qualities[repetition].append(quality := scan_block(series, sample))
            clean = cleaners[repetition]
            cleaned = series if clean is None else clean(series)
            if compared:
                windows.append(_at_moments(cleaned, moments[repetition], data))
            response = cleaned[over[repetition]]
            # Where the first and last value differ, nothing is constant: no need to look again.
            doubtful = ~quality.finite | (response[0] == response[-1])
            good[doubtful] &= usable_columns(response[:, doubtful])
            good &= ~quality.saturated
        z = np.zeros(len(good))
        if compared:
            z, varying = voxel_reproducibility(windows, data.detrend_order)
            good &= varying
        scores.append(z)
        usable.append(good)
    found = {repetition: combine_blocks(seen) for repetition, seen in qualities.items()}
    return np.concatenate(scores), np.concatenate(usable), found


def _too_short(source: PreprocessSource, segment: Stretch) -> bool:
    """Tell whether a film, such as a trial of 3 s, is too short to correlate what it evoked."""
    shortest = min(map(len, _film_moments(source, segment).values()))
    return shortest < source.data.detrend_order + FEWEST_MOMENTS


def _film_moments(source: PreprocessSource, segment: Stretch) -> dict[int, NDArray[np.float64]]:
    """Return the same moments of film as positions in every repetition's run."""
    clips = source.clips[segment.name]
    viewings = {r: source.view(segment, r) for r in segment.rows}
    first = next(iter(viewings.values()))
    measured_s = max(0.0, *(-viewing.start_s for viewing in viewings.values()))
    first_s = next_volume_s(first.start_s, first.tr_s, measured_s)
    found = {
        repetition: viewing.film_positions(clips, source.data.clip_s, first, first_s)
        for repetition, viewing in viewings.items()
    }
    shortest = min(map(len, found.values()))
    return {repetition: positions[:shortest] for repetition, positions in found.items()}


def _at_moments(
    series: NDArray[np.floating], positions: NDArray[np.float64], data: DataSettings
) -> NDArray[np.float32]:
    """Return a run's series at some moments, float32 (moments, voxels)."""
    inside = span(positions)
    found = at_positions(series[inside], positions - inside.start, data.interpolation)
    return np.asarray(found, np.float32)


def _film_series(
    source: PreprocessSource, segment: Stretch, repetition: int, columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Standardized series of some voxels while the film ran, (moments, voxels)."""
    viewing = source.view(segment, repetition)
    series: NDArray[np.floating] = viewing.run.read()[:, columns]
    if clean := viewing.cleaner(source.data):
        series = clean(series)
    found = _at_moments(series, _film_moments(source, segment)[repetition], source.data)
    return standardize(found, source.data.detrend_order)[0]


def report_selection(
    stage: Stage, source: PreprocessSource, selection: Selection, usable: NDArray[np.bool_]
) -> None:
    """Tell how many voxels were found; none is an error that says how good the best were."""
    count, excluded = int(selection.selected.sum()), int((~usable).sum())
    stage.fact("voxels_tested", selection.tested)
    stage.fact("voxels_excluded", excluded)
    stage.fact("voxels_selected", count)
    if some := excluded - (len(usable) - selection.tested):
        console.warn(f"{some} voxels are constant or not finite in some training run: excluded")
    if not count and source.data.selection == "atlas":
        raise UserError(
            f"none of {selection.tested} voxels lies in the mask and carries a signal in every "
            "training run: check data.mask and data.regions"
        )
    if not count:
        best = int(np.argmax(np.where(usable, selection.t, -np.inf)))
        where = " inside the region mask" if source.data.mask else ""
        raise UserError(
            f"no voxel of {selection.tested}{where} {ANSWERS[source.data.selection][0]}: the best "
            f"one has a mean correlation of {np.tanh(selection.mean_z[best]):.3f} "
            f"{ANSWERS[source.data.selection][1]}, "
            f"t = {selection.t[best]:.2f} over {len(source.segments('train'))} segments and "
            f"p = {selection.p[best]:.2g} where p < {selection.p_threshold:.2g} is needed; "
            "check the order of films and runs, raise data.selection_p, or choose voxels in "
            "another way (data.selection)"
        )
    console.info(f"{count} of {selection.tested} voxels selected (p < {selection.p_threshold:.2g})")


def write_selection(
    stage: Stage,
    source: PreprocessSource,
    selection: Selection,
    usable: NDArray[np.bool_],
    reproducible: NDArray[np.bool_],
) -> None:

    columns = source.first.columns
    with stage.atomic("selection.npz") as path:
        np.savez_compressed(
            path,
            index=columns[selection.selected],
            columns=columns,
            mean_z=selection.mean_z,
            t=selection.t,
            p=selection.p,
            selected=selection.selected,
            reproducible=reproducible,
            excluded=~usable,
        )
    if isinstance(source.first, CiftiRun):
        names = map(without_prefix, source.first.models.name[selection.selected].tolist())
        stage.fact("voxels_by_structure", dict(Counter(names)))
    maps = {
        "mean_z": selection.mean_z,
        "t": selection.t,
        "p": selection.p,
        "selected": selection.selected,
        "excluded": ~usable,
    }
    mask = source.recordings.mask
    suffix = ".dscalar.nii" if mask is None else ".nii"
    with stage.atomic(f"selection{suffix}") as path:
        write_maps(path, source.first, mask, maps)
