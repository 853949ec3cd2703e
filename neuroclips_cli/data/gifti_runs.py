"""Read fMRI runs on surfaces: a pair of GIFTI files, one per hemisphere."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.brain_images import load
from neuroclips_cli.data.region_files import CORTEX, SIDES
from neuroclips_cli.data.voxel_pieces import ReadWhole
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.placeholders import require_content

_WORDS = {"cortexleft": CORTEX[0], "cortexright": CORTEX[1]}
_CHUNK = 1 << 20
_NONE = "NIFTI_INTENT_NONE"
_NO_SERIES = ("NIFTI_INTENT_POINTSET", "NIFTI_INTENT_TRIANGLE", "NIFTI_INTENT_LABEL")


@dataclass
class _Described:
    """What the tags of a GIFTI file say of its arrays, without their values."""

    shapes: list[tuple[int, ...]] = field(default_factory=list)
    intents: list[str] = field(default_factory=list)
    structure: str = ""
    """Hemisphere that the file names (``AnatomicalStructurePrimary``); empty if none."""


class GiftiRun(ReadWhole):
    """Both hemispheres of a run in ``*.func.gii``: one array per volume, or one of two dimensions.

    Columns are the vertices of the left hemisphere, then those of the right one, the medial wall
    included. GIFTI states no time between volumes (`step_s` is None).

    Parameters
    ----------
    paths
        Left and right file.

    Raises
    ------
    UserError
        If a file is damaged or holds no time series, names the other hemisphere, or the two differ
        in their number of volumes.
    """

    columns: NDArray[np.int64]
    models: Any
    step_s: float | None = None

    def __init__(self, paths: Sequence[Path]) -> None:
        from nibabel.cifti2 import BrainModelAxis

        if len(paths) != 2:
            raise UserError(
                f"{', '.join(map(str, paths))} is one hemisphere: give the files of both, the left "
                "one first"
            )
        self.path, self.paths = paths[0], tuple(paths)
        shapes = [_shape(path, side) for path, side in zip(paths, CORTEX, strict=True)]
        (self.volumes, left), (volumes, right) = shapes
        if self.volumes != volumes:
            raise UserError(
                f"{paths[0]} holds {self.volumes} volumes, {paths[1]} {volumes}: the hemispheres "
                "are of different runs, or one file is cut short"
            )
        self._vertices = (left, right)
        self.columns = np.arange(left + right)
        first, second = (
            BrainModelAxis.from_surface(np.arange(count), count, name=side)
            for count, side in zip(self._vertices, CORTEX, strict=True)
        )
        self.models = first + second

    def read(self) -> NDArray[np.float32]:
        """Return the time series, float32 (volumes, vertices)."""
        series = np.empty((self.volumes, len(self.columns)), np.float32)
        start = 0
        for path, count in zip(self.paths, self._vertices, strict=True):
            arrays = [one.data for one in load(path).darrays]
            if len(arrays) == 1:
                data = arrays[0].reshape(count, -1).T
                series[:, start : start + count] = data
            else:
                for volume, values in enumerate(arrays):
                    series[volume, start : start + count] = values.ravel()
            start += count
        return series

    def share_geometry(self, other: Any) -> bool:
        """Tell whether another run has the same meshes; if so, keep its copy of them."""
        same = isinstance(other, GiftiRun) and self._vertices == other._vertices
        if same:
            self.columns, self.models = other.columns, other.models
        return same


def both_hemispheres(path: Path) -> tuple[Path, Path]:
    """Return the left and the right file of a run from either of them, by their names.

    Raises
    ------
    UserError
        If the name is of no hemisphere, or the other one is not beside it.
    """
    for marks in (("hemi-L", "hemi-R"), ("lh.", "rh."), (".L.", ".R.")):
        for mark, other in (marks, marks[::-1]):
            if mark in path.name:
                beside = path.with_name(path.name.replace(mark, other))
                if not beside.exists() and not beside.is_symlink():
                    raise UserError(
                        f"{path} has no {beside.name} beside it: add the other hemisphere"
                    )
                return (path, beside) if mark == marks[0] else (beside, path)
    raise UserError(
        f"{path} is no hemisphere by its name (hemi-L or hemi-R): name both files as LEFT,RIGHT"
    )


def _shape(path: Path, side: str) -> tuple[int, int]:
    """Return volumes and vertices of one hemisphere's file."""
    found = _describe(path)
    wrong = next((one for one in found.intents if one in _NO_SERIES), "")
    if wrong or not found.shapes:
        raise UserError(
            f"{path} holds no time series{f' but {wrong}' if wrong else ''}: give *_bold.func.gii"
        )
    if found.structure and found.structure != side:
        raise UserError(
            f"{path} is of the {SIDES[found.structure]} hemisphere according to its own metadata, "
            f"where the {SIDES[side]} one is needed: correct its name, or the order of the files"
        )
    first = found.shapes[0]
    if any(shape != first for shape in found.shapes) or 0 in first:
        raise UserError(f"{path} holds arrays of different sizes: copy or download it again")
    if len(found.shapes) == 1 and len(first) == 2:
        return first[1], first[0]
    if len(first) == 2 and first[1] != 1:
        raise UserError(
            f"{path} holds {len(found.shapes)} arrays of two dimensions: give a file with one "
            "array per volume"
        )
    return len(found.shapes), first[0]


def _describe(path: Path) -> _Described:
    """Read the tags of a GIFTI file; its values, nearly all of it, are passed over."""
    require_content(path)
    found, words, name = _Described(), [""], [""]

    def start(tag: str, attributes: dict[str, str]) -> None:
        words[0] = ""
        if tag == "DataArray":
            dimensions = int(attributes.get("Dimensionality", "0"))
            shape = tuple(int(attributes.get(f"Dim{n}", "0")) for n in range(dimensions))
            found.shapes.append(shape)
            found.intents.append(attributes.get("Intent", _NONE))

    def end(tag: str) -> None:
        if tag == "Name":
            name[0] = words[0].strip()
        elif tag == "Value" and name[0] == "AnatomicalStructurePrimary":
            word = "".join(filter(str.isalpha, words[0])).lower()
            found.structure = _WORDS.get(word, found.structure)

    def text(data: str) -> None:
        if len(words[0]) < 100:
            words[0] += data

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text
    try:
        with _open(path) as stream:
            while chunk := stream.read(_CHUNK):
                parser.Parse(chunk)
            parser.Parse(b"", True)
    except (expat.ExpatError, OSError, EOFError, ValueError) as error:
        raise UserError(
            f"{path} is not a complete GIFTI file ({error}): copy or download it again"
        ) from error
    return found


def _open(path: Path) -> IO[bytes]:
    with suppress(OSError), open(path, "rb") as stream:
        if stream.read(2) == b"\x1f\x8b":
            return gzip.open(path, "rb")  # type: ignore[return-value]
    return open(path, "rb")
