"""Grids of volumes: whether two are the same, and bringing one orientation over to another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.01
"""Share of a voxel by which corners of one grid may lie apart: what rounding of headers makes."""


def same_grid(
    shape: Sequence[int],
    affine: NDArray[np.float64],
    other_shape: Sequence[int],
    other_affine: NDArray[np.float64],
) -> bool:
    """Tell whether two grids have the same voxels in the same places, to within rounding.

    Parameters
    ----------
    shape, other_shape
        Voxels along the three axes.
    affine, other_affine
        float (4, 4), voxel numbers to mm.
    """
    if tuple(shape) != tuple(other_shape):
        return False
    if not (np.isfinite(affine).all() and np.isfinite(other_affine).all()):
        return False
    corners = np.array([(*c, 1) for c in itertools.product(*((0, n - 1) for n in shape))], float)
    apart = np.abs(corners @ (np.asarray(affine) - np.asarray(other_affine)).T)[:, :3].max()
    return bool(apart <= TOLERANCE * _smallest_side(affine))


def onto_grid(
    values: NDArray[np.float64],
    affine: NDArray[np.float64],
    shape: Sequence[int],
    target: NDArray[np.float64],
) -> NDArray[np.float64] | None:
    """Bring a volume to a grid of the same voxels that is stored in another orientation.

    Parameters
    ----------
    values
        (x, y, z).
    affine
        Of the values, voxel numbers to mm.
    shape, target
        Of the grid to bring them to.

    Returns
    -------
    (x, y, z) or None
        The same values with axes exchanged and reversed, exactly; None where the two are not
        grids of the same voxels.
    """
    from nibabel.orientations import apply_orientation, inv_ornt_aff

    try:
        steps = (np.linalg.inv(target) @ affine)[:3, :3]
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(steps).all():
        return None
    # Column i tells along which axis of the grid, and which way, axis i of the values runs.
    whole = np.rint(steps)
    if not (np.abs(whole).sum(axis=0) == 1).all() or not (np.abs(whole).sum(axis=1) == 1).all():
        return None
    axes = np.abs(whole).argmax(axis=0)
    orientation = np.stack([axes, whole[axes, range(3)]], axis=1)
    moved: NDArray[np.float64] = apply_orientation(values, orientation)
    there = affine @ inv_ornt_aff(orientation, values.shape)
    return moved if same_grid(moved.shape, there, shape, target) else None


def in_words(affine: NDArray[np.float64]) -> str:
    """Write an affine in one line, row by row, in mm."""
    rows = (" ".join(f"{value:.6g}" for value in row) for row in np.asarray(affine)[:3])
    return f"[{'; '.join(rows)}]"


def _smallest_side(affine: NDArray[np.float64]) -> float:
    """Return the shortest side of a voxel in mm."""
    return float(np.sqrt((np.asarray(affine)[:3, :3] ** 2).sum(axis=0)).min())
