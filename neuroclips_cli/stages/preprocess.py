"""preprocess: from films and runs to voxels, clips and frames (paper 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Event

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli import console
from neuroclips_cli.data import clip_table
from neuroclips_cli.data.brain_maps import write_maps
from neuroclips_cli.data.input_checks import Recordings, is_volumetric, open_recordings
from neuroclips_cli.data.layout import Layout, Segment, find_layout
from neuroclips_cli.data.quality_checks import QualityReport
from neuroclips_cli.data.region_files import RegionFile, read_region_file, region_paths
from neuroclips_cli.data.responses import BLOCK, Responses, standardized_responses
from neuroclips_cli.data.runs import Run
from neuroclips_cli.data.stimuli import clip_frames
from neuroclips_cli.data.time_step import require_one_volume_per_clip
from neuroclips_cli.data.viewers import VIEWERS
from neuroclips_cli.errors import UserError
from neuroclips_cli.runs import disk_usage
from neuroclips_cli.runs.stage import Stage, open_stage, stage_folder
from neuroclips_cli.runtime import threads
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.settings.schema import DataSettings
from neuroclips_cli.signal.detrend import standardize, usable_columns
from neuroclips_cli.signal.quality import BlockQuality, RunQuality, combine_blocks, scan_block
from neuroclips_cli.signal.reproducibility import (
    Selection,
    mean_over_repetitions,
    select_voxels,
    voxel_reproducibility,
)
from neuroclips_cli.signal.training_statistics import RunStatistics, over_runs
from neuroclips_cli.signal.windows import delay_in_volumes, film_window, response_window
from neuroclips_cli.simulation.provenance import shows_synthetic_films

SPLITS = ("train", "test")


@dataclass(frozen=True)
class _Source:
    """A subject's files, opened the same way everywhere.

    `recordings` holds every opened film and run (a CIFTI header takes a second to read);
    `checked` collects what is wrong with values.
    """

    layout: Layout
    data: DataSettings
    recordings: Recordings
    checked: QualityReport

    @property
    def clips(self) -> dict[str, int]:
        return self.recordings.clips

    @property
    def first(self) -> Run:
        return self.recordings.first

    def segments(self, split: str) -> tuple[Segment, ...]:
        return self.layout.train if split == "train" else self.layout.test

    def total_clips(self, split: str) -> int:
        return sum(self.clips[segment.name] for segment in self.segments(split))

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return clips and repetitions of each split."""
        repetitions = {"train": self.layout.train_repetitions, "test": self.layout.test_repetitions}
        return {split: (self.total_clips(split), repetitions[split]) for split in SPLITS}

    def open(self, segment: Segment, repetition: int) -> tuple[Run, int]:
        """Return a run and its number of leading volumes."""
        return self.recordings.runs[segment.name, repetition]


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
    dataset = Path(settings.run.dataset)
    if not settings.run.dataset or not dataset.is_dir():
        raise UserError(
            f"no dataset folder at '{settings.run.dataset}': give --dataset DIR, "
            f"or write one with `neuroclips simulate DIR`"
        )
    data = settings.data
    require_one_volume_per_clip(data)
    regions = read_region_file(region_paths(data.mask)) if data.mask else None
    volumetric = is_volumetric(regions, dataset, settings.run.subject)
    layout = find_layout(dataset, settings.run.subject, volumetric=volumetric, space=data.space)
    inputs = _inputs(dataset, layout, data)
    with open_stage(settings, "preprocess", inputs=inputs, overwrite=overwrite) as stage:
        if not stage.up_to_date:
            source = _open_source(layout, settings, regions)
            stage.need_space(
                disk_usage.of_preprocess(settings, source.sizes(), len(source.first.columns))
            )
            _preprocess(stage, source, dataset)
    return stage_folder(settings, "preprocess")


def _inputs(dataset: Path, layout: Layout, data: DataSettings) -> dict[str, Path]:
    inputs = {}
    for segment in (*layout.train, *layout.test):
        inputs[segment.name] = segment.film
        for repetition, path in segment.runs.items():
            inputs[f"{segment.name}_{repetition}"] = path
    side = {
        "scenes": _scenes(layout),
        "subjects": _scenes(layout).with_name(VIEWERS),
        "captions": dataset / "captions.csv",
    }
    masks = region_paths(data.mask) if data.mask else ()
    for number, path in enumerate(masks):
        side["mask" if len(masks) == 1 else f"mask_{number + 1}"] = path
    return inputs | {name: path for name, path in side.items() if path.exists()}


def _scenes(layout: Layout) -> Path:
    """Return the table of film cuts, which lies beside the films."""
    return layout.train[0].film.parent / "scenes.csv"


def _open_source(layout: Layout, settings: Settings, regions: RegionFile | None) -> _Source:
    """Open all films and every run's header, so that what is wrong is said before the work."""
    volumetric = layout.volumetric
    with console.progress("open", layout.run_count, unit="run") as advance:
        opened = open_recordings(
            layout,
            settings.data,
            regions,
            volumetric=volumetric,
            tr_stated=settings.chosen_by_user("data.tr_s"),
            advance=advance,
        )
    checked = QualityReport()
    checked.files(opened.warnings)
    checked.films(opened.films.values())
    return _Source(layout, settings.data, opened, checked)


def _preprocess(stage: Stage, source: _Source, dataset: Path) -> None:
    delay = delay_in_volumes(source.data.delay_s, source.data.tr_s, source.data.trailing_volumes)
    if source.layout.missing:
        console.warn(f"missing test runs, averaged around: {', '.join(source.layout.missing)}")
    stage.fact("missing_test_runs", list(source.layout.missing))
    films = [segment.film for segment in (*source.layout.train, *source.layout.test)]
    stage.fact("synthetic", shows_synthetic_films(dataset, films))
    selection, usable = _select(source, delay)
    _report_selection(stage, source, selection, usable)
    _write_selection(stage, source, selection, usable)
    _write_responses(stage, source, selection.selected, delay)
    _write_frames(stage, source)
    _write_clip_table(stage, source, dataset, delay)


def _select(source: _Source, delay: int) -> tuple[Selection, NDArray[np.bool_]]:
    """Test every voxel's reproducibility on the training runs; test runs are not looked at.

    Returns the selection and which voxels carry a signal in all training runs.
    """
    layout = source.layout
    usable = np.ones(len(source.first.columns), bool)
    lifeless = np.ones(len(usable), bool)
    scores = []
    runs = sum(len(s.runs) for s in layout.train)
    with console.progress("reproducibility", runs, unit="run") as advance:
        score = partial(_score, source, delay)
        for segment, (z, good, found) in zip(
            layout.train, threads.in_order(score, layout.train), strict=True
        ):
            for repetition, findings in found.items():
                source.checked.run(source.open(segment, repetition)[0].path, findings, len(usable))
                lifeless &= findings.lifeless
                advance(1)
            usable &= good
            scores.append(z)
    source.checked.twins(layout.train, np.array(scores), usable, partial(_film_series, source))
    source.checked.lifeless_everywhere(lifeless)
    region, level = source.recordings.region, source.data.selection_p
    selection = select_voxels(
        np.array(scores), level, usable=usable, region=region, tested=~lifeless
    )
    return selection, usable


def _score(
    source: _Source, delay: int, segment: Segment
) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[int, RunQuality]]:
    """Read a segment's runs once, side by side and a block of voxels at a time.

    Returns the voxels' scores, which of them carry a signal in all repetitions, both while the
    film ran and in the responses to it, and what else is wrong with each repetition.
    """
    order, clips = source.data.detrend_order, source.clips[segment.name]
    runs = {r: source.open(segment, r) for r in sorted(segment.runs)}
    qualities: dict[int, list[BlockQuality]] = {repetition: [] for repetition in runs}
    scores, usable = [], []
    for blocks in zip(*(opened.blocks(BLOCK) for opened, _ in runs.values()), strict=True):
        windows, good = [], np.ones(blocks[0][1].shape[1], bool)
        for (repetition, (_, leading)), (_columns, series) in zip(
            runs.items(), blocks, strict=True
        ):
            qualities[repetition].append(quality := scan_block(series))
            windows.append(series[film_window(leading, clips)])
            response = series[response_window(leading, clips, delay)]
            # Where the first and last value differ, nothing is constant: no need to look again.
            doubtful = ~quality.finite | (response[0] == response[-1])
            good[doubtful] &= usable_columns(response[:, doubtful])
            good &= ~quality.saturated
        z, varying = voxel_reproducibility(windows, order)
        scores.append(z)
        usable.append(good & varying)
    found = {repetition: combine_blocks(seen) for repetition, seen in qualities.items()}
    return np.concatenate(scores), np.concatenate(usable), found


def _film_series(
    source: _Source, segment: Segment, repetition: int, columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Standardized series of some voxels while the film ran, (clips, voxels)."""
    opened, leading = source.open(segment, repetition)
    series = opened.read()[film_window(leading, source.clips[segment.name])][:, columns]
    return standardize(series, source.data.detrend_order)[0]


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
    if not count:
        best = int(np.argmax(np.where(usable, selection.t, -np.inf)))
        where = " inside the region mask" if source.data.mask else ""
        raise UserError(
            f"no voxel of {selection.tested}{where} answers reproducibly: the best one has a mean "
            f"correlation of {np.tanh(selection.mean_z[best]):.3f} between repetitions, "
            f"t = {selection.t[best]:.2f} over {len(source.layout.train)} segments and "
            f"p = {selection.p[best]:.2g} where p < {selection.p_threshold:.2g} is needed; "
            f"check the order of films and runs, or raise data.selection_p"
        )
    console.info(f"{count} of {selection.tested} voxels selected (p < {selection.p_threshold:.2g})")


def _write_selection(
    stage: Stage, source: _Source, selection: Selection, usable: NDArray[np.bool_]
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
            excluded=~usable,
        )
    maps = {
        "mean_z": selection.mean_z,
        "t": selection.t,
        "p": selection.p,
        "selected": selection.selected,
    }
    mask = source.recordings.mask
    suffix = ".dscalar.nii" if mask is None else ".nii"
    with stage.atomic(f"selection{suffix}") as path:
        write_maps(path, source.first, mask, maps)


def _responses(
    source: _Source, selected: NDArray[np.bool_], delay: int, of: tuple[Segment, int]
) -> Responses:
    """Return the responses of one run to its segment's clips: clip k goes with volume k + delay."""
    segment, repetition = of
    opened, leading = source.open(segment, repetition)
    window = response_window(leading, source.clips[segment.name], delay)
    training, order = segment.split == "train", source.data.detrend_order
    return standardized_responses(opened, window, selected, order, training=training, block=BLOCK)


def _write_responses(
    stage: Stage, source: _Source, selected: NDArray[np.bool_], delay: int
) -> None:

    layout, voxels = source.layout, int(selected.sum())
    train, test = source.total_clips("train"), source.total_clips("test")
    runs = sum(len(s.runs) for s in (*layout.train, *layout.test))
    with (
        console.progress("responses", runs, unit="run") as advance,
        stage.open_array(
            "fmri_train.npy", (train, layout.train_repetitions, voxels), np.float32
        ) as fmri_train,
        stage.open_array(
            "fmri_test_repetitions.npy", (test, layout.test_repetitions, voxels), np.float32
        ) as fmri_test,
    ):
        fmri_test[:] = np.nan
        lost: dict[str, int] = {}
        statistics: list[RunStatistics] = []
        for array, split in ((fmri_train, "train"), (fmri_test, "test")):
            lost |= _fill_responses(source, split, array, selected, delay, advance, statistics)
        _write_training_statistics(stage, source, statistics)
        if lost:
            names = ", ".join(f"{name} ({n})" for name, n in lost.items())
            console.warn(f"selected voxels without a signal in single runs: {names}")
        stage.fact("voxels_without_signal", lost)
        for segment, rows in _rows(source, "test"):
            source.checked.repetitions(segment, fmri_test[rows])
        for sentence in (warnings := source.checked.warnings()):
            console.warn(sentence)
        stage.fact("warnings", warnings)
        stage.write_array("fmri_test.npy", mean_over_repetitions(fmri_test))


def _fill_responses(
    source: _Source,
    split: str,
    array: NDArray[np.float32],
    selected: NDArray[np.bool_],
    delay: int,
    advance: Callable[[int], None],
    statistics: list[RunStatistics],
) -> dict[str, int]:
    """Fill one split's array, and append the statistics of training runs.

    Returns how many selected voxels have no signal in which runs.
    """
    lost: dict[str, int] = {}
    rows = {segment.name: where for segment, where in _rows(source, split)}
    todo = [(segment, r) for segment in source.segments(split) for r in segment.runs]
    results = threads.in_order(partial(_responses, source, selected, delay), todo)
    for (segment, repetition), found in zip(todo, results, strict=True):
        if found.quality:
            path = source.open(segment, repetition)[0].path
            source.checked.run(path, found.quality, len(selected))
        if found.statistics:
            statistics.append(found.statistics)
        array[rows[segment.name], repetition - 1] = found.z
        if found.without_signal:
            lost[f"{segment.name}_{repetition}"] = found.without_signal
        advance(1)
    return lost


def _write_training_statistics(
    stage: Stage, source: _Source, statistics: list[RunStatistics]
) -> None:
    """Write what ``decode`` knows of runs that are not finished yet."""
    longest = max(source.clips[segment.name] for segment in source.layout.train)
    found = over_runs(statistics, longest)
    with stage.atomic("training_statistics.npz") as path:
        np.savez(path, **asdict(found))


def _rows(source: _Source, split: str) -> Iterator[tuple[Segment, slice]]:
    """Yield every segment with its rows of the split's arrays."""
    start = 0
    for segment in source.segments(split):
        stop = start + source.clips[segment.name]
        yield segment, slice(start, stop)
        start = stop


def _write_frames(stage: Stage, source: _Source) -> None:
    data, films = source.data, source.recordings.films
    total = sum(source.total_clips(split) for split in SPLITS)
    with console.progress("frames", total, unit="clip") as advance:
        for split in SPLITS:
            size = data.frame_size
            shape = (source.total_clips(split), data.frames_per_clip, size, size, 3)
            with stage.open_array(f"frames_{split}.npy", shape, np.uint8) as frames:
                _decode_films(source, list(_rows(source, split)), frames, advance)
    stage.fact("film_decoders", {name: film.decoder for name, film in films.items()})


def _decode_films(
    source: _Source,
    films: Sequence[tuple[Segment, slice]],
    frames: NDArray[np.uint8],
    advance: Callable[[int], None],
) -> None:
    """Decode every film once and in order into its rows, one film per thread."""
    data, stop = source.data, Event()

    def decode(film: tuple[Segment, slice]) -> int:
        """Decode one film, unless another one failed."""
        segment, rows = film
        clips = clip_frames(
            source.recordings.films[segment.name],
            source.clips[segment.name],
            data.clip_s,
            data.frames_per_clip,
            data.frame_size,
            stop=stop,
        )
        for row, clip in zip(range(rows.start, rows.stop), clips, strict=True):
            if stop.is_set():
                break
            frames[row] = clip
        return rows.stop - rows.start

    for clips in threads.in_order(decode, films, stop=stop):
        advance(clips)


def _write_clip_table(stage: Stage, source: _Source, dataset: Path, delay: int) -> None:
    scenes = clip_table.read_scenes(_scenes(source.layout))
    captions = clip_table.read_captions(dataset / "captions.csv", source.layout.unseen)
    counts = {split: source.total_clips(split) for split in SPLITS}
    clip_table.check_captions(dataset / "captions.csv", captions, counts)
    rows: list[Sequence[str]] = []
    for split in SPLITS:
        lengths = [(s.number, s.name, source.clips[s.name]) for s in source.segments(split)]
        rows += clip_table.clip_rows(split, lengths, source.data.clip_s, delay, scenes, captions)
    stage.write_csv("clips.csv", clip_table.COLUMNS, rows)
