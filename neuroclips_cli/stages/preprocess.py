"""preprocess: from films and runs to voxels, clips and frames (paper 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli import console
from neuroclips_cli.data import clip_table
from neuroclips_cli.data.brain_maps import write_maps
from neuroclips_cli.data.common_voxels import common_voxels, select_common
from neuroclips_cli.data.find_runs import RunSource, find_runs
from neuroclips_cli.data.input_checks import Recordings, open_recordings
from neuroclips_cli.data.layout import film_name, unseen_segments
from neuroclips_cli.data.quality_checks import QualityReport
from neuroclips_cli.data.readers.cc2017 import Cc2017
from neuroclips_cli.data.region_files import RegionFile, read_region_file, region_paths
from neuroclips_cli.data.responses import BLOCK, Responses, standardized_responses
from neuroclips_cli.data.run_table import RunRow, run_table_text, subject_number
from neuroclips_cli.data.runs import CiftiRun, Run
from neuroclips_cli.data.stimuli import clip_frames
from neuroclips_cli.data.stretches import (
    ARRAYS,
    Stretch,
    missing_runs,
    repetitions_of,
    stretches_of,
)
from neuroclips_cli.data.time_step import sidecars
from neuroclips_cli.data.viewers import VIEWERS
from neuroclips_cli.data.viewings import Viewing
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import human_size, text_digest
from neuroclips_cli.io.npy import release_pages
from neuroclips_cli.runs import disk_usage, manifest
from neuroclips_cli.runs.stage import Stage, open_stage, read_array, stage_folder
from neuroclips_cli.runtime import threads
from neuroclips_cli.settings.load import Settings, replace_settings
from neuroclips_cli.settings.schema import DataSettings
from neuroclips_cli.signal.clip_times import at_positions, span
from neuroclips_cli.signal.detrend import standardize, usable_columns
from neuroclips_cli.signal.quality import BlockQuality, RunQuality, combine_blocks, scan_block
from neuroclips_cli.signal.reproducibility import (
    Selection,
    mean_over_repetitions,
    select_voxels,
    voxel_reproducibility,
)
from neuroclips_cli.signal.training_statistics import RunStatistics, over_runs
from neuroclips_cli.simulation.provenance import shows_synthetic_films
from neuroclips_cli.stages._lag_scan import SeenFilm, facts, scan_lag, warning
from neuroclips_cli.stages._voxel_choice import (
    Candidates,
    ResponseBlocks,
    TrainingFilm,
    choose_voxels,
)

MEMORY = 1_200_000_000
"""Bytes that runs which can only be read whole may take at a time."""
ROWS = 64
"""Clips at a time where repetitions are averaged."""
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


@dataclass(frozen=True)
class _Source:
    """A subject's files, opened the same way everywhere.

    `runs` is the run table and where it is from, `stretches` the same by film; `recordings` holds
    every opened film and run (a CIFTI header takes a second to read); `checked` collects what is
    wrong with values; `others` are the subjects that voxels are compared with.
    """

    runs: RunSource
    stretches: tuple[Stretch, ...]
    data: DataSettings
    recordings: Recordings
    checked: QualityReport
    others: tuple[_Source, ...] = ()

    @property
    def clips(self) -> dict[str, int]:
        return self.recordings.clips

    @property
    def first(self) -> Run:
        return self.recordings.first

    def segments(self, array: str) -> tuple[Stretch, ...]:
        return tuple(stretch for stretch in self.stretches if stretch.array == array)

    def total_clips(self, array: str) -> int:
        return sum(self.clips[segment.name] for segment in self.segments(array))

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return clips and repetitions of each array."""
        return {
            array: (self.total_clips(array), repetitions_of(self.segments(array)))
            for array in ARRAYS
        }

    def shape(self, array: str, voxels: int) -> tuple[int, ...]:
        """Return the shape of an array of responses: (clips, repetitions[, window], voxels)."""
        window = (self.data.window,) if self.data.window > 1 else ()
        return (*self.sizes()[array], *window, voxels)

    def view(self, segment: Stretch, repetition: int) -> Viewing:
        """Return a run and when the segment was shown in it."""
        return self.recordings.viewings[segment.name, repetition]

    def threads(self, runs: int) -> int | None:
        """Return how many threads may each read some runs at a time; None for as usual."""
        if isinstance(self.first, CiftiRun):  # read in pieces
            return None
        size = 4 * self.first.volumes * len(self.first.columns) * runs
        return int(max(1, min(threads.workers(), MEMORY // max(size, 1))))


def run(settings: Settings, *, overwrite: bool = False) -> Path:
    """Select voxels, shift, standardize, cut into clips, decode the frames.

    Returns
    -------
    Path
        The stage folder (design section 2 lists its files).

    Raises
    ------
    UserError
        If the data set is incomplete or damaged, or no voxel answers reproducibly.
    """
    regions, runs = _find(settings)
    stretches = stretches_of(runs.rows)
    inputs = _inputs(runs, stretches, settings.data)
    others = _find_others(settings, regions)
    for number, found in others.items():
        names = _inputs(found, stretches_of(found.rows), settings.data)
        inputs |= {f"sub-{number}_{name}": path for name, path in names.items()}
    common = _common(settings)
    extra = _table_digest(runs)
    if common is not None:
        extra["common_voxels"] = text_digest(common.tolist())
    with open_stage(
        settings, "preprocess", inputs=inputs, extra=extra, overwrite=overwrite
    ) as stage:
        if not stage.up_to_date:
            source = _open_source(runs, stretches, settings, regions)
            source = replace(source, others=_open_others(source, others, settings, regions))
            stage.need_space(_size(settings, source))
            _preprocess(stage, source, common)
    return stage_folder(settings, "preprocess")


def _common(settings: Settings) -> NDArray[np.int64] | None:
    """Return the voxels in common of the subjects that ``data.common`` names, None if it does not.

    Their own preprocess may be this one, which is made anew: what it found reproducible stays.
    """
    folders = {}
    for subject in settings.data.common:
        folder = stage_folder(replace_settings(settings, {"run.subject": subject}), "preprocess")
        record = manifest.read(folder)
        if record is None or record["state"] != "done":
            raise UserError(
                f"data.common names subject {subject}, whose own preprocess is not finished: run "
                f"`neuroclips preprocess --subject {subject}` without --common first"
            )
        folders[subject] = folder
    return common_voxels(folders) if folders else None


def dry_run(settings: Settings) -> None:
    """Print the run table, what would be read and written, and how large; write nothing.

    Raises
    ------
    UserError
        As :func:`run`, as far as names and headers tell.
    """
    regions, runs = _find(settings)
    stretches = stretches_of(runs.rows)
    source = _open_source(runs, stretches, settings, regions)
    lines = run_table_text(_table_used(source), runs.folder).splitlines()
    header, *rows = [line.split("\t") for line in lines]
    console.table("Run table", header, rows)
    inputs = {path.resolve() for path in _inputs(runs, stretches, settings.data).values()}
    size = sum(path.stat().st_size for path in inputs)
    console.info(f"read: {len(inputs)} files, {human_size(size)}")
    shapes = {
        f"fmri_{array}": f"{clips} clips x {repetitions} repetitions"
        for array, (clips, repetitions) in source.sizes().items()
    }
    made = "; ".join(f"{name}: {shape}" for name, shape in shapes.items())
    console.info(
        f"written: {made}; {settings.data.window} volumes per clip, of the selected ones of "
        f"{len(source.first.columns)} voxels"
    )
    folder, size = stage_folder(settings, "preprocess"), int(_size(settings, source))
    console.info(f"written to {folder}: about {human_size(size)}, mostly frames and responses")
    for sentence in source.checked.warnings():
        console.warn(sentence)


def _find(settings: Settings) -> tuple[RegionFile | None, RunSource]:
    """Read the mask and find the runs."""
    data = settings.data
    regions = read_region_file(region_paths(data.mask)) if data.mask else None
    runs = find_runs(
        Path(settings.run.dataset),
        settings.run.subject,
        data,
        regions,
        tr_stated=settings.chosen_by_user("data.tr_s"),
    )
    for sentence in (runs.in_words, *runs.notes):
        console.info(sentence)
    return regions, runs


def _find_others(settings: Settings, regions: RegionFile | None) -> dict[int, RunSource]:
    """Find the runs of the subjects that voxels are compared with.

    Raises
    ------
    UserError
        If none is named, or the subject itself.
    """
    data, own = settings.data, settings.run.subject
    if data.selection != "intersubject":
        return {}
    if not data.other_subjects or own in data.other_subjects:
        raise UserError(
            f"data.selection = intersubject compares subject {own} with others: name them with "
            "--set data.other_subjects=2,3"
        )
    stated = settings.chosen_by_user("data.tr_s")
    dataset = Path(settings.run.dataset)
    return {
        number: find_runs(dataset, number, data, regions, tr_stated=stated)
        for number in data.other_subjects
    }


def _open_others(
    source: _Source,
    others: dict[int, RunSource],
    settings: Settings,
    regions: RegionFile | None,
) -> tuple[_Source, ...]:
    """Open other subjects' runs, whose voxels have to be the subject's."""
    opened = []
    for number, found in others.items():
        other = _open_source(found, stretches_of(found.rows), settings, regions)
        if not other.first.share_geometry(source.first):
            raise UserError(
                f"subject {number} has other voxels ({other.first.path}) than {source.first.path}: "
                "inter-subject correlation needs runs in one common space"
            )
        opened.append(other)
    return tuple(opened)


def _size(settings: Settings, source: _Source) -> float:
    return disk_usage.of_preprocess(settings, source.sizes(), len(source.first.columns))


def _table_digest(runs: RunSource) -> dict[str, str]:
    """Return what a layout's files say of the runs beside their names, as a digest.

    cc2017's say nothing, and a table of the user's own is an input itself.
    """
    if runs.table is not None or runs.layout == Cc2017.name:
        return {}
    return {"run_table": text_digest([run_table_text(runs.rows, runs.folder)])}


def _table_used(source: _Source) -> list[RunRow]:
    """Return the run table with what was read from films and headers."""
    rows = []
    for stretch in source.stretches:
        duration_s = source.clips[stretch.name] * source.data.clip_s
        for repetition, row in stretch.rows.items():
            seen = source.view(stretch, repetition)
            start_s, tr_s = seen.start_s, seen.tr_s
            rows.append(replace(row, scan_start_s=start_s, duration_s=duration_s, tr_s=tr_s))
    return rows


def _inputs(runs: RunSource, stretches: Sequence[Stretch], data: DataSettings) -> dict[str, Path]:
    """Name everything that is read."""
    inputs: dict[str, Path] = {}
    for segment in stretches:
        inputs[segment.name] = segment.film
        for repetition, row in segment.rows.items():
            name = f"{segment.name}_{repetition}"
            inputs[name] = row.files[0]
            for number, path in enumerate(row.files[1:], start=2):
                inputs[f"{name}_file{number}"] = path
            for word, side_file in (("mask", row.mask), ("confounds", row.confounds)):
                if side_file is not None:
                    inputs[f"{name}_{word}"] = side_file
            if row.scan_start_s is not None:
                for number, path in enumerate(sidecars(row.files[0])):
                    inputs[f"{name}_sidecar{number or ''}"] = path
    inputs |= {f"scenes{number or ''}": p for number, p in enumerate(_scenes(stretches))}
    side = {
        "subjects": stretches[0].film.with_name(VIEWERS),
        "captions": _captions(runs),
    }
    if runs.table is not None:
        side["runs"] = runs.table
    masks = region_paths(data.mask) if data.mask else ()
    for number, path in enumerate(masks):
        side["mask" if len(masks) == 1 else f"mask_{number + 1}"] = path
    return inputs | {name: path for name, path in side.items() if path.exists()}


def _scenes(stretches: Sequence[Stretch]) -> list[Path]:
    """Return the tables of film cuts, which lie beside the films."""
    folders = dict.fromkeys(stretch.film.parent for stretch in stretches)
    return [path for folder in folders if (path := folder / "scenes.csv").exists()]


def _captions(runs: RunSource) -> Path:
    """Return the table of captions, which lies in the data set's folder or beside the table."""
    return runs.folder / "captions.csv"


def _open_source(
    runs: RunSource,
    stretches: tuple[Stretch, ...],
    settings: Settings,
    regions: RegionFile | None,
) -> _Source:
    """Open all films and every run's header, so that what is wrong is said before the work."""
    total = len({row.run for row in runs.rows})
    with console.progress("open", total, unit="run") as advance:
        opened = open_recordings(
            stretches,
            settings.data,
            regions,
            tr_stated=settings.chosen_by_user("data.tr_s"),
            advance=advance,
        )
    checked = QualityReport()
    checked.files(opened.warnings)
    checked.films(opened.films.values())
    return _Source(runs, stretches, settings.data, opened, checked)


def _preprocess(stage: Stage, source: _Source, common: NDArray[np.int64] | None) -> None:
    recordings = source.recordings
    missing = {array: missing_runs(source.segments(array)) for array in ARRAYS}
    for array, names in missing.items():
        if names:
            word = "training" if array == "train" else array
            console.warn(f"missing {word} runs, averaged around: {', '.join(names)}")
    stage.fact("missing_test_runs", missing["test"])
    stage.fact("missing_training_runs", missing["train"])
    layout = {"name": source.runs.layout, "reason": source.runs.reason}
    stage.fact("layout", {**layout, "decisions": list(source.runs.notes)})
    steps = sorted({viewing.tr_s for viewing in recordings.viewings.values()})
    stage.fact("tr", {"seconds": steps, "source": recordings.steps})
    stage.fact("clips_without_response", recordings.dropped)
    films = list(dict.fromkeys(segment.film for segment in source.stretches))
    stage.fact("synthetic", shows_synthetic_films(source.runs.folder, films))
    stage.write_text("runs.tsv", run_table_text(_table_used(source), stage.folder))
    early = source.data.selection == "encoding"
    if early:
        _write_frames(stage, source)
    own, usable = _select(stage, source)
    _report_selection(stage, source, own, usable)
    selection, columns = own, source.first.columns
    if common is not None:
        selection = select_common(own, usable, columns, common)
        console.info(f"{len(common)} voxels in common are taken")
    wanted = int(selection.selected.sum())
    selection, usable = _write_test_responses(stage, source, selection, usable)
    if common is not None:
        select_common(own, usable, columns, common)
    silent = wanted - int(selection.selected.sum())
    stage.fact("voxels_without_test_signal", silent)
    stage.fact("voxels_selected", wanted - silent)
    _write_selection(stage, source, selection, usable, own.selected)
    _write_training_responses(stage, source, selection.selected)
    _report_values(stage, source)
    if not early:
        _write_frames(stage, source)
    _scan_lag(stage, source, selection)
    _write_clip_table(stage, source)


def _select(stage: Stage, source: _Source) -> tuple[Selection, NDArray[np.bool_]]:
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
        score = partial(_score, source)
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


def _training_films(stage: Stage, source: _Source) -> list[TrainingFilm]:
    """Return the training films, those held out for validation left out."""
    films = []
    for segment, rows in _rows(source, "train"):
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


def _scan_lag(stage: Stage, source: _Source, selection: Selection) -> None:
    """Note at which delay scans tell most of the clips; warn if the configured one is far off."""
    films = [
        SeenFilm(source.view(segment, min(segment.rows)), _frames_of(stage, rows))
        for segment, rows in _rows(source, "train")
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


def _same_film(source: _Source, segment: Stretch) -> list[tuple[_Source, Stretch]]:
    """Return the same stretch of film in the training runs of all other subjects."""
    return [
        (other, theirs)
        for other in source.others
        for theirs in other.segments("train")
        if theirs.split == "train"
        and theirs.film.resolve() == segment.film.resolve()
        and theirs.film_start_s == segment.film_start_s
    ]


def _response_blocks(seen: Sequence[tuple[_Source, Stretch]]) -> ResponseBlocks:
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


def _score(
    source: _Source, segment: Stretch
) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[int, RunQuality]]:
    """Read a segment's runs once, side by side and a block of voxels at a time.

    Returns the voxels' scores, which of them carry a signal in all repetitions, both while the
    film ran and in the responses to it, and what else is wrong with each repetition.
    """
    data, clips = source.data, source.clips[segment.name]
    viewings = {r: source.view(segment, r) for r in segment.rows}
    moments = _film_moments(source, segment)
    compared = len(viewings) >= TWICE and not _too_short(source, segment)
    cleaners = {r: viewing.cleaner(data) for r, viewing in viewings.items()}
    over = {r: viewing.reading(clips, data).over for r, viewing in viewings.items()}
    qualities: dict[int, list[BlockQuality]] = {repetition: [] for repetition in viewings}
    scores, usable = [], []
    for blocks in zip(*(viewing.run.blocks(BLOCK) for viewing in viewings.values()), strict=True):
        windows, good = [], np.ones(blocks[0][1].shape[1], bool)
        for repetition, (_columns, series) in zip(viewings, blocks, strict=True):
            qualities[repetition].append(quality := scan_block(series))
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


def _too_short(source: _Source, segment: Stretch) -> bool:
    """Tell whether a film, such as a trial of 3 s, is too short to correlate what it evoked."""
    shortest = min(map(len, _film_moments(source, segment).values()))
    return shortest < source.data.detrend_order + FEWEST_MOMENTS


def _film_moments(source: _Source, segment: Stretch) -> dict[int, NDArray[np.float64]]:
    """Return the same moments of film as positions in every repetition's run."""
    clips = source.clips[segment.name]
    viewings = {r: source.view(segment, r) for r in segment.rows}
    first = next(iter(viewings.values()))
    found = {
        repetition: viewing.film_positions(clips, source.data.clip_s, first)
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
    source: _Source, segment: Stretch, repetition: int, columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Standardized series of some voxels while the film ran, (moments, voxels)."""
    viewing = source.view(segment, repetition)
    series: NDArray[np.floating] = viewing.run.read()[:, columns]
    if clean := viewing.cleaner(source.data):
        series = clean(series)
    found = _at_moments(series, _film_moments(source, segment)[repetition], source.data)
    return standardize(found, source.data.detrend_order)[0]


def _report_selection(
    stage: Stage, source: _Source, selection: Selection, usable: NDArray[np.bool_]
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
            f"check the order of films and runs, or raise data.selection_p"
        )
    console.info(f"{count} of {selection.tested} voxels selected (p < {selection.p_threshold:.2g})")


def _write_selection(
    stage: Stage,
    source: _Source,
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


def _responses(
    source: _Source,
    selected: NDArray[np.bool_],
    array: NDArray[np.float32],
    of: tuple[Stretch, int, slice],
) -> Responses:
    """Write the responses of one run to its segment's clips into their rows of the array."""
    segment, repetition, rows = of
    viewing = source.view(segment, repetition)
    reading = viewing.reading(source.clips[segment.name], source.data)
    return standardized_responses(
        viewing.run,
        reading.over,
        selected,
        source.data.detrend_order,
        training=segment.array == "train",
        block=BLOCK,
        at=reading.at,
        method=reading.method,
        clean=viewing.cleaner(source.data),
        out=array[rows, repetition - 1],
    )


def _write_test_responses(
    stage: Stage, source: _Source, selection: Selection, usable: NDArray[np.bool_]
) -> tuple[Selection, NDArray[np.bool_]]:
    """Write the responses to the test films, which are read here for the first time.

    A voxel that has no signal in any repetition of a test film is left out, as those without a
    signal in a training run are: returns the selection without it.
    """
    shape = source.shape("test", int(selection.selected.sum()))
    with stage.open_array("fmri_test_repetitions.npy", shape, np.float32) as array:
        lost, _ = _fill_responses(source, "test", array, selection.selected)
        silent = np.zeros(shape[-1], bool)
        for segment, rows in _rows(source, "test"):
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
        return _write_test_responses(stage, source, replace(selection, selected=kept), still)
    _report_lost(stage, "voxels_without_signal", lost)
    return selection, usable


def _write_training_responses(stage: Stage, source: _Source, selected: NDArray[np.bool_]) -> None:
    shape = source.shape("train", int(selected.sum()))
    with stage.open_array("fmri_train.npy", shape, np.float32) as array:
        _, statistics = _fill_responses(source, "train", array, selected)
    _write_training_statistics(stage, source, statistics)


def _write_mean(stage: Stage, repetitions: NDArray[np.float32]) -> None:
    """Write the mean over the repetitions that there are."""
    shape = (repetitions.shape[0], *repetitions.shape[2:])
    with stage.open_array("fmri_test.npy", shape, np.float32) as mean:
        for start in range(0, len(repetitions), ROWS):
            part = repetitions[start : start + ROWS]
            mean[start : start + ROWS] = mean_over_repetitions(part)
            release_pages(mean)
            release_pages(repetitions)


def _report_lost(stage: Stage, fact: str, lost: dict[str, int]) -> None:
    if lost:
        names = ", ".join(f"{name} ({n})" for name, n in lost.items())
        console.warn(f"selected voxels without a signal in single runs: {names}")
    stage.fact(fact, lost)


def _report_values(stage: Stage, source: _Source) -> None:
    for sentence in (warnings := source.checked.warnings()):
        console.warn(sentence)
    stage.fact("warnings", warnings)


def _fill_responses(
    source: _Source, name: str, array: NDArray[np.float32], selected: NDArray[np.bool_]
) -> tuple[dict[str, int], list[RunStatistics]]:
    """Fill one array.

    Returns how many selected voxels have no signal in which runs, and the statistics of training
    runs.
    """
    lost: dict[str, int] = {}
    statistics: list[RunStatistics] = []
    todo = [
        (segment, repetition, rows)
        for segment, rows in _rows(source, name)
        for repetition in segment.rows
    ]
    word = "responses to training" if name == "train" else f"responses to {name}"
    with console.progress(word, len(todo), unit="run") as advance:
        work = partial(_responses, source, selected, array)
        results = threads.in_order(work, todo, threads=source.threads(1))
        for (segment, repetition, _), found in zip(todo, results, strict=True):
            if found.quality:
                source.checked.run(segment.runs[repetition], found.quality, len(selected))
            if found.statistics:
                statistics.append(found.statistics)
            if found.without_signal:
                lost[f"{segment.name}_{repetition}"] = found.without_signal
            release_pages(array)
            advance(1)
    _fill_missing(source, name, array)
    return lost, statistics


def _fill_missing(source: _Source, name: str, array: NDArray[np.float32]) -> None:
    """Fill repetitions that were not recorded: NaN of test films, else the mean of those that were.

    So every training film counts alike whatever its number of repetitions, and the mean over all
    is that over the recorded ones.
    """
    every = set(range(1, array.shape[1] + 1))
    for segment, rows in _rows(source, name):
        there = [repetition - 1 for repetition in segment.rows]
        for missing in every - set(segment.rows):
            array[rows, missing - 1] = np.nan if name == "test" else array[rows, there].mean(axis=1)
        release_pages(array)


def _write_training_statistics(
    stage: Stage, source: _Source, statistics: list[RunStatistics]
) -> None:
    """Write what ``decode`` knows of runs that are not finished yet."""
    longest = max(source.clips[segment.name] for segment in source.segments("train"))
    found = over_runs(statistics, longest)
    with stage.atomic("training_statistics.npz") as path:
        np.savez(path, **asdict(found))


def _rows(source: _Source, array: str) -> Iterator[tuple[Stretch, slice]]:
    """Yield every segment with its rows of an array."""
    start = 0
    for segment in source.segments(array):
        stop = start + source.clips[segment.name]
        yield segment, slice(start, stop)
        start = stop


def _write_frames(stage: Stage, source: _Source) -> None:
    data, films = source.data, source.recordings.films
    total = sum(source.total_clips(array) for array in ARRAYS)
    with console.progress("frames", total, unit="clip") as advance:
        for array in ARRAYS:
            size = data.frame_size
            shape = (source.total_clips(array), data.frames_per_clip, size, size, 3)
            with stage.open_array(f"frames_{array}.npy", shape, np.uint8) as frames:
                _decode_films(source, list(_rows(source, array)), frames, advance)
    decoders = {segment.name: films[segment.film].decoder for segment in source.stretches}
    stage.fact("film_decoders", decoders)


def _decode_films(
    source: _Source,
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


def _write_clip_table(stage: Stage, source: _Source) -> None:
    scenes = clip_table.read_scenes(*_scenes(source.stretches))
    path = _captions(source.runs)
    number = subject_number(source.runs.rows[0].subject)
    unseen = unseen_segments(source.stretches[0].film.parent, number)
    captions = clip_table.read_captions(path, unseen)
    counts = {array: source.total_clips(array) for array in ARRAYS}
    clip_table.check_captions(path, captions, counts)
    rows: list[Sequence[str]] = []
    data = source.data
    for array in ARRAYS:
        segments = [_clip_segment(source, segment) for segment in source.segments(array)]
        rows += clip_table.clip_rows(array, segments, data.clip_s, data.delay_s, scenes, captions)
    stage.write_csv("clips.csv", clip_table.COLUMNS, rows)


def _clip_segment(source: _Source, segment: Stretch) -> clip_table.ClipSegment:
    viewing = source.view(segment, min(segment.rows))
    return clip_table.ClipSegment(
        number=segment.number,
        name=film_name(segment.film),
        clips=source.clips[segment.name],
        film=segment.film.name,
        film_start_s=segment.film_start_s,
        held_out=segment.split == "val",
        volumes_per_s=1 / viewing.tr_s,
    )
