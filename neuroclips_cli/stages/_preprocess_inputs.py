"""What preprocess reads of a subject: run table, films and runs, opened once for all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neuroclips_cli import console
from neuroclips_cli.data.find_runs import RunSource, find_runs
from neuroclips_cli.data.input_checks import Recordings, open_recordings
from neuroclips_cli.data.parcel_means import ParcelMeans
from neuroclips_cli.data.quality_checks import QualityReport
from neuroclips_cli.data.readers.cc2017 import Cc2017
from neuroclips_cli.data.region_files import RegionFile, read_region_file, region_paths
from neuroclips_cli.data.run_table import RunRow, run_table_text
from neuroclips_cli.data.runs import CiftiRun, Run
from neuroclips_cli.data.stretches import (
    ARRAYS,
    Stretch,
    repetitions_of,
    stretches_of,
)
from neuroclips_cli.data.time_step import sidecars
from neuroclips_cli.data.viewers import VIEWERS
from neuroclips_cli.data.viewings import Viewing
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import text_digest
from neuroclips_cli.runtime import threads
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.settings.schema import DataSettings

MEMORY = 1_200_000_000
"""Bytes that runs which can only be read whole may take at a time."""


@dataclass(frozen=True)
class PreprocessSource:
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
    others: tuple[PreprocessSource, ...] = ()

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
        read = self.first.run if isinstance(self.first, ParcelMeans) else self.first
        size = 4 * read.volumes * len(read.columns) * runs
        return int(max(1, min(threads.workers(), MEMORY // max(size, 1))))


def find_subject(settings: Settings) -> tuple[RegionFile | None, RunSource]:
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


def find_others(settings: Settings, regions: RegionFile | None) -> dict[int, RunSource]:
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


def open_others(
    source: PreprocessSource,
    others: dict[int, RunSource],
    settings: Settings,
    regions: RegionFile | None,
) -> tuple[PreprocessSource, ...]:
    """Open other subjects' runs, whose voxels have to be the subject's."""
    opened = []
    for number, found in others.items():
        other = open_source(found, stretches_of(found.rows), settings, regions)
        if not other.first.share_geometry(source.first):
            raise UserError(
                f"subject {number} has other voxels ({other.first.path}) than {source.first.path}: "
                "inter-subject correlation needs runs in one common space"
            )
        opened.append(other)
    return tuple(opened)


def table_digest(runs: RunSource) -> dict[str, str]:
    """Return what a layout's files say of the runs beside their names, as a digest.

    cc2017's say nothing, and a table of the user's own is an input itself.
    """
    if runs.table is not None or runs.layout == Cc2017.name:
        return {}
    return {"run_table": text_digest([run_table_text(runs.rows, runs.folder)])}


def table_used(source: PreprocessSource) -> list[RunRow]:
    """Return the run table with what was read from films and headers."""
    rows = []
    for stretch in source.stretches:
        duration_s = source.clips[stretch.name] * source.data.clip_s
        for repetition, row in stretch.rows.items():
            seen = source.view(stretch, repetition)
            known = replace(
                row,
                scan_start_s=seen.start_s if row.scan_start_s is None else row.scan_start_s,
                duration_s=duration_s,
                tr_s=seen.tr_s,
                first_volume_s=seen.first_volume.seconds,
            )
            rows.append(known)
    return rows


def input_files(
    runs: RunSource, stretches: Sequence[Stretch], data: DataSettings
) -> dict[str, Path]:
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
    inputs |= {f"scenes{number or ''}": p for number, p in enumerate(scenes_files(stretches))}
    side = {
        "subjects": stretches[0].film.with_name(VIEWERS),
        "captions": captions_file(runs),
    }
    if runs.table is not None:
        side["runs"] = runs.table
    for word, text in (("mask", data.mask), ("parcels", data.parcels)):
        paths = region_paths(text) if text else ()
        for number, path in enumerate(paths):
            side[word if len(paths) == 1 else f"{word}_{number + 1}"] = path
    return inputs | {name: path for name, path in side.items() if path.exists()}


def scenes_files(stretches: Sequence[Stretch]) -> list[Path]:
    """Return the tables of film cuts, which lie beside the films."""
    folders = dict.fromkeys(stretch.film.parent for stretch in stretches)
    return [path for folder in folders if (path := folder / "scenes.csv").exists()]


def captions_file(runs: RunSource) -> Path:
    """Return the table of captions, which lies in the data set's folder or beside the table."""
    return runs.folder / "captions.csv"


def open_source(
    runs: RunSource,
    stretches: tuple[Stretch, ...],
    settings: Settings,
    regions: RegionFile | None,
) -> PreprocessSource:
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
    return PreprocessSource(runs, stretches, settings.data, opened, checked)


def rows_of(source: PreprocessSource, array: str) -> Iterator[tuple[Stretch, slice]]:
    """Yield every segment with its rows of an array."""
    start = 0
    for segment in source.segments(array):
        stop = start + source.clips[segment.name]
        yield segment, slice(start, stop)
        start = stop
