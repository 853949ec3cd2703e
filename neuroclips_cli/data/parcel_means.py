"""Runs as the means over an atlas's parcels: one space for brains whose voxels are not the same."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.parcel_runs import parcel_models
from neuroclips_cli.data.region_files import RegionFile
from neuroclips_cli.data.regions import label_names, labels_of, on_grid, on_models
from neuroclips_cli.data.runs import Run, VolumeMask
from neuroclips_cli.data.voxel_pieces import ReadWhole
from neuroclips_cli.errors import UserError
from neuroclips_cli.signal.detrend import usable_columns

PIECE = 8192
"""Voxels that are averaged at a time."""


@dataclass(frozen=True)
class Parcels:
    """Which parcel every voxel of a run lies in.

    Attributes
    ----------
    names : tuple of str
        All parcels of the atlas, in the order of its labels.
    of_voxel : int64 (voxels,)
        Number of the parcel, from 0; -1 where a voxel lies in none.
    """

    names: tuple[str, ...]
    of_voxel: NDArray[np.int64]


def find_parcels(
    atlas: RegionFile, run: Run, mask: VolumeMask | None, inside: NDArray[np.bool_] | None
) -> Parcels:
    """Tell which parcel every voxel of a run lies in.

    Parameters
    ----------
    atlas : RegionFile
        A label file of one map, on the runs' mesh or grid.
    run : Run
        Any of the runs, which have the same voxels.
    mask : VolumeMask or None
        Of volumetric runs.
    inside : bool (voxels,) or None
        Voxels that the user's mask leaves; None: all.

    Raises
    ------
    UserError
        If the runs hold parcels already, the atlas has several maps, names no parcel, or is of
        another mesh or grid.
    """
    models: Any = getattr(run, "models", None)
    if mask is None and not (set(models.name) - {"CIFTI_STRUCTURE_OTHER"}):
        raise UserError(f"{run.path} holds parcels already: leave data.parcels out")
    if len(atlas.maps) != 1:
        raise UserError(
            f"{atlas.called} holds {len(atlas.maps)} maps, and parcels come from one: give a file "
            "of that map alone"
        )
    if mask is None:
        labels = labels_of(atlas, on_models(atlas, 0, models))
    else:
        labels = labels_of(atlas, on_grid(atlas, 0, mask.inside.shape, mask.affine))[mask.inside]
    if inside is not None:
        labels = np.where(inside, labels, "")
    names = tuple(dict.fromkeys(label_names(atlas).values()))
    number = {name: place for place, name in enumerate(names)}
    every, where = np.unique(labels, return_inverse=True)
    return Parcels(names, np.array([number.get(str(name), -1) for name in every])[where])


class ParcelMeans(ReadWhole):
    """Another run, averaged over the voxels of each parcel that carry a signal in it.

    Its columns are numbers made of the parcels' names, so that parcels of unlike atlases are never
    taken for one another. A parcel without any signal is NaN. In maps, parcel ``i`` is the voxel
    ``(i, 0, 0)`` of no structure.

    Parameters
    ----------
    run : Run
        What is averaged.
    parcels : Parcels
        See :func:`find_parcels`.

    Examples
    --------
    >>> class Three(ReadWhole):
    ...     path, volumes, step_s, columns = Path("a.nii"), 2, 2.0, np.arange(3)
    ...     def read(self):
    ...         return np.array([[1, 3, 9], [2, 6, 9]], np.float32)
    >>> ParcelMeans(Three(), Parcels(("V1", "V2"), np.array([0, 0, 1]))).read().tolist()
    [[2.0, nan], [4.0, nan]]
    """

    columns: NDArray[np.int64]
    models: Any

    def __init__(self, run: Run, parcels: Parcels) -> None:
        self.run, self.parcels = run, parcels
        self.path: Path = run.path
        self.volumes, self.step_s = run.volumes, run.step_s
        self.columns = np.array([_number(name) for name in parcels.names])
        self.models = parcel_models(len(parcels.names))

    def read(self) -> NDArray[np.float32]:
        """Return the means, float32 (volumes, parcels)."""
        from scipy.sparse import csr_array

        sums = np.zeros((len(self.columns), self.volumes))
        counts = np.zeros(len(self.columns))
        for piece, series in self.run.blocks(PIECE, self.parcels.of_voxel >= 0):
            number = self.parcels.of_voxel[piece]
            (kept,) = np.nonzero((number >= 0) & usable_columns(series))
            place = number[kept], np.arange(len(kept))
            member = csr_array((np.ones(len(kept)), place), (len(counts), len(kept)))
            sums += member @ series[:, kept].T.astype(np.float64)
            counts += member.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray((sums / counts[:, None]).T, np.float32)

    def table(self) -> list[tuple[int, str, int]]:
        """Return number, name and voxels of every parcel."""
        sizes = np.bincount(self.parcels.of_voxel + 1, minlength=len(self.columns) + 1)[1:]
        return [
            (number, name, int(size))
            for number, (name, size) in enumerate(zip(self.parcels.names, sizes, strict=True))
        ]

    def share_geometry(self, other: Any) -> bool:
        """Tell whether another run has the same parcels, whatever voxels these are means of."""
        same = isinstance(other, ParcelMeans) and self.parcels.names == other.parcels.names
        if same:
            self.columns, self.models = other.columns, other.models
        return same


def _number(name: str) -> int:
    return int.from_bytes(sha256(name.encode()).digest()[:8], "big") >> 1
