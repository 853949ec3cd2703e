"""Read and write maps of voxels: CIFTI scalars for grayordinates, NIfTI for volumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.brain_images import load
from neuroclips_cli.errors import UserError


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a subject lie.

    Attributes
    ----------
    models : nibabel BrainModelAxis or None
        Of vertices and subcortical voxels; None for volumetric runs.
    mask : bool (x, y, z) or None
        Of volumetric runs.
    affine : float (4, 4) or None
        Of volumetric runs.
    """

    models: Any
    mask: NDArray[np.bool_] | None
    affine: NDArray[np.float64] | None


def read_geometry(path: Path, columns: NDArray[np.int64]) -> Geometry:
    """Read the geometry from a map that `write_maps` wrote.

    Parameters
    ----------
    path
        ``*.dscalar.nii`` or ``*.nii``.
    columns
        Positions of the voxels in the flattened volume, for ``*.nii``.
    """
    from nibabel.cifti2 import Cifti2Image

    image = load(path)
    if isinstance(image, Cifti2Image):
        return Geometry(image.header.get_axis(1), None, None)
    mask = np.zeros(int(np.prod(image.shape[:3])), bool)
    mask[columns] = True
    return Geometry(None, mask.reshape(image.shape[:3]), image.affine)


def read_maps(path: Path, columns: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    """Read maps that `write_maps` wrote.

    Parameters
    ----------
    path : pathlib.Path
        ``*.dscalar.nii`` or ``*.nii``.
    columns : numpy.ndarray
        int (voxels,): positions of the voxels in the flattened volume, for ``*.nii``.

    Returns
    -------
    dict
        Name -> float32 (voxels,). Volumes keep no names: theirs are ``map 1``, ``map 2`` and so on.

    Raises
    ------
    UserError
        If the file is not an image, or holds something else than scalars.

    See Also
    --------
    write_maps, read_geometry
    """
    from nibabel.cifti2 import Cifti2Image, ScalarAxis

    image = load(path)
    values = np.asarray(image.dataobj, dtype=np.float32)
    if isinstance(image, Cifti2Image):
        names = image.header.get_axis(0)
        if not isinstance(names, ScalarAxis):
            raise UserError(f"{path} holds no scalar maps: give a *.dscalar.nii file")
        return dict(zip(names.name.tolist(), values, strict=True))
    flat = values.reshape(int(np.prod(image.shape[:3])), -1)
    if columns.size and columns.max() >= len(flat):
        raise UserError(
            f"{path} has a different grid {image.shape[:3]} than the runs: give a map of it"
        )
    return {f"map {n + 1}": flat[columns, n] for n in range(flat.shape[1])}


def write_maps(
    path: Path, run: Any, mask: NDArray[np.bool_] | None, maps: Mapping[str, NDArray[Any]]
) -> None:
    """Write one map per name.

    Parameters
    ----------
    path
        ``*.dscalar.nii`` (Connectome Workbench reads it), or ``*.nii`` with a mask.
    run
        A run of :mod:`neuroclips_cli.data.runs` or a `Geometry`.
    mask
        bool (x, y, z) of volumetric runs, else None.
    maps
        Name -> (voxels,) in the order of the run's columns.
    """
    values = np.stack([np.asarray(m, dtype=np.float32) for m in maps.values()])
    if mask is None:
        write_scalars(path, run.models, list(maps), values)
        return
    import nibabel as nib

    volume = np.zeros((*mask.shape, len(values)), np.float32)
    volume[mask] = values.T
    nib.save(nib.Nifti1Image(volume, run.affine), path)


def write_scalars(path: Path, models: Any, names: list[str], values: NDArray[np.float32]) -> None:
    """Write a CIFTI-2 dense scalar file: (maps, vertices) on nibabel brain models."""
    from nibabel.cifti2 import Cifti2Image, ScalarAxis

    image = Cifti2Image(values, header=(ScalarAxis(names), models))
    image.update_headers()
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SCALARS")
    image.to_filename(path)
