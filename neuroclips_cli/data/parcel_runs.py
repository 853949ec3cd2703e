"""Read runs of parcels: one table per run in an HDF5 file, as the Algonauts 2025 challenge has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.hdf5_files import open_hdf5, tables
from neuroclips_cli.data.voxel_pieces import ReadWhole
from neuroclips_cli.errors import UserError


class ParcelRun(ReadWhole):
    """One data set of an HDF5 file: (volumes, parcels). Its columns are the parcels' numbers.

    An HDF5 file states no time between volumes (`step_s` is None) and no places: in maps, parcel
    ``i`` (from 0) is the voxel ``(i, 0, 0)`` of no structure.

    Parameters
    ----------
    path
        The file.
    key
        Name of the data set inside it, groups with ``/``.

    Raises
    ------
    UserError
        If the file cannot be read, lacks the data set, or holds something else under that name.
    """

    columns: NDArray[np.int64]
    models: Any
    step_s: float | None = None

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        found = tables(path)
        shape = found.get(key)
        if shape is None:
            some = ", ".join(list(found)[:3]) or "none"
            raise UserError(
                f"{path} holds no data set {key!r} (it holds {len(found)}: {some} ...): correct "
                "the part after # in the run table"
            )
        if len(shape) != 2 or 0 in shape:
            raise UserError(
                f"{path}#{key} has the shape {shape} and holds no (volumes, parcels): name another "
                "data set"
            )
        self.volumes = shape[0]
        self.columns = np.arange(shape[1])
        self.models = parcel_models(shape[1])

    def read(self) -> NDArray[np.float32]:
        """Return the time series, float32 (volumes, parcels)."""
        with open_hdf5(self.path) as file:
            try:
                return np.asarray(file[self.key][()], dtype=np.float32)
            except (OSError, TypeError, ValueError) as error:
                raise UserError(
                    f"{self.path}#{self.key} cannot be read ({error}): copy or download it again"
                ) from error

    def share_geometry(self, other: Any) -> bool:
        """Tell whether another run has as many parcels; if so, keep its copy of them."""
        same = isinstance(other, ParcelRun) and len(self.columns) == len(other.columns)
        if same:
            self.columns, self.models = other.columns, other.models
        return same


def parcel_models(count: int) -> Any:
    """Return brain models of parcels, which say of no place: ``i`` is the voxel ``(i, 0, 0)``."""
    from nibabel.cifti2 import BrainModelAxis

    voxels = np.zeros((count, 3), int)
    voxels[:, 0] = np.arange(count)
    names = np.full(count, "CIFTI_STRUCTURE_OTHER", dtype=object)
    return BrainModelAxis(names, voxel=voxels, affine=np.eye(4), volume_shape=(count, 1, 1))
