"""Read masks, labels and maps: CIFTI-2 label and scalar files, GIFTI files, volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.brain_images import check_length, load, read_or_raise
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.csv import read_table

LEFT, RIGHT = "CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_CORTEX_RIGHT"
CORTEX = (LEFT, RIGHT)
_HEMISPHERES = {"cortexleft": LEFT, "cortexright": RIGHT}
"""GIFTI's words for them, without signs and capitals."""
SIDES = {LEFT: "left", RIGHT: "right"}
_STRUCTURE = "AnatomicalStructurePrimary"

Names = Mapping[int, str]


@dataclass(frozen=True)
class Surface:
    """What a file says of one hemisphere.

    Attributes
    ----------
    vertices : int64 (n,)
        Numbers of the vertices that have values.
    values : float64 (maps, n)
    mesh : int
        Vertices of the hemisphere's whole mesh.
    """

    vertices: NDArray[np.int64]
    values: NDArray[np.float64]
    mesh: int


@dataclass(frozen=True)
class Volume:
    """What a file says of voxels.

    Attributes
    ----------
    values : float64 (maps, x, y, z)
        NaN where it says nothing.
    affine : float64 (4, 4)
        Voxel numbers to mm.
    """

    values: NDArray[np.float64]
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class RegionFile:
    """One mask, label file or map, or a GIFTI file for either hemisphere.

    Attributes
    ----------
    paths : tuple of Path
    maps : tuple of str
        Their names; a file may hold several.
    names : tuple of dict or None
        Of label files, for each map: key -> name. None: the values are numbers, not keys.
    surfaces : dict
        Hemisphere (`LEFT`, `RIGHT`) -> its values.
    volume : Volume or None
    """

    paths: tuple[Path, ...]
    maps: tuple[str, ...]
    names: tuple[Names, ...] | None
    surfaces: Mapping[str, Surface]
    volume: Volume | None

    @property
    def called(self) -> str:
        """The file's name for messages; of two files, both."""
        return " and ".join(map(str, self.paths))


def region_paths(text: str) -> tuple[Path, ...]:
    """Return the files that a setting names: one, or two GIFTI files separated by a comma.

    Raises
    ------
    UserError
        If one does not exist.
    """
    whole = Path(text)
    parts = [whole] if whole.exists() or "," not in text else map(Path, text.split(","))
    paths = tuple(Path(str(part).strip()) for part in parts)
    for path in paths:
        if not path.exists() and not path.is_symlink():
            raise UserError(f"the mask or label file {path} does not exist: correct its path")
    return paths


def read_region_file(paths: Sequence[Path]) -> RegionFile:
    """Read a mask, label file or map.

    Parameters
    ----------
    paths
        One file, or two GIFTI files of the two hemispheres, in any order: which is which is read
        from the files (``AnatomicalStructurePrimary``).

    Raises
    ------
    UserError
        If a file is damaged, of a kind that holds no regions, or does not say what it needs to.
    """
    parts = [_read(path) for path in paths]
    if len(parts) == 1:
        return parts[0]
    first, second = parts[0], parts[-1]
    gifti = all(part.volume is None and len(part.surfaces) == 1 for part in parts)
    if len(parts) > 2 or not gifti or (first.names is None) != (second.names is None):
        raise UserError(
            f"{', '.join(map(str, paths))} do not make one map: give one file, or two GIFTI files "
            "of one kind, left and right"
        )
    if set(first.surfaces) & set(second.surfaces):
        side = SIDES[next(iter(first.surfaces))]
        raise UserError(
            f"{first.paths[0]} and {second.paths[0]} both say that they are of the {side} "
            "hemisphere: give one of each"
        )
    if len(first.maps) != len(second.maps):
        raise UserError(f"{first.called} and {second.called} hold unequal numbers of maps")
    return RegionFile(
        tuple(paths),
        first.maps,
        None if first.names is None else _merged(first, second),
        {**first.surfaces, **second.surfaces},
        None,
    )


def _merged(first: RegionFile, second: RegionFile) -> tuple[Names, ...]:
    """Put the label tables of two hemispheres together; a key stands for one name only."""
    tables: list[Names] = []
    for one, other in zip(first.names or (), second.names or (), strict=True):
        for key in one.keys() & other.keys():
            if one[key] != other[key]:
                raise UserError(
                    f"label {key} is {one[key]} in {first.called} and {other[key]} in "
                    f"{second.called}: give a .dlabel.nii of both hemispheres instead"
                )
        tables.append({**one, **other})
    return tuple(tables)


def _read(path: Path) -> RegionFile:
    from nibabel.cifti2 import Cifti2Image
    from nibabel.gifti import GiftiImage
    from nibabel.spatialimages import SpatialImage

    image = load(path)
    if isinstance(image, Cifti2Image):
        return _read_cifti(path, image)
    if isinstance(image, GiftiImage):
        return _read_gifti(path, image)
    if isinstance(image, SpatialImage):
        return _read_volume(path, image)
    raise UserError(
        f"{path} is a {type(image).__name__}, which holds no regions: give a CIFTI or GIFTI label "
        "file, or a volume"
    )


def _read_cifti(path: Path, image: Any) -> RegionFile:
    from nibabel.cifti2 import BrainModelAxis, LabelAxis, ScalarAxis

    maps, models = read_or_raise(path, lambda: [image.header.get_axis(i) for i in range(2)])
    if not isinstance(models, BrainModelAxis) or not isinstance(maps, (LabelAxis, ScalarAxis)):
        kinds = f"{type(maps).__name__} by {type(models).__name__}".replace("Axis", "")
        raise UserError(
            f"{path} is a CIFTI file of another kind ({kinds}): give a dense label or scalar file "
            "(.dlabel.nii, .dscalar.nii)"
        )
    check_length(path, image.dataobj)
    values = read_or_raise(path, lambda: np.asarray(image.dataobj, np.float64))
    if values.shape != (len(maps), len(models)):
        raise UserError(f"{path} holds other data than its header describes: replace it")
    names = None
    if isinstance(maps, LabelAxis):
        names = tuple(
            {int(key): str(name) for key, (name, _) in table.items()} for table in maps.label
        )
    surfaces = {}
    for structure in CORTEX:
        here = np.asarray(models.name, str) == structure
        if here.any():
            mesh = int(models.nvertices[structure])
            surfaces[structure] = Surface(models.vertex[here], values[:, here], mesh)
    return RegionFile((path,), tuple(maps.name), names, surfaces, _voxels(path, models, values))


def _voxels(path: Path, models: Any, values: NDArray[np.float64]) -> Volume | None:
    """Return the subcortical part of a CIFTI file as a volume."""
    inside = ~np.asarray(models.surface_mask, bool)
    if not inside.any():
        return None
    if models.volume_shape is None or models.affine is None:
        raise UserError(f"{path} does not say where its voxels lie: replace it")
    volume = np.full((len(values), *models.volume_shape), np.nan)
    x, y, z = np.asarray(models.voxel)[inside].T
    read_or_raise(path, lambda: volume.__setitem__((slice(None), x, y, z), values[:, inside]))
    return Volume(volume, np.asarray(models.affine, np.float64))


def _read_gifti(path: Path, image: Any) -> RegionFile:
    intents = {array.intent for array in image.darrays}
    from nibabel.nifti1 import intent_codes

    codes = {name: intent_codes.code[f"NIFTI_INTENT_{name}"] for name in ("POINTSET", "LABEL")}
    if codes["POINTSET"] in intents or not image.darrays:
        raise UserError(
            f"{path} is a GIFTI file without values of vertices: give a .label.gii, .func.gii or "
            ".shape.gii file, or a .dlabel.nii"
        )
    arrays = read_or_raise(path, lambda: [np.asarray(a.data, np.float64) for a in image.darrays])
    if len({array.shape for array in arrays}) != 1 or arrays[0].ndim != 1:
        raise UserError(f"{path} does not hold one value for each vertex: give a .dlabel.nii")
    names = None
    if codes["LABEL"] in intents:
        table = {int(k): str(v) for k, v in image.labeltable.get_labels_as_dict().items()}
        names = (table,) * len(arrays)
    values = np.stack(arrays)
    mesh = values.shape[1]
    hemisphere = _hemisphere(path, image)
    surface = Surface(np.arange(mesh), values, mesh)
    maps = tuple(str(array.meta.get("Name", "")) for array in image.darrays)
    return RegionFile((path,), maps, names, {hemisphere: surface}, None)


def stated_hemisphere(image: Any) -> str | None:
    """Return the hemisphere that an opened GIFTI file states, None where it is not a single one."""
    found = {_HEMISPHERES.get(_letters(word)) for word in _structures(image)}
    return found.pop() if len(found) == 1 else None


def _hemisphere(path: Path, image: Any) -> str:
    """Return the hemisphere that a GIFTI file states; its name is not believed."""
    found = stated_hemisphere(image)
    if found is not None:
        return found
    said = _structures(image)
    what = f"is of {', '.join(sorted(said))}" if said else "does not say of which hemisphere it is"
    raise UserError(
        f"{path} is a GIFTI file that {what}: state it (`wb_command -set-structure {path.name} "
        "CORTEX_LEFT` or CORTEX_RIGHT), or give a .dlabel.nii of both hemispheres"
    )


def _structures(image: Any) -> set[str]:
    """Return all that a GIFTI file says of its structure."""
    tables = [getattr(image, "meta", {})] + [a.meta for a in getattr(image, "darrays", ())]
    return {str(table[_STRUCTURE]) for table in tables if _STRUCTURE in table}


def _letters(word: str) -> str:
    return "".join(filter(str.isalpha, word)).lower()


def _read_volume(path: Path, image: Any) -> RegionFile:
    check_length(path, image.dataobj)
    shape = tuple(map(int, image.shape))
    if len(shape) < 3 or any(size != 1 for size in shape[3:]) or 0 in shape:
        raise UserError(
            f"{path} has the shape {shape} and is not a single volume: give a 3-D mask or label "
            "file"
        )
    if image.get_data_dtype().kind not in "biuf":
        raise UserError(f"{path} holds {image.get_data_dtype()}, not numbers: convert it")
    if image.affine is None or not np.isfinite(image.affine).all():
        raise UserError(f"{path} does not say where its voxels lie: give a NIfTI file that does")
    values = read_or_raise(path, lambda: np.asarray(image.dataobj, np.float64)).reshape(
        1, *shape[:3]
    )
    volume = Volume(values, np.asarray(image.affine, np.float64))
    return RegionFile((path,), ("",), _table_beside(path), {}, volume)


def _table_beside(path: Path) -> tuple[Names] | None:
    """Read the names of a volume's labels from BIDS's table of the same name, if there is one."""
    stem = path.name
    for suffix in (".gz", ".nii", ".mgz", ".mgh"):
        stem = stem.removesuffix(suffix)
    table = path.with_name(f"{stem}.tsv")
    if not table.is_file():
        return None
    try:
        _, rows = read_table(table, "\t")
        return ({int(row["index"]): str(row["name"]) for _, row in rows},)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{table} does not name the labels of {path.name}: it needs the columns index and name"
        ) from error
