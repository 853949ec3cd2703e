"""Open all films and runs of a subject, so that what is wrong is said before the work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.parcel_means import ParcelMeans, find_parcels
from neuroclips_cli.data.region_files import RegionFile, read_region_file, region_paths
from neuroclips_cli.data.regions import inside_models, inside_volume
from neuroclips_cli.data.run_table import RunRow
from neuroclips_cli.data.runs import Run, VolumeMask, is_volumetric, open_row, read_grid
from neuroclips_cli.data.slice_timing import FirstVolume
from neuroclips_cli.data.stimuli import Stimulus, open_stimulus, whole_clips
from neuroclips_cli.data.stretches import Stretch
from neuroclips_cli.data.time_step import (
    TOLERANCE_S,
    HeaderStep,
    TimeStep,
    compare_steps,
    disagreements,
    first_volume_of,
    require_one_volume_per_clip,
    time_step,
)
from neuroclips_cli.data.viewings import Viewing
from neuroclips_cli.data.volume_grid import in_words, same_grid
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.schema import DataSettings
from neuroclips_cli.signal import clip_times
from neuroclips_cli.signal.windows import leading_volumes

CONVENTION = "cc2017's convention"
"""Source of the first volume's time of runs that follow it."""
PROFILE = "profile"
"""Source of the time step of runs that follow cc2017's convention, where the user states none."""


@dataclass(frozen=True)
class Recordings:
    """A subject's opened files.

    Attributes
    ----------
    films : dict
        Path -> film.
    clips : dict
        Stretch's name -> number of clips.
    viewings : dict
        (Stretch's name, repetition) -> run, and when the stretch was shown in it.
    first : Run
        The run whose voxels all others have.
    mask : bool (x, y, z) or None
        Of volumetric runs.
    region : bool (voxels,) or None
        Vertices and voxels inside the user's mask, of CIFTI and surface runs; None: all.
    warnings : tuple of str
        What was found wrong and how it was decided.
    steps : dict
        Source of the time between volumes -> number of runs.
    dropped : dict
        Stretch's name -> clips at its end that no run has a response to.
    """

    films: dict[Path, Stimulus]
    clips: dict[str, int]
    viewings: dict[tuple[str, int], Viewing]
    first: Run
    mask: NDArray[np.bool_] | None
    region: NDArray[np.bool_] | None
    warnings: tuple[str, ...]
    steps: dict[str, int]
    dropped: dict[str, int]


def open_recordings(
    stretches: Sequence[Stretch],
    data: DataSettings,
    regions: RegionFile | None,
    *,
    tr_stated: bool,
    advance: Callable[[int], None],
) -> Recordings:
    """Open all films and every run's header.

    Parameters
    ----------
    stretches
        The run table, grouped.
    data
        Everything about timing; ``detrend_order``, ``regions``.
    regions
        The user's mask, or None.
    tr_stated
        The user set ``data.tr_s``.
    advance
        Called with the number of runs opened.

    Raises
    ------
    UserError
        If a file is damaged, lies on a different grid, or its length contradicts its film's.
    """
    films = {film: open_stimulus(film) for film in dict.fromkeys(s.film for s in stretches)}
    rows = [row for stretch in stretches for row in stretch.rows.values()]
    mask, notes = volume_mask(rows, regions, data)
    runs = _open_runs(rows, mask, data.structures, advance)
    first = runs[rows[0].run]
    steps, warnings = _time_steps(stretches, films, runs, data, stated=tr_stated)
    viewings, clips, dropped = {}, {}, {}
    for stretch in stretches:
        film = films[stretch.film]
        seen = {
            repetition: _viewing(row, film, runs[row.run], steps[row.run], data)
            for repetition, row in stretch.rows.items()
        }
        shown = _clips_shown(stretch, film, seen, data)
        answered = {r: _clips_answered(viewing, shown, data) for r, viewing in seen.items()}
        clips[stretch.name] = min(answered.values())
        if lost := shown - clips[stretch.name]:
            dropped[stretch.name] = lost
            if not clips[stretch.name]:
                shortest = min(answered, key=lambda r: answered[r])
                raise UserError(
                    f"{stretch.runs[shortest]} ends before any response to {stretch.name} does: "
                    "correct scan_start_s, or leave the run out"
                )
        for repetition, viewing in seen.items():
            viewings[stretch.name, repetition] = viewing
    for stretch in stretches:
        for repetition in stretch.rows:
            _check_length(stretch, viewings[stretch.name, repetition], clips[stretch.name], data)
    if data.standardize == "run":
        _check_splits(stretches)
    region = None
    models = getattr(first, "models", None)
    if regions is not None and models is not None:
        found = inside_models(regions, data.regions, models)
        region, notes = found.mask, (*notes, *found.notes)
    if data.parcels:
        parcels = find_parcels(_atlas(data), first, mask, region)
        means = {id(run): ParcelMeans(run, parcels) for run in runs.values()}
        viewings = {key: replace(seen, run=means[id(seen.run)]) for key, seen in viewings.items()}
        first, mask, region = means[id(first)], None, None
    return Recordings(
        films,
        clips,
        viewings,
        first,
        None if mask is None else mask.inside,
        region,
        (*notes, *warnings, *_dropped_in_words(dropped, data)),
        dict(Counter(step.source for step in steps.values())),
        dropped,
    )


def open_parcel_means(row: RunRow, regions: RegionFile | None, data: DataSettings) -> ParcelMeans:
    """Open one run, as :func:`open_recordings` does where ``data.parcels`` names an atlas."""
    mask, _ = volume_mask([row], regions, data)
    run = open_row(row, mask, None, data.structures)
    inside = None
    if regions is not None and mask is None:
        inside = inside_models(regions, data.regions, getattr(run, "models", None)).mask
    return ParcelMeans(run, find_parcels(_atlas(data), run, mask, inside))


def _atlas(data: DataSettings) -> RegionFile:
    return read_region_file(region_paths(data.parcels))


def _open_runs(
    rows: Sequence[RunRow],
    mask: VolumeMask | None,
    structures: Sequence[str],
    advance: Callable[[int], None],
) -> dict[object, Run]:
    """Open every run once; all must hold the same voxels."""
    first = open_row(rows[0], mask, None, structures)
    opened: dict[object, Run] = {}
    for row in rows:
        if row.run not in opened:
            run = open_row(row, mask, first, structures)
            if not run.share_geometry(first):
                raise UserError(
                    f"{row.run_name} has other voxels than {rows[0].run_name} "
                    f"({len(run.columns)} and {len(first.columns)} of them): all runs of a subject "
                    "need the same geometry; choose one space with data.space, or correct the run "
                    "table"
                )
            opened[row.run] = run
            advance(1)
    return opened


def _time_steps(
    stretches: Sequence[Stretch],
    films: dict[Path, Stimulus],
    runs: dict[object, Run],
    data: DataSettings,
    *,
    stated: bool,
) -> tuple[dict[object, TimeStep], list[str]]:
    """Return the time between volumes of every run, and what the sources disagree on."""
    steps: dict[object, TimeStep] = {}
    names: dict[object, str] = {}
    headers = []
    for stretch in stretches:
        film = films[stretch.film]
        for row in stretch.rows.values():
            if row.run in steps:
                continue
            run, names[row.run] = runs[row.run], row.run_name
            if row.scan_start_s is None:
                require_one_volume_per_clip(data)
                path, length = Path(row.run_name), film.duration_s
                headers.append(HeaderStep(path, run.step_s, run.volumes, film.path.name, length))
                source = "data.tr_s" if stated else PROFILE
                if row.tr_s is not None and abs(row.tr_s - data.clip_s) > TOLERANCE_S:
                    raise UserError(
                        f"{row.run_name} has tr_s = {row.tr_s:g} s and no scan_start_s in the run "
                        f"table: only with one volume per clip of {data.clip_s:g} s does its "
                        "length tell when the film began; write scan_start_s"
                    )
                steps[row.run] = TimeStep(data.tr_s, source, {})
            else:
                kind = getattr(run, "step_source", "header")
                stated_s = data.tr_s if stated else None
                steps[row.run] = time_step(row, run.step_s, kind, stated_s)
    warnings = compare_steps(headers, data, stated=stated)
    return steps, warnings + disagreements([(names[run], step) for run, step in steps.items()])


def _viewing(row: RunRow, film: Stimulus, run: Run, step: TimeStep, data: DataSettings) -> Viewing:
    """Return when a row's stretch was shown, which cc2017's convention tells from the lengths."""
    if row.scan_start_s is not None:
        first = first_volume_of(row, step.seconds)
        return Viewing(row, run, step.seconds, row.scan_start_s - first.seconds, first)
    leading = leading_volumes(
        run.volumes,
        film.clips(data.clip_s, data.frames_per_clip),
        data.trailing_volumes,
        run=row.run_name,
        film=film.path.name,
    )
    return Viewing(row, run, step.seconds, leading * step.seconds, FirstVolume(0.0, CONVENTION))


def _clips_shown(
    stretch: Stretch, film: Stimulus, seen: dict[int, Viewing], data: DataSettings
) -> int:
    """Count the clips of a stretch that the film has and all rows of the run table speak of."""
    there = film.clips(data.clip_s, data.frames_per_clip, stretch.film_start_s)
    shown = there
    for viewing in seen.values():
        row = viewing.row
        if row.duration_s is None:
            continue
        end_s = viewing.run.volumes * viewing.tr_s
        clips = whole_clips(row.duration_s, data.clip_s, data.frames_per_clip)
        if clips > there:
            raise UserError(
                f"{film.path} lasts {film.duration_s:g} s, but {row.run_name} is said to show it "
                f"up to {stretch.film_start_s + row.duration_s:g} s: put the right film there, or "
                "correct the duration of its event (duration_s, film_start_s)"
            )
        until_s = viewing.start_s + viewing.first_volume.seconds + row.duration_s
        if until_s > end_s + viewing.tr_s:
            raise UserError(
                f"{row.run_name} ends after {end_s:g} s ({viewing.run.volumes} volumes of "
                f"{viewing.tr_s:g} s), but {film.path.name} should be shown in it up to "
                f"{until_s:g} s: correct onset or duration (scan_start_s, duration_s) or the TR, "
                "or fetch the run again"
            )
        shown = min(shown, clips)
    if shown < 1:
        raise UserError(
            f"{film.path} from {stretch.film_start_s:g} s on has no clip of {data.clip_s:g} s that "
            f"{', '.join(stretch.runs.values())} shows: correct the run table, or shorten "
            "data.clip_s"
        )
    return shown


def _clips_answered(viewing: Viewing, shown: int, data: DataSettings) -> int:
    positions = viewing.positions(shown, data)
    return clip_times.whole_clips(
        positions, viewing.run.volumes, delay_s=data.delay_s, run=viewing.row.run_name
    )


def _dropped_in_words(dropped: dict[str, int], data: DataSettings) -> list[str]:
    if not dropped:
        return []
    name, count = next(iter(dropped.items()))
    more = f", and of {len(dropped) - 1} more films" if len(dropped) > 1 else ""
    total = sum(dropped.values())
    return [
        f"the last {count} clips of {name}{more} ({total} in all) are left out: a run ends before "
        f"the responses to them, {data.delay_s:g} s later (data.delay_s), were recorded"
    ]


def _check_length(stretch: Stretch, viewing: Viewing, clips: int, data: DataSettings) -> None:
    """Refuse a stretch over which no polynomial can be taken off."""
    over = viewing.reading(clips, data).over
    volumes = over.stop - over.start
    if volumes <= data.detrend_order + 1:
        what = "volumes" if viewing.row.scan_start_s is not None else "clips"
        raise UserError(
            f"{stretch.film} lasts only {volumes} {what}, too few to remove a polynomial of order "
            f"{data.detrend_order}: remove the segment, or set data.standardize=run"
        )


def _check_splits(stretches: Sequence[Stretch]) -> None:
    """Refuse to standardize over a run that holds test and training films."""
    splits: dict[object, Stretch] = {}
    for stretch in stretches:
        for row in stretch.rows.values():
            before = splits.setdefault(row.run, stretch)
            if before.array != stretch.array:
                raise UserError(
                    f"{row.run_name} shows the {before.split} film {before.name} and the "
                    f"{stretch.split} film {stretch.name}: standardizing over the run would mix "
                    "statistics of test and training; set data.standardize=stretch"
                )


def volume_mask(
    rows: Sequence[RunRow], regions: RegionFile | None, data: DataSettings
) -> tuple[VolumeMask | None, tuple[str, ...]]:
    """Bring the mask of volumetric runs to their grid: the user's, and the runs' own."""
    if not is_volumetric(rows[0]):
        return None, ()
    own = list(dict.fromkeys(row.mask for row in rows if row.mask is not None))
    if not own and (regions is None or regions.volume is None):
        return None, ()
    shape, affine = read_grid(rows[0].files[0])
    inside = np.ones(shape, bool)
    notes: tuple[str, ...] = ()
    if regions is not None and regions.volume is not None:
        found = inside_volume(regions, data.regions, shape, affine)
        inside, notes = found.mask, found.notes
    for path in own:
        inside = inside & _own_mask(path, shape, affine)
    if not inside.any():
        raise UserError(
            f"no voxel lies in all masks ({', '.join(map(str, own[:3]))} ...): give other masks"
        )
    return VolumeMask(inside, affine), notes


def _own_mask(path: Path, shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Read the brain mask of a run; it must lie on the run's grid."""
    from neuroclips_cli.data.brain_images import load, read_or_raise

    image = load(path)
    if not same_grid(image.shape[:3], image.affine, shape, affine):
        raise UserError(
            f"the mask {path} is on a different grid than the runs: shape {image.shape[:3]} and "
            f"affine {in_words(image.affine)}, not {shape} and {in_words(affine)}; give the mask "
            "of the runs' own space"
        )
    values = read_or_raise(path, lambda: np.asarray(image.dataobj, np.float64))
    return np.asarray(values.reshape(shape) >= 0.5)
