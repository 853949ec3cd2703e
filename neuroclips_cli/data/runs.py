"""Read fMRI runs: CIFTI-2 dense time series, or NIfTI volumes with a mask."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.known_header import KnownHeader
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.placeholders import require_content
from neuroclips_cli.signal.quality import Findings, inspect

CORTEX = ("CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_CORTEX_RIGHT")
_TOLERANCE_S = 1e-3
_LARGEST_RATIO = 1032
"""Deflate never makes less of more: a .gz file holds at most so many times its own size."""
_UNIT_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


class Run(Protocol):
    """An opened run of one of the two formats.

    Attributes
    ----------
    path : Path
    volumes : int
    columns : int64 (voxels,)
        Where the voxels that are read lie in the file: grayordinate numbers of the cortical
        vertices, or positions in the flattened volume.
    """

    path: Path
    volumes: int
    columns: NDArray[np.int64]

    def read(self) -> NDArray[np.float32]:
        """Return the time series, float32 (volumes, voxels)."""
        ...

    def blocks(
        self, size: int, needed: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield the time series of ``size`` voxels after the other, each byte read once.

        Parameters
        ----------
        size
            Voxels at a time.
        needed
            bool (voxels,); blocks without any of them are left out.

        Yields
        ------
        slice, float32 (volumes, size)
            Which voxels, and their series.
        """
        ...

    def adopt_geometry(self, other: Any) -> bool:
        """Tell whether another run's voxels are the same ones; if so, keep its copy of them."""
        ...


class CiftiRun:
    """Cortical vertices of a ``*.dtseries.nii`` file, taken from its own brain models."""

    columns: NDArray[np.int64]
    models: Any
    _header: KnownHeader | None
    _count: int

    def __init__(self, path: Path, tr_s: float, like: CiftiRun | None = None) -> None:
        from nibabel.cifti2 import BrainModelAxis, Cifti2Image, SeriesAxis

        self.path = path
        self._header = like._header if like else None
        known = self._header.open(path) if self._header else None
        if like and known:
            series, self._data = known
            count, self.columns, self.models = like._count, like.columns, like.models
        else:
            image = load(path)
            if not isinstance(image, Cifti2Image):
                raise UserError(f"{path} is no CIFTI-2 file but {type(image).__name__}: replace it")
            series, models = guarded(path, lambda: [image.header.get_axis(i) for i in range(2)])
            if not isinstance(series, SeriesAxis) or not isinstance(models, BrainModelAxis):
                raise UserError(f"{path} is no CIFTI-2 dense time series: replace it")
            self._header, self._data, count = KnownHeader.of(path), image.dataobj, len(models)
            names = np.asarray(models.name, str)
            self.columns = np.flatnonzero(np.isin(names, CORTEX))
            self.models = models[self.columns]
        if series.unit != "SECOND":
            raise UserError(f"{path} is sampled in {series.unit}, not in seconds: replace it")
        _check_tr(path, float(series.step), tr_s)
        if tuple(self._data.shape) != (len(series), count) or not len(series):
            raise UserError(f"{path} holds other data than its header describes: replace it")
        if not len(self.columns):
            raise UserError(f"{path} holds no cortical vertices (CortexLeft, CortexRight)")
        self.volumes, self._count = len(series), count
        _check_length(path, self._data)

    def read(self) -> NDArray[np.float32]:
        """Return the cortical time series, float32 (volumes, vertices)."""
        return self._part(self.columns)

    def blocks(
        self, size: int, needed: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield the time series of neighbouring vertices; see :class:`Run`."""
        for piece in _pieces(len(self.columns), size, needed):
            yield piece, self._part(self.columns[piece])

    def _part(self, columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read some columns, in ascending order."""
        # Only runs of neighbouring columns can be read without the rest of the file.
        breaks = np.flatnonzero(np.diff(columns) > 1) + 1
        slices = [slice(int(p[0]), int(p[-1]) + 1) for p in np.split(columns, breaks)]
        parts = [
            guarded(self.path, partial(self._data.__getitem__, (slice(None), piece)))
            for piece in slices
        ]
        if len(parts) == 1:
            return np.asarray(parts[0], np.float32)
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def adopt_geometry(self, other: Any) -> bool:
        """Tell whether another run has the same cortical vertices in the same columns.

        If so, its copy of them is kept instead, so that a hundred open runs cost little memory.
        """
        same = (
            isinstance(other, CiftiRun)
            and np.array_equal(self.columns, other.columns)
            and np.array_equal(self.models.vertex, other.models.vertex)
            and np.array_equal(self.models.name, other.models.name)
        )
        if same:
            self.columns, self.models = other.columns, other.models
        return same


class VolumeRun:
    """Voxels inside a mask of a 4-D NIfTI file."""

    def __init__(self, path: Path, tr_s: float, mask: NDArray[np.bool_]) -> None:
        image = load(path)
        shape = image.shape
        if len(shape) != 4 or tuple(shape[:3]) != mask.shape:
            raise UserError(
                f"{path} has the shape {shape}, but the mask (data.mask) {mask.shape}: "
                f"give a mask on the grid of the runs"
            )
        if shape[3] < 1:
            raise UserError(f"{path} holds {shape[3]} volumes: copy or download it again")
        unit = guarded(path, lambda: image.header.get_xyzt_units()[1])
        _check_tr(path, float(image.header.get_zooms()[3]) * _UNIT_SECONDS.get(unit, 1.0), tr_s)
        self.path, self.volumes = path, int(shape[3])
        self.columns = np.flatnonzero(mask)
        self.affine = image.affine
        self._mask, self._data = mask, image.dataobj
        _check_length(path, self._data)

    def read(self) -> NDArray[np.float32]:
        """Return the time series inside the mask, float32 (volumes, voxels)."""
        series = np.empty((self.volumes, len(self.columns)), np.float32)
        for volume in range(self.volumes):
            picture = guarded(self.path, partial(self._data.__getitem__, (..., volume)))
            series[volume] = picture[self._mask]
        return series

    def blocks(
        self, size: int, needed: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield the time series of some voxels after the other; see :class:`Run`."""
        # A volume is the shortest piece of the file that can be read: all at once, then cut.
        series = self.read()
        for piece in _pieces(len(self.columns), size, needed):
            yield piece, series[:, piece]

    def adopt_geometry(self, other: Any) -> bool:
        """Tell whether another run has the same voxels; if so, keep its copy of them."""
        same = isinstance(other, VolumeRun) and np.allclose(self.affine, other.affine)
        if same:
            self.columns = other.columns
        return bool(same)


def _pieces(count: int, size: int, needed: NDArray[np.bool_] | None) -> Iterator[slice]:
    """Cut ``count`` voxels into pieces, and yield those that hold a needed one."""
    for start in range(0, count, size):
        piece = slice(start, min(start + size, count))
        if needed is None or needed[piece].any():
            yield piece


def open_run(
    path: Path, tr_s: float, mask: NDArray[np.bool_] | None = None, like: Run | None = None
) -> Run:
    """Open a run; nothing but its header is read.

    Parameters
    ----------
    path
        ``*.dtseries.nii``; with a mask a 4-D NIfTI file.
    tr_s
        Expected seconds between volumes.
    mask
        bool (x, y, z) for volumetric runs.
    like
        A run of the same subject that is open already; its brain models are not read again.

    Raises
    ------
    UserError
        If the file cannot be read or holds something else.
    """
    if mask is not None:
        return VolumeRun(path, tr_s, mask)
    return CiftiRun(path, tr_s, like if isinstance(like, CiftiRun) else None)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Read a 3-D NIfTI mask: True where the value is not zero."""
    image = load(path)
    _check_length(path, image.dataobj)
    mask = guarded(path, lambda: np.asarray(image.dataobj)) != 0
    mask = mask.reshape(mask.shape[:3]) if mask.ndim == 4 and mask.shape[3] == 1 else mask
    if mask.ndim != 3 or not mask.any():
        raise UserError(f"{path} is no 3-D mask with voxels in it: set data.mask to another file")
    return mask


def load(path: Path) -> Any:
    """Open an image file with nibabel; a damaged one is a :class:`UserError` that names it."""
    import nibabel as nib

    require_content(path)
    # Slices of a compressed file are read in order: keep it open instead of starting over.
    more = {"keep_file_open": True} if path.suffix.lower() == ".gz" else {}
    return guarded(path, lambda: nib.load(path, **more))


def _check_length(path: Path, data: Any) -> None:
    """Refuse a file that cannot hold the data that its header claims, before they get memory."""
    whole = data.offset + data.dtype.itemsize * math.prod(map(int, data.shape))
    packed = path.suffix.lower() == ".gz"
    size = path.stat().st_size * (_LARGEST_RATIO if packed else 1)
    if size < whole:
        held = f"{whole} bytes claimed" if packed else f"{size} of {whole} bytes"
        raise UserError(f"{path} is cut short ({held}): copy or download it again")


def check_values(path: Path, series: NDArray[np.float32]) -> Findings:
    """Look through a run's values; refuse one that holds no measurement at all.

    Raises
    ------
    UserError
        If its numbers are of a size that no scanner writes, or all voxels are unusable.
    """
    if not series.size:
        raise UserError(f"{path} holds no values: copy or download it again")
    found = inspect(series)
    refuse_nonsense(path, found, series.shape[1])
    return found


def refuse_nonsense(path: Path, found: Findings, voxels: int) -> None:
    """Refuse a run that holds no measurement at all.

    Parameters
    ----------
    path
        The run, for the message.
    found
        What was seen in its ``voxels`` voxels.

    Raises
    ------
    UserError
        As in :func:`check_values`.
    """
    if found.garbage > 0.01:
        raise UserError(
            f"{path} holds numbers of impossible size in {100 * found.garbage:.0f} % of its values "
            "(bytes swapped, or a wrong data type in its header): export or download it again"
        )
    if found.not_finite + found.constant == voxels:
        raise UserError(f"{path} holds no signal ({found.in_words()}): export or download it again")


def guarded(path: Path, read: Callable[[], Any]) -> Any:
    """Read from a file that may be cut short or hold garbage."""
    try:
        return read()
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: check the path") from error
    except (UserError, PermissionError):
        raise
    except Exception as error:  # the parsers of nibabel, XML and gzip fail in many ways
        reason = (str(error).splitlines() or [""])[0][:160].rstrip(".") or type(error).__name__
        raise UserError(
            f"{path} is damaged or cut short ({reason}): copy or download it again"
        ) from error


def _check_tr(path: Path, found_s: float, tr_s: float) -> None:
    if abs(found_s - tr_s) > _TOLERANCE_S:
        raise UserError(
            f"{path} has a volume every {found_s:g} s, not every {tr_s:g} s: "
            f"set data.tr_s, or replace the file"
        )
