"""Volumes that arrive while a run is recorded: a folder of single volumes, or a growing file.

Real are those forms in which a volume can be added without touching what is there:

- a folder into which single volumes fall, one file each: ``*.nii``, ``*.nii.gz``, CIFTI series of
  one time point, or ``*.npy`` vectors;
- a 4-D ``*.nii``, whose volumes lie one behind the other;
- a ``*.npy`` (volumes, voxels), row by row.

A dense time series (``*.dtseries.nii``) keeps the whole series of a grayordinate together, and a
compressed file has no places: neither can grow.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.brain_images import load, read_or_raise
from neuroclips_cli.data.new_scans import TrainedVoxels, has_trained_voxels
from neuroclips_cli.data.runs import CiftiRun, VolumeMask
from neuroclips_cli.data.structures import MissingStructure
from neuroclips_cli.data.volume_grid import in_words, same_grid
from neuroclips_cli.errors import UserError

SUFFIXES = (".nii", ".nii.gz", ".npy")
SETTLE_S = 3.0
"""A file that cannot be read, and has not changed for so long, is taken as lost."""
NIFTI_HEADER = 352
"""Bytes before which no NIfTI file tells what it holds."""


@dataclass(frozen=True)
class Arrived:
    """A volume that is there.

    Attributes
    ----------
    values : numpy.ndarray
        float32 (selected voxels,); NaN in one that was lost.
    since : float
        When it was there, in s of ``time.time``.
    """

    values: NDArray[np.float32]
    since: float


class IncomingVolumes(ABC):
    """Where volumes come from.

    Attributes
    ----------
    warnings : list of str
        What was lost or left out, one sentence each.
    """

    def __init__(self, path: Path, voxels: TrainedVoxels) -> None:
        self.path, self.voxels = path, voxels
        self.warnings: list[str] = []

    @abstractmethod
    def poll(self) -> list[Arrived]:
        """Return the volumes that are there since the last call, in order.

        Raises
        ------
        UserError
            If a volume does not fit the trained run.
        """

    def _selected(self, values: NDArray[Any], name: object) -> NDArray[np.float32]:
        """Take the selected ones of all voxels, or the selected ones as they are."""
        if values.shape == self.voxels.columns.shape:
            values = values[self.voxels.selected]
        if values.shape != (self.voxels.count,):
            raise UserError(
                f"{name} holds {values.shape} numbers: the trained run has "
                f"{len(self.voxels.columns)} voxels, of which {self.voxels.count} are decoded from"
            )
        return values.astype(np.float32)

    def _lost(self) -> NDArray[np.float32]:
        return np.full(self.voxels.count, np.nan, np.float32)


def open_incoming(path: Path, voxels: TrainedVoxels) -> IncomingVolumes:
    """Open a folder or a growing file; neither has to hold anything yet.

    Raises
    ------
    UserError
        If it does not exist, or is of a kind that cannot grow.
    """
    name = path.name.lower()
    if path.is_dir():
        return FolderOfVolumes(path, voxels)
    if not path.is_file():
        raise UserError(f"{path} does not exist: make the folder or file first")
    if name.endswith(".npy"):
        return GrowingArray(path, voxels)
    if name.endswith(".nii") and not name.endswith((".dtseries.nii", ".dscalar.nii")):
        if voxels.grid is None:
            raise UserError(
                f"{path} holds volumes, but the run was trained on the cortical surface: follow a "
                "folder of CIFTI series of one time point, or a .npy"
            )
        return GrowingVolumes(path, voxels, voxels.grid)
    raise UserError(
        f"{path} cannot grow volume by volume (a dense time series keeps each grayordinate's "
        "series together, a compressed file has no places): follow a folder of single volumes, a "
        "4-D .nii or a .npy"
    )


class FolderOfVolumes(IncomingVolumes):
    """Single volumes that fall into a folder, in the order of the numbers in their names."""

    def __init__(self, path: Path, voxels: TrainedVoxels) -> None:
        super().__init__(path, voxels)
        self._done: set[str] = set()
        self._last: int | None = None
        self._seen: dict[str, float] = {}
        self._like: CiftiRun | None = None

    def poll(self) -> list[Arrived]:
        """Return the volumes that are there since the last call; see the base class."""
        found: list[Arrived] = []
        names = [p.name for p in self.path.iterdir() if self._is_volume(p.name)]
        waiting = sorted((name for name in names if name not in self._done), key=_order)
        for name in waiting:
            self._seen.setdefault(name, time.time())
            number = _number(name)
            if self._last is not None and number is not None:
                if number <= self._last:
                    self.warnings.append(f"{self.path / name} came after later volumes: left out")
                    self._done.add(name)
                    continue
                if number > self._last + 1 and not self._is_old(name):
                    break
                found += [Arrived(self._lost(), time.time())] * self._skipped(number, name)
            values = self._read(name)
            if values is None:
                break
            self._done.add(name)
            self._last = number
            found.append(Arrived(values, self._since(name)))
        return found

    def _is_volume(self, name: str) -> bool:
        return not name.startswith(".") and name.lower().endswith(SUFFIXES)

    def _skipped(self, number: int, name: str) -> int:
        """Tell of volumes that are missing before one, and return how many."""
        missing = number - (self._last or 0) - 1
        if missing:
            self.warnings.append(
                f"{missing} volumes before {self.path / name} did not come: left out"
            )
        return missing

    def _since(self, name: str) -> float:
        return max(self._seen[name], _changed(self.path / name))

    def _is_old(self, name: str) -> bool:
        return time.time() - self._since(name) > SETTLE_S

    def _read(self, name: str) -> NDArray[np.float32] | None:
        """Return a volume; None where it is still being written, NaN where it stays damaged."""
        path = self.path / name
        try:
            values, fits = self._values(path)
        except MissingStructure:
            values, fits = self._lost(), False
        except (UserError, OSError) as error:
            if not self._is_old(name):
                return None
            self.warnings.append(f"{error} (taken as a lost volume)")
            return self._lost()
        if not fits:
            raise UserError(
                f"{path} is of another geometry than the training runs: bring the volumes to their "
                "space before they are written"
            )
        return self._selected(values, path)

    def _values(self, path: Path) -> tuple[NDArray[Any], bool]:
        """Return the values of a single volume, and whether they lie where the trained ones do."""
        grid = self.voxels.grid
        if path.name.lower().endswith(".npy"):
            return read_or_raise(path, lambda: np.load(path, allow_pickle=False)), True
        if grid is None:
            run = CiftiRun(path, self._like, self.voxels.structures)
            self._like = self._like or run
            return run.read()[0], run.volumes == 1 and has_trained_voxels(run, self.voxels)
        image = load(path)
        values = read_or_raise(path, lambda: np.asarray(image.dataobj, np.float32))
        shape = (*values.shape[:3], *(size for size in values.shape[3:] if size != 1))
        if not same_grid(shape, image.affine, grid.inside.shape, grid.affine):
            return values.ravel(), False
        return values.reshape(grid.inside.shape)[grid.inside], True


class _GrowingFile(IncomingVolumes):
    """A file at whose end volumes are written; a volume of zeros alone is a place kept free."""

    def __init__(self, path: Path, voxels: TrainedVoxels) -> None:
        super().__init__(path, voxels)
        self._taken = 0
        self._layout: tuple[int, int, Callable[[bytes], NDArray[Any]]] | None = None

    def poll(self) -> list[Arrived]:
        """Return the volumes that are there since the last call; see the base class."""
        found: list[Arrived] = []
        with open(self.path, "rb") as stream:
            self._layout = self._layout or self._read_layout(stream)
            if self._layout is None:
                return found
            begin, size, decode = self._layout
            stream.seek(begin + self._taken * size)
            while len(content := stream.read(size)) == size:
                if not any(content):
                    break
                values = self._selected(decode(content), self.path)
                self._taken += 1
                found.append(Arrived(values, min(time.time(), _changed(self.path))))
        return found

    @abstractmethod
    def _read_layout(
        self, stream: BinaryIO
    ) -> tuple[int, int, Callable[[bytes], NDArray[Any]]] | None:
        """Return where the volumes begin, a volume's bytes and what reads it; None: too early."""


class GrowingArray(_GrowingFile):
    """A ``.npy`` (volumes, voxels) that is written row by row.

    How many rows its header promises does not matter; what is there counts.
    """

    def _read_layout(
        self, stream: BinaryIO
    ) -> tuple[int, int, Callable[[bytes], NDArray[Any]]] | None:
        try:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                read = np.lib.format.read_array_header_2_0
            shape, fortran, kind = read(stream)
        except (ValueError, EOFError) as error:
            if time.time() - _changed(self.path) <= SETTLE_S:
                return None
            raise UserError(
                f"{self.path} is not a .npy file ({error}): write its header first"
            ) from error
        if fortran or len(shape) != 2 or kind.kind not in "uif":
            raise UserError(
                f"{self.path} holds {kind} {shape}{', by columns' if fortran else ''}: rows of "
                "numbers (volumes, voxels) can grow"
            )
        return stream.tell(), shape[1] * kind.itemsize, lambda content: np.frombuffer(content, kind)


class GrowingVolumes(_GrowingFile):
    """A 4-D ``.nii`` at whose end volumes are written."""

    def __init__(self, path: Path, voxels: TrainedVoxels, grid: VolumeMask) -> None:
        super().__init__(path, voxels)
        self._grid = grid

    def _read_layout(
        self, stream: BinaryIO
    ) -> tuple[int, int, Callable[[bytes], NDArray[Any]]] | None:
        if len(stream.read(NIFTI_HEADER)) < NIFTI_HEADER:
            return None
        image, grid = load(self.path), self._grid
        shape = tuple(image.shape[:3])
        if len(image.shape) != 4 or not same_grid(
            shape, image.affine, grid.inside.shape, grid.affine
        ):
            raise UserError(
                f"{self.path} is on a different grid than the training runs: shape {image.shape} "
                f"and affine {in_words(image.affine)}, not {grid.inside.shape} and "
                f"{in_words(grid.affine)}"
            )
        data = image.dataobj
        kind, scale, offset = data.dtype, data.slope, data.inter

        def decode(content: bytes) -> NDArray[Any]:
            volume = np.frombuffer(content, kind).reshape(shape, order="F")
            return np.asarray(volume[grid.inside], np.float32) * np.float32(scale) + np.float32(
                offset
            )

        return int(data.offset), int(np.prod(shape)) * kind.itemsize, decode


def _changed(path: Path) -> float:
    """Return when a file was last written, in s of ``time.time``; 0 if it is not there."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _number(name: str) -> int | None:
    """Return the last number in a file's name, without its ending; None if there is none."""
    stem = name
    for suffix in (".gz", ".nii", ".dtseries", ".npy"):
        stem = stem.removesuffix(suffix)
    found = re.findall(r"\d+", stem)
    return int(found[-1]) if found else None


def _order(name: str) -> tuple[int, str]:
    number = _number(name)
    return (-1 if number is None else number, name)
