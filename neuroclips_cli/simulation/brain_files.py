"""Write simulated series as CIFTI files, pairs of GIFTI files, or volumes with a mask."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.io.atomic import atomic_path
from neuroclips_cli.simulation.geometry import brain_models

if TYPE_CHECKING:
    from nibabel.cifti2 import BrainModelAxis

MESHES = {"small": ("fsaverage5", 10242), "91k": ("fsaverage6", 40962)}
"""Mesh of the GIFTI files of each choice of grayordinates, and its vertices per hemisphere."""
GRIDS = {"small": (24, 20, 20), "91k": (54, 48, 40)}
"""Shape of the volumes, in voxels of 2 mm."""
SPACE = "MNI152NLin2009cAsym"


@cache
def models_of(grayordinates: str) -> BrainModelAxis:
    """Return the brain models, which take a moment to build, once."""
    return brain_models(grayordinates)


def cortex_of(grayordinates: str) -> NDArray[np.bool_]:
    """Tell which grayordinates are cortical, bool (grayordinates,)."""
    names = np.asarray(models_of(grayordinates).name, str)
    return np.char.startswith(names, "CIFTI_STRUCTURE_CORTEX_")


def write_cifti(path: Path, series: NDArray[np.float32], tr_s: float, grayordinates: str) -> None:
    """Write a dense time series, float32 (volumes, grayordinates)."""
    from nibabel.cifti2 import SeriesAxis

    times = SeriesAxis(0, tr_s, len(series), unit="SECOND")
    write_run(path, series, times, models_of(grayordinates))


def write_run(path: Path, series: np.ndarray, times: Any, models: Any) -> None:
    """Write a CIFTI-2 dense time series atomically: float32 (volumes, grayordinates)."""
    from nibabel.cifti2 import Cifti2Image

    image = Cifti2Image(series.astype(np.float32, copy=False), header=(times, models))
    image.update_headers()
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES")
    with atomic_path(path) as temporary:
        image.to_filename(temporary)


def surface_vertices(grayordinates: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the vertices of the left and right mesh that hold the cortical grayordinates.

    The others are zero in the files, as those of the medial wall are.
    """
    names = np.asarray(models_of(grayordinates).name, str)
    mesh = MESHES[grayordinates][1]
    left, right = (
        np.linspace(0, mesh - 1, int((names == f"CIFTI_STRUCTURE_CORTEX_{side}").sum()))
        for side in ("LEFT", "RIGHT")
    )
    return left.round().astype(np.int64), right.round().astype(np.int64)


def write_gifti(paths: tuple[Path, ...], series: NDArray[np.float32], grayordinates: str) -> None:
    """Write the cortical columns as one file per hemisphere, one data array per volume."""
    from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiMetaData

    cortical = series[:, cortex_of(grayordinates)]
    start, mesh = 0, MESHES[grayordinates][1]
    for path, side, vertices in zip(
        paths, ("Left", "Right"), surface_vertices(grayordinates), strict=True
    ):
        full = np.zeros((len(series), mesh), np.float32)
        full[:, vertices] = cortical[:, start : start + len(vertices)]
        start += len(vertices)
        arrays = [
            GiftiDataArray(volume, intent="NIFTI_INTENT_TIME_SERIES", datatype="float32")
            for volume in full
        ]
        meta = GiftiMetaData({"AnatomicalStructurePrimary": f"Cortex{side}"})
        with atomic_path(path) as temporary:
            GiftiImage(darrays=arrays, meta=meta).to_filename(temporary)


def voxel_positions(grayordinates: str) -> NDArray[np.int64]:
    """Return where the grayordinates lie in the flattened grid (C order), int64, ascending.

    The grayordinates fill the middle of the grid one after the other; places mean nothing.
    """
    count, size = len(models_of(grayordinates)), int(np.prod(GRIDS[grayordinates]))
    return np.arange(count, dtype=np.int64) + (size - count) // 2


def write_volumes(
    path: Path, mask: Path, series: NDArray[np.float32], tr_s: float, grayordinates: str
) -> None:
    """Write all columns as volumes, and the brain mask beside them."""
    import nibabel as nib

    shape, positions = GRIDS[grayordinates], voxel_positions(grayordinates)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    inside = np.zeros(int(np.prod(shape)), np.uint8)
    inside[positions] = 1
    full = np.zeros((len(inside), len(series)), np.float32)
    full[positions] = series.T
    bold = nib.Nifti1Image(full.reshape(*shape, len(series)), affine)
    bold.header.set_zooms((2.0, 2.0, 2.0, tr_s))
    bold.header.set_xyzt_units("mm", "sec")
    for image, target in ((nib.Nifti1Image(inside.reshape(shape), affine), mask), (bold, path)):
        # nibabel tells the format by an ending that temporary names lack
        with (
            atomic_path(target) as temporary,
            gzip.GzipFile(temporary, "wb", compresslevel=1, mtime=0) as stream,
        ):
            stream.write(image.to_bytes())


def positions_of(grayordinates: str, files: str) -> NDArray[np.int64]:
    """Return where the cortical vertices' series lie in the files, int64 (cortical,).

    Grayordinates of CIFTI files, vertices of the left mesh and then of the right one for GIFTI
    pairs, or voxels of the flattened grid (C order).
    """
    cortex = cortex_of(grayordinates)
    if files == "cifti":
        return np.flatnonzero(cortex)
    if files == "gifti":
        left, right = surface_vertices(grayordinates)
        return np.concatenate([left, MESHES[grayordinates][1] + right])
    return voxel_positions(grayordinates)[cortex]
