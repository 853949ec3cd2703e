"""Regions of interest: which vertices or voxels a mask, label file or map counts as inside."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.region_files import CORTEX, SIDES, Names, RegionFile
from neuroclips_cli.data.volume_grid import in_words, onto_grid
from neuroclips_cli.errors import UserError

INSIDE = 0.5
"""A mask counts as inside from this value on; everything else, NaN included, is outside."""
_NAMELESS = frozenset(
    ("", "unknown", "medialwall", "none", "background", "unlabeled", "unlabelled")
    + ("freesurferdefinedmedialwall", "corpuscallosum")
)
"""Labels that stand for no region, without signs, hemisphere and capitals."""


@dataclass(frozen=True)
class Inside:
    """Which voxels lie inside, and what the user should know of how that was decided.

    Attributes
    ----------
    mask : bool
        (vertices,) or (x, y, z).
    notes : tuple of str
        One sentence each.
    """

    mask: NDArray[np.bool_]
    notes: tuple[str, ...]


def inside_models(file: RegionFile, regions: Sequence[str], models: Any) -> Inside:
    """Tell which cortical vertices and subcortical voxels lie inside.

    A file limits what it speaks of: one without voxels leaves all subcortical ones in, a volume all
    cortical vertices.

    Parameters
    ----------
    file
        A mask, label file or map; vertices are matched by hemisphere and number, voxels by place.
    regions
        Label names, such as ``L_V1_ROI``; ``V1`` stands for both hemispheres. Empty: every named
        label. Of a file of numbers: the map's name, or whole numbers that its values equal.
    models
        Brain models of the runs' vertices and voxels (nibabel BrainModelAxis).

    Raises
    ------
    UserError
        If the file is of another mesh or grid, has no such region, or nothing lies inside.
    """
    number, values_of = _choose_map(file, regions)
    mask, notes = _inside(file, number, values_of, on_models(file, number, models))
    cortex = np.asarray(models.surface_mask, bool)
    if not mask.any():
        raise UserError(
            f"no voxel that is read of the runs lies in the regions of {file.called}: give another "
            "mask, or change data.structures"
        )
    for part, told, words in (
        (cortex, file.surfaces, "cortex"),
        (~cortex, file.volume is not None, "subcortical voxels"),
    ):
        if part.any() and not told:
            mask[part] = True
            notes.append(f"{file.called} says nothing of the {words}: all {part.sum()} are kept")
    missing = [SIDES[side] for side in CORTEX if side not in file.surfaces]
    if missing and any(side in file.surfaces for side in CORTEX):
        notes.append(f"{file.called} says nothing of the {missing[0]} hemisphere: left out")
    return Inside(mask, tuple(notes))


def inside_volume(
    file: RegionFile, regions: Sequence[str], shape: Sequence[int], affine: NDArray[np.float64]
) -> Inside:
    """Tell which voxels of a grid lie inside.

    Parameters
    ----------
    file, regions
        As for :func:`inside_models`.
    shape, affine
        The runs' grid.

    Raises
    ------
    UserError
        If the file is of a different grid, has no such region, or nothing lies inside.
    """
    number, values_of = _choose_map(file, regions)
    mask, notes = _inside(file, number, values_of, on_grid(file, number, shape, affine))
    if not mask.any():
        raise UserError(f"no voxel of the runs lies in the mask {file.called}: give another file")
    return Inside(mask, tuple(notes))


def on_models(file: RegionFile, number: int, models: Any) -> NDArray[np.float64]:
    """Return one map's value of every vertex and voxel, float64 (voxels,), NaN where it has none.

    Raises
    ------
    UserError
        If the file is of voxels and the runs of vertices only, or it is of another mesh or grid.
    """
    voxels = ~np.asarray(models.surface_mask, bool)
    if not file.surfaces and not voxels.any():
        raise UserError(
            f"{file.called} is of volumes, but the runs are of the cortical surface: give a "
            ".dlabel.nii, .dscalar.nii or GIFTI file of their mesh"
        )
    values = np.full(len(models), np.nan)
    for structure, surface in file.surfaces.items():
        ours = np.asarray(models.name, str) == structure
        if not ours.any():
            continue
        mesh = int(models.nvertices[structure])
        if mesh != surface.mesh:
            raise UserError(
                f"{file.called} is of a mesh of {surface.mesh} vertices in the {SIDES[structure]} "
                f"hemisphere, the runs of {mesh}: give a file of their mesh"
            )
        whole = np.full(mesh, np.nan)
        whole[surface.vertices] = surface.values[number]
        values[ours] = whole[models.vertex[ours]]
    if voxels.any() and file.volume is not None:
        grid = on_grid(file, number, models.volume_shape, models.affine)
        values[voxels] = grid[tuple(np.asarray(models.voxel)[voxels].T)]
    return values


def on_grid(
    file: RegionFile, number: int, shape: Sequence[int], affine: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return one map on the runs' grid, float64 (x, y, z), NaN where it says nothing.

    Another orientation of the same voxels is brought over exactly.

    Raises
    ------
    UserError
        If the file is of surfaces only, or of a different grid; the message names both affines.
    """
    if file.volume is None:
        raise UserError(
            f"{file.called} is of the cortical surface, but the runs are volumes: give a volume on "
            "their grid"
        )
    values = onto_grid(file.volume.values[number], file.volume.affine, shape, affine)
    if values is None:
        theirs = tuple(file.volume.values.shape[1:])
        raise UserError(
            f"{file.called} is on a different grid than the runs: shape {theirs} and affine "
            f"{in_words(file.volume.affine)}, the runs {tuple(shape)} and {in_words(affine)}; "
            "resample it to the runs' grid"
        )
    return values


def labels_of(file: RegionFile, values: NDArray[np.float64]) -> NDArray[np.str_]:
    """Return the region of every vertex or voxel.

    Parameters
    ----------
    file
        A label file of one map, or a volume of whole numbers.
    values
        Its values, from :func:`on_models` or :func:`on_grid`.

    Returns
    -------
    str, the shape of ``values``
        Label names as the file has them, or numbers where it has none; empty where there is no
        (named) label.

    Raises
    ------
    UserError
        If the file holds no labels, or labels none of these voxels.
    """
    names = label_names(file)
    keys = _keys(values)
    known = np.array(["", *names.values()])
    position = {key: row for row, key in enumerate(names, start=1)}
    every, where = np.unique(keys, return_inverse=True)
    labels: NDArray[np.str_] = known[[position.get(int(key), 0) for key in every]][where]
    if not labels.astype(bool).any():
        raise UserError(f"{file.called} labels no voxel of the runs: give another label file")
    return labels.reshape(values.shape)


def label_names(file: RegionFile) -> Names:
    """Return the named labels of a label file of one map, or a volume's whole numbers as names.

    Raises
    ------
    UserError
        If the file holds no labels.
    """
    if file.names is not None:
        return {key: name for key, name in file.names[0].items() if not is_nameless(name)}
    values = np.zeros(0) if file.volume is None else file.volume.values[0]
    keys = _keys(values)
    if file.surfaces or (keys[np.isfinite(values)] < 0).any():
        raise UserError(f"{file.called} is a map of numbers and no label file: give labels")
    return {int(key): str(key) for key in np.unique(keys) if key > 0}


def is_nameless(name: str) -> bool:
    """Tell whether a label stands for no region, such as ``???`` or ``L_Medial_wall``."""
    plain = "".join(filter(str.isalnum, plain_name(name))).lower()
    return plain in _NAMELESS


def plain_name(label: str) -> str:
    """Return a region's name without hemisphere and ending: ``L_V1_ROI`` -> ``V1``."""
    return label.removeprefix("L_").removeprefix("R_").removesuffix("_ROI")


def _keys(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return label keys; -1 where a value is not a whole number from 0."""
    whole = np.isfinite(values) & (values >= 0) & (values < 2**31)
    whole &= np.abs(values - np.rint(np.where(whole, values, 0))) < 1e-6
    return np.where(whole, np.rint(np.where(whole, values, 0)), -1).astype(np.int64)


def _choose_map(file: RegionFile, regions: Sequence[str]) -> tuple[int, Sequence[str]]:
    """Return which map of a file is meant, and the regions to look for in it.

    Raises
    ------
    UserError
        If there are several, and the regions do not tell.
    """
    if file.names is not None and regions:
        for number, names in enumerate(file.names):
            if all(_spelled(region, names) for region in regions):
                return number, regions
        if len(file.maps) == 1:
            return 0, regions
    if file.names is None and len(regions) == 1 and regions[0] in file.maps:
        return file.maps.index(regions[0]), ()
    if len(file.maps) == 1:
        return 0, regions
    known = ", ".join(name or str(row) for row, name in enumerate(file.maps))
    raise UserError(
        f"{file.called} holds {len(file.maps)} maps ({known}): name one of them"
        f"{'' if file.names is None else chr(39) + 's regions'} with data.regions (--regions)"
    )


def _inside(
    file: RegionFile, number: int, regions: Sequence[str], values: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], list[str]]:
    """Apply the one rule of what is inside to a map's values."""
    if file.names is not None:
        return np.isin(_keys(values), list(_wanted(file, number, regions))), []
    if regions:
        return np.isin(_keys(values), [_whole(file, region) for region in regions]), []
    finite = values[np.isfinite(values)]
    if (finite <= -INSIDE).any():
        raise UserError(
            f"{file.called} holds negative values (down to {finite.min():.3g}), so it is not a "
            "mask: cut it off at a threshold first"
        )
    notes = []
    between = int(((finite > 1e-6) & (finite < INSIDE)).sum())
    if between:
        notes.append(
            f"{file.called} holds {between} values between 0 and {INSIDE:g}: outside, as inside is "
            f"from {INSIDE:g} on"
        )
    with np.errstate(invalid="ignore"):
        return np.isfinite(values) & (values >= INSIDE), notes


def _whole(file: RegionFile, region: str) -> int:
    if not region.isdecimal():
        raise UserError(
            f"{file.called} has no region {region}, since it names none: give numbers in "
            "data.regions, or a label file"
        )
    return int(region)


def _spelled(region: str, names: Names) -> set[int]:
    """Return the keys of a region, in either hemisphere."""
    spellings = {region, f"L_{region}_ROI", f"R_{region}_ROI", f"L_{region}", f"R_{region}"}
    return {key for key, name in names.items() if name in spellings}


def _wanted(file: RegionFile, number: int, regions: Sequence[str]) -> set[int]:
    names = (file.names or ())[number]
    if not regions:
        return {key for key, name in names.items() if not is_nameless(name)}
    keys: set[int] = set()
    for region in regions:
        found = _spelled(region, names)
        if not found:
            close = difflib.get_close_matches(region, names.values(), n=1, cutoff=0.3)
            hint = f" (nearest name: {close[0]})" if close else ""
            raise UserError(f"{file.called} has no region {region}{hint}: correct data.regions")
        keys |= found
    return keys
