"""Open all films and runs of a subject, so that what is wrong is said before the work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.layout import Layout, kinds_of_runs
from neuroclips_cli.data.region_files import RegionFile
from neuroclips_cli.data.regions import inside_surface, inside_volume
from neuroclips_cli.data.runs import CiftiRun, Run, VolumeMask, open_run, read_grid
from neuroclips_cli.data.stimuli import Stimulus, open_stimulus
from neuroclips_cli.data.time_step import HeaderStep, compare_steps
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.schema import DataSettings
from neuroclips_cli.signal.windows import leading_volumes


@dataclass(frozen=True)
class Recordings:
    """A subject's opened files.

    Attributes
    ----------
    films : dict
        Segment's name -> film.
    clips : dict
        Segment's name -> number of whole clips.
    runs : dict
        (Segment's name, repetition) -> run and its leading volumes.
    first : Run
        The run whose voxels all others have.
    mask : bool (x, y, z) or None
        Of volumetric runs.
    region : bool (vertices,) or None
        Vertices inside the user's mask, of surface runs; None: all.
    warnings : tuple of str
        What was found wrong and how it was decided.
    """

    films: dict[str, Stimulus]
    clips: dict[str, int]
    runs: dict[tuple[str, int], tuple[Run, int]]
    first: Run
    mask: NDArray[np.bool_] | None
    region: NDArray[np.bool_] | None
    warnings: tuple[str, ...]


def is_volumetric(regions: RegionFile | None, dataset: Path, subject: int) -> bool:
    """Tell whether volumes are to be read: the mask is of voxels, or of both and only they exist.

    Parameters
    ----------
    regions
        The user's mask; None: all of the cortical surface.
    dataset, subject
        Where to look for runs.
    """
    if regions is None or regions.volume is None:
        return False
    return not regions.surfaces or kinds_of_runs(dataset, subject) == {"volume"}


def open_recordings(
    layout: Layout,
    data: DataSettings,
    regions: RegionFile | None,
    *,
    volumetric: bool,
    tr_stated: bool,
    advance: Callable[[int], None],
) -> Recordings:
    """Open all films and every run's header.

    Parameters
    ----------
    layout
        The files.
    data
        ``clip_s``, ``frames_per_clip``, ``tr_s``, ``trailing_volumes``, ``detrend_order`` and
        ``regions``.
    regions
        The user's mask, or None.
    volumetric
        Read volumes.
    tr_stated
        The user set ``data.tr_s``.
    advance
        Called with the number of runs opened.

    Raises
    ------
    UserError
        If a file is damaged, lies on another grid, or its length contradicts its film's.
    """
    segments = (*layout.train, *layout.test)
    films = {segment.name: open_stimulus(segment.film) for segment in segments}
    clips = {name: film.clips(data.clip_s, data.frames_per_clip) for name, film in films.items()}
    first_path = layout.train[0].runs[1]
    mask, notes = _volume_mask(first_path, regions, data, volumetric)
    first = open_run(first_path, mask)
    opened: dict[tuple[str, int], Run] = {}
    steps = []
    for segment in segments:
        film = films[segment.name]
        for repetition, path in segment.runs.items():
            run = open_run(path, mask, first)
            if not run.share_geometry(first):
                raise UserError(
                    f"{path} holds other voxels than {first.path}: all runs of a subject need the "
                    "same geometry"
                )
            opened[segment.name, repetition] = run
            steps.append(HeaderStep(path, run.step_s, run.volumes, film.path.name, film.duration_s))
            advance(1)
        _check_length(segment.film, clips[segment.name], data.detrend_order)
    warnings = compare_steps(steps, data, stated=tr_stated)
    runs = {}
    for (name, repetition), run in opened.items():
        leading = leading_volumes(
            run.volumes,
            clips[name],
            data.trailing_volumes,
            run=str(run.path),
            film=films[name].path.name,
        )
        runs[name, repetition] = (run, leading)
    region = None
    if regions is not None and isinstance(first, CiftiRun):
        found = inside_surface(regions, data.regions, first.models)
        region, notes = found.mask, found.notes
    inside = None if mask is None else mask.inside
    return Recordings(films, clips, runs, first, inside, region, (*notes, *warnings))


def _volume_mask(
    path: Path, regions: RegionFile | None, data: DataSettings, volumetric: bool
) -> tuple[VolumeMask | None, tuple[str, ...]]:
    """Bring the mask of volumetric runs to their grid."""
    if not volumetric or regions is None:
        return None, ()
    shape, affine = read_grid(path)
    found = inside_volume(regions, data.regions, shape, affine)
    return VolumeMask(found.mask, affine), found.notes


def _check_length(film: Path, clips: int, detrend_order: int) -> None:
    if clips <= detrend_order + 1:
        raise UserError(
            f"{film} lasts only {clips} clips, too few to remove a polynomial of order "
            f"{detrend_order}: remove the segment"
        )
