"""Write maps of voxels for viewers: CIFTI scalars for the cortex, NIfTI for volumes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_maps(
    path: Path, run: Any, mask: NDArray[np.bool_] | None, maps: Mapping[str, NDArray[Any]]
) -> None:
    """Write one map per name.

    Parameters
    ----------
    path
        ``*.dscalar.nii`` (Connectome Workbench reads it), or ``*.nii`` with a mask.
    run
        A run of :mod:`neuroclips_cli.data.runs`, for the geometry.
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
