"""preprocess: from films and runs to voxels, clips and frames (paper 4.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli import console
from neuroclips_cli.data import clip_table
from neuroclips_cli.data.common_voxels import common_voxels, select_common
from neuroclips_cli.data.layout import film_name, unseen_segments
from neuroclips_cli.data.parcel_means import ParcelMeans
from neuroclips_cli.data.run_table import NOT_THERE, run_table_text, subject_number
from neuroclips_cli.data.stretches import (
    ARRAYS,
    Stretch,
    missing_runs,
    stretches_of,
)
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import human_size, text_digest
from neuroclips_cli.runs import disk_usage, manifest
from neuroclips_cli.runs.stage import Stage, open_stage, stage_folder
from neuroclips_cli.settings.load import Settings, replace_settings
from neuroclips_cli.simulation.provenance import shows_synthetic_films
from neuroclips_cli.stages._preprocess_arrays import (
    report_values,
    write_frames,
    write_test_responses,
    write_training_responses,
)
from neuroclips_cli.stages._preprocess_inputs import (
    PreprocessSource,
    captions_file,
    find_others,
    find_subject,
    input_files,
    open_others,
    open_source,
    scenes_files,
    table_digest,
    table_used,
)
from neuroclips_cli.stages._preprocess_selection import (
    record_lag_scan,
    report_selection,
    select,
    untested,
    write_selection,
)


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
    regions, runs = find_subject(settings)
    stretches = stretches_of(runs.rows)
    inputs = input_files(runs, stretches, settings.data)
    others = find_others(settings, regions)
    for number, found in others.items():
        names = input_files(found, stretches_of(found.rows), settings.data)
        inputs |= {f"sub-{number}_{name}": path for name, path in names.items()}
    common = _common(settings)
    extra = table_digest(runs)
    if common is not None:
        extra["common_voxels"] = text_digest(common.tolist())
    with open_stage(
        settings, "preprocess", inputs=inputs, extra=extra, overwrite=overwrite
    ) as stage:
        if not stage.up_to_date:
            source = open_source(runs, stretches, settings, regions)
            source = replace(source, others=open_others(source, others, settings, regions))
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
    regions, runs = find_subject(settings)
    stretches = stretches_of(runs.rows)
    source = open_source(runs, stretches, settings, regions)
    lines = run_table_text(table_used(source), runs.folder).splitlines()
    columns = list(zip(*(line.split("\t") for line in lines), strict=True))
    told = [column for column in columns if set(column[1:]) != {NOT_THERE}]
    header, *rows = zip(*told, strict=True)
    console.table("Run table", header, rows)
    inputs = {path.resolve() for path in input_files(runs, stretches, settings.data).values()}
    size = sum(path.stat().st_size for path in inputs)
    console.info(f"read: {len(inputs)} files, {human_size(size)}")
    shapes = {
        f"fmri_{array}": f"{clips} clips x {repetitions} repetitions"
        for array, (clips, repetitions) in source.sizes().items()
        if clips
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


def _size(settings: Settings, source: PreprocessSource) -> float:
    return disk_usage.of_preprocess(settings, source.sizes(), len(source.first.columns))


def _preprocess(stage: Stage, source: PreprocessSource, common: NDArray[np.int64] | None) -> None:
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
    firsts = {viewing.row.run: viewing.first_volume for viewing in recordings.viewings.values()}
    moments = sorted({first.seconds for first in firsts.values()})
    sources = dict(Counter(first.source for first in firsts.values()))
    stage.fact("first_volume", {"seconds": moments, "source": sources})
    stage.fact("clips_without_response", recordings.dropped)
    films = list(dict.fromkeys(segment.film for segment in source.stretches))
    stage.fact("synthetic", shows_synthetic_films(source.runs.folder, films))
    early = source.data.selection == "encoding" and bool(source.segments("train"))
    if early:
        write_frames(stage, source)
    if source.segments("train"):
        own, usable = select(stage, source)
        report_selection(stage, source, own, usable)
    else:
        own, usable = untested(source)
    selection, columns = own, source.first.columns
    if common is not None:
        selection = select_common(own, usable, columns, common)
        console.info(f"{len(common)} voxels in common are taken")
    wanted = int(selection.selected.sum())
    selection, usable = write_test_responses(stage, source, selection, usable)
    if common is not None:
        select_common(own, usable, columns, common)
    silent = wanted - int(selection.selected.sum())
    stage.fact("voxels_without_test_signal", silent)
    stage.fact("voxels_selected", wanted - silent)
    write_selection(stage, source, selection, usable, own.selected)
    if isinstance(source.first, ParcelMeans):
        stage.write_csv("parcels.csv", ["parcel", "name", "voxels"], source.first.table())
    if source.segments("train"):
        write_training_responses(stage, source, selection.selected)
    report_values(stage, source)
    if not early:
        write_frames(stage, source)
    record_lag_scan(stage, source, selection)
    stage.write_text("runs.tsv", run_table_text(table_used(source), stage.folder))
    _write_clip_table(stage, source)


def _write_clip_table(stage: Stage, source: PreprocessSource) -> None:
    scenes = clip_table.read_scenes(*scenes_files(source.stretches))
    path = captions_file(source.runs)
    number = subject_number(source.runs.rows[0].subject)
    unseen = unseen_segments(source.stretches[0].film.parent, number)
    captions = clip_table.read_captions(path, unseen)
    counts = {array: source.total_clips(array) for array in ARRAYS}
    captions = {clip: caption for clip, caption in captions.items() if counts.get(clip[0], 1)}
    clip_table.check_captions(path, captions, counts)
    rows: list[Sequence[str]] = []
    data = source.data
    for array in ARRAYS:
        segments = [_clip_segment(source, segment) for segment in source.segments(array)]
        rows += clip_table.clip_rows(array, segments, data.clip_s, data.delay_s, scenes, captions)
    stage.write_csv("clips.csv", clip_table.COLUMNS, rows)


def _clip_segment(source: PreprocessSource, segment: Stretch) -> clip_table.ClipSegment:
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
