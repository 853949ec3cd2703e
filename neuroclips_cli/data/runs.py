"""Read fMRI runs: CIFTI-2 dense time series, GIFTI hemispheres, or NIfTI volumes with a mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.brain_images import check_length, load, read_or_raise
from neuroclips_cli.data.cifti_header_cache import KnownHeader
from neuroclips_cli.data.gifti_runs import GiftiRun
from neuroclips_cli.data.parcel_runs import ParcelRun
from neuroclips_cli.data.run_table import RunRow
from neuroclips_cli.data.structures import CORTEX_ALONE, chosen_columns
from neuroclips_cli.data.time_step import UNIT_SECONDS, stated_step
from neuroclips_cli.data.volume_grid import in_words, same_grid
from neuroclips_cli.data.voxel_pieces import ReadWhole, voxel_pieces
from neuroclips_cli.errors import UserError
from neuroclips_cli.signal.quality import RunQuality, scan_run


class Run(Protocol):
    """An opened run of one of the formats.

    Attributes
    ----------
    path : Path
    volumes : int
    step_s : float or None
        Seconds between volumes; None where the header states none.
    columns : int64 (voxels,)
        Where the voxels that are read lie in the file: grayordinate numbers of the structures
        that were chosen, or positions in the flattened volume.
    """

    path: Path
    volumes: int
    step_s: float | None
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

    def share_geometry(self, other: Any) -> bool:
        """Tell whether another run's voxels are the same ones; if so, keep its copy of them."""
        ...


class CiftiRun:
    """Structures of a ``*.dtseries.nii`` file, taken from its own brain models.

    Parameters
    ----------
    path
        The file.
    like
        A run of the same subject and structures that is open already.
    structures
        Which ones; see :func:`neuroclips_cli.data.structures.chosen_columns`.
    """

    step_source = "series step"
    columns: NDArray[np.int64]
    models: Any
    _header: KnownHeader | None
    _count: int

    def __init__(
        self,
        path: Path,
        like: CiftiRun | None = None,
        structures: Sequence[str] = CORTEX_ALONE,
    ) -> None:
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
                raise UserError(
                    f"{path} is not a CIFTI-2 file but {type(image).__name__}: replace it"
                )
            series, models = read_or_raise(
                path, lambda: [image.header.get_axis(i) for i in range(2)]
            )
            if not isinstance(series, SeriesAxis) or not isinstance(models, BrainModelAxis):
                raise UserError(f"{path} is not a CIFTI-2 dense time series: replace it")
            self._header, self._data, count = KnownHeader.of(path), image.dataobj, len(models)
            self.columns = chosen_columns(path, np.asarray(models.name, str), structures)
            self.models = models[self.columns]
        if series.unit != "SECOND":
            raise UserError(f"{path} is sampled in {series.unit}, not in seconds: replace it")
        self.step_s = stated_step(float(series.step), 1.0)
        if tuple(self._data.shape) != (len(series), count) or not len(series):
            raise UserError(f"{path} holds other data than its header describes: replace it")
        self.volumes, self._count = len(series), count
        check_length(path, self._data)

    def read(self) -> NDArray[np.float32]:
        """Return the time series of the structures, float32 (volumes, grayordinates)."""
        return self._part(self.columns)

    def blocks(
        self, size: int, needed: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield the time series of neighboring grayordinates; see :class:`Run`."""
        for piece in voxel_pieces(len(self.columns), size, needed):
            yield piece, self._part(self.columns[piece])

    def _part(self, columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read some columns, in ascending order."""
        # Only runs of neighboring columns can be read without the rest of the file.
        breaks = np.flatnonzero(np.diff(columns) > 1) + 1
        slices = [slice(int(p[0]), int(p[-1]) + 1) for p in np.split(columns, breaks)]
        parts = [read_or_raise(self.path, partial(self._neighbors, piece)) for piece in slices]
        if len(parts) == 1:
            return np.asarray(parts[0], np.float32)
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def _neighbors(self, columns: slice) -> NDArray[Any]:
        """Read neighboring columns, whose bytes lie in one piece of the file.

        nibabel's slicing takes a third longer, and more where blocks are small.
        """
        data = self._data
        if data.dtype != np.float32 or (data.slope, data.inter) != (1, 0):
            return np.asarray(data[:, columns])
        count, first = columns.stop - columns.start, columns.start * self.volumes
        values = np.fromfile(
            self.path, data.dtype, count * self.volumes, offset=data.offset + 4 * first
        )
        return values.reshape(count, self.volumes).T

    def share_geometry(self, other: Any) -> bool:
        """Tell whether another run has the same vertices and voxels in the same columns.

        If so, its copy of them is kept instead, so that a hundred open runs cost little memory.
        """
        same = (
            isinstance(other, CiftiRun)
            and np.array_equal(self.columns, other.columns)
            and (self.models is other.models or self.models == other.models)
        )
        if same:
            self.columns, self.models = other.columns, other.models
        return same


@dataclass(frozen=True)
class VolumeMask:
    """Which voxels of volumetric runs are read.

    Attributes
    ----------
    inside : bool (x, y, z)
    affine : float64 (4, 4)
        Voxel numbers to mm.
    """

    inside: NDArray[np.bool_]
    affine: NDArray[np.float64]


def read_grid(path: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Return shape (x, y, z) and affine of a volumetric run."""
    image = load(path)
    shape = tuple(map(int, image.shape[:3]))
    affine = getattr(image, "affine", None)
    if len(shape) != 3 or affine is None:
        raise UserError(f"{path} holds no volumes: replace it")
    return shape, np.asarray(affine, np.float64)


class VolumeRun(ReadWhole):
    """Voxels inside a mask of a 4-D NIfTI file."""

    def __init__(self, path: Path, mask: VolumeMask) -> None:
        image = load(path)
        shape = image.shape
        if len(shape) != 4:
            raise UserError(
                f"{path} has the shape {shape} and holds no series of volumes: give a 4-D file"
            )
        if not same_grid(shape[:3], image.affine, mask.inside.shape, mask.affine):
            raise UserError(
                f"{path} is on a different grid than the mask or the other runs: shape {shape[:3]} "
                f"and affine {in_words(image.affine)}, not {mask.inside.shape} and "
                f"{in_words(mask.affine)}; bring all runs of a subject to one grid"
            )
        if shape[3] < 1:
            raise UserError(f"{path} holds {shape[3]} volumes: copy or download it again")
        unit = read_or_raise(path, lambda: image.header.get_xyzt_units()[1])
        zooms = read_or_raise(path, image.header.get_zooms)
        self.step_s = stated_step(float(zooms[3]), UNIT_SECONDS.get(unit))
        self.path, self.volumes = path, int(shape[3])
        self.columns = np.flatnonzero(mask.inside)
        self.affine = image.affine
        self._mask, self._data = mask.inside, image.dataobj
        check_length(path, self._data)

    def read(self) -> NDArray[np.float32]:
        """Return the time series inside the mask, float32 (volumes, voxels)."""
        series = np.empty((self.volumes, len(self.columns)), np.float32)
        for volume in range(self.volumes):
            picture = read_or_raise(self.path, partial(self._data.__getitem__, (..., volume)))
            series[volume] = picture[self._mask]
        return series

    def share_geometry(self, other: Any) -> bool:
        """Tell whether another run has the same voxels; if so, keep its copy of them."""
        same = isinstance(other, VolumeRun) and np.array_equal(self.columns, other.columns)
        if same:
            self.columns = other.columns
        return same


Opener = Callable[[RunRow, "VolumeMask | None", "Run | None", Sequence[str]], Run]
"""Opens a row's run: ``(row, mask of volumes, an open run of the same subject, structures)``."""


def _open_cifti(
    row: RunRow, _: VolumeMask | None, like: Run | None, structures: Sequence[str]
) -> Run:
    return CiftiRun(row.files[0], like if isinstance(like, CiftiRun) else None, structures)


def _open_volumes(
    row: RunRow, mask: VolumeMask | None, _: Run | None, structures: Sequence[str]
) -> Run:
    _require_default(row, structures, "volumes, which name no structures: choose by data.mask")
    if mask is None:
        raise UserError(
            f"{row.files[0]} holds volumes: give a volume mask on their grid with --mask, or a "
            "mask per run in the run table"
        )
    return VolumeRun(row.files[0], mask)


def _open_hemispheres(
    row: RunRow, _: VolumeMask | None, _like: Run | None, structures: Sequence[str]
) -> Run:
    _require_default(
        row, structures, "the cortical surface alone: take CIFTI runs (data.space = fsLR)"
    )
    return GiftiRun(row.files)


def _open_parcels(
    row: RunRow, _: VolumeMask | None, _like: Run | None, structures: Sequence[str]
) -> Run:
    _require_default(row, structures, "parcels, which name no structures: take CIFTI runs")
    return ParcelRun(row.files[0], row.key)


def _require_default(row: RunRow, structures: Sequence[str], what: str) -> None:
    """Refuse a choice of structures where a file has none to choose from."""
    if tuple(structures) != CORTEX_ALONE:
        raise UserError(
            f"data.structures = {', '.join(structures)} cannot be read from {row.run_name}: it "
            f"holds {what}, or leave data.structures at cortex"
        )


OPENERS: tuple[tuple[tuple[str, ...], Opener], ...] = (
    ((".dtseries.nii",), _open_cifti),
    ((".gii", ".gii.gz"), _open_hemispheres),
    ((".nii", ".nii.gz", ".mgz"), _open_volumes),
    ((".h5", ".hdf5"), _open_parcels),
)
"""Endings of files and what opens them; the first that fits."""


def opener_of(row: RunRow) -> Opener:
    """Return what opens a row's run, by the ending of its first file.

    Raises
    ------
    UserError
        If nothing does.
    """
    name = row.files[0].name.lower()
    for endings, opener in OPENERS:
        if name.endswith(endings):
            return opener
    known = ", ".join(ending for endings, _ in OPENERS for ending in endings)
    raise UserError(f"{row.run_name} is not a run that can be read: give files that end in {known}")


def is_volumetric(row: RunRow) -> bool:
    """Tell whether a row's run is a series of volumes."""
    return opener_of(row) is _open_volumes


def open_row(
    row: RunRow,
    mask: VolumeMask | None = None,
    like: Run | None = None,
    structures: Sequence[str] = CORTEX_ALONE,
) -> Run:
    """Open the run of a row of the run table; nothing but its header is read.

    Parameters
    ----------
    row
        Its files decide the format.
    mask
        For volumetric runs.
    like
        A run of the same subject that is open already; its brain models are not read again.
    structures
        Of CIFTI runs; see :func:`neuroclips_cli.data.structures.chosen_columns`.

    Raises
    ------
    UserError
        If the file cannot be read, holds something else, or lacks a structure.
    """
    opener = opener_of(row)
    if len(row.files) > 1 and opener is not _open_hemispheres:
        raise UserError(
            f"{row.run_name} names {len(row.files)} files as one run, which only hemispheres are: "
            "give each run by itself"
        )
    return opener(row, mask, like, structures)


def check_values(path: Path, series: NDArray[np.float32]) -> RunQuality:
    """Look through a run's values; refuse one that holds no measurement at all.

    Raises
    ------
    UserError
        If its numbers are of a size that no scanner writes, or all voxels are unusable.
    """
    if not series.size:
        raise UserError(f"{path} holds no values: copy or download it again")
    found = scan_run(series)
    require_valid_run(path, found, series.shape[1])
    return found


def require_valid_run(path: Path | str, found: RunQuality, voxels: int) -> None:
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
    if int(found.lifeless.sum()) == voxels:
        raise UserError(f"{path} holds no signal ({found.in_words()}): export or download it again")
