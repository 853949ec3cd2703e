"""Flat maps of the cortex: the user's GIFTI surfaces, or nilearn's template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.brain_images import load
from neuroclips_cli.data.region_files import LEFT, RIGHT, SIDES, stated_hemisphere
from neuroclips_cli.errors import UserError

FSAVERAGE = {10242: "fsaverage5", 40962: "fsaverage6", 163842: "fsaverage7"}
"""nilearn's meshes by their number of vertices per hemisphere."""
FLAT = 0.05
"""A flat surface is thinner than this share of its largest extent."""


@dataclass(frozen=True)
class FlatSurface:
    """One hemisphere, cut and flattened.

    Attributes
    ----------
    points : float64 (vertices, 2)
        Position of every vertex in the plane.
    triangles : int64 (triangles, 3)
        Numbers of their vertices.
    """

    points: NDArray[np.float64]
    triangles: NDArray[np.int64]


def read_flat(path: Path, vertices: int, option: str) -> FlatSurface:
    """Read a flat surface.

    Parameters
    ----------
    path
        GIFTI surface, such as ``*.L.flat.32k_fs_LR.surf.gii``.
    vertices
        Vertices of that hemisphere in the runs' brain model.
    option
        What to call it in an error, such as ``--surface-left``.

    Raises
    ------
    UserError
        If it is not a surface, has another number of vertices, or is not flat.
    """
    from nibabel.gifti import GiftiImage

    image = load(path)
    if not isinstance(image, GiftiImage):
        raise UserError(f"{option} {path} is not a GIFTI surface: give a flat .surf.gii file")
    points, triangles = (
        [array.data for array in image.get_arrays_from_intent(f"NIFTI_INTENT_{kind}")]
        for kind in ("POINTSET", "TRIANGLE")
    )
    found = [array is not None for array in (*points, *triangles)]
    if found != [True, True] or len(points) != 1 or points[0].ndim != 2 or points[0].shape[1] != 3:
        raise UserError(f"{option} {path} is not a GIFTI surface: give a flat .surf.gii file")
    if len(points[0]) != vertices:
        raise UserError(
            f"{option} {path} has {len(points[0])} vertices, but that hemisphere of the runs "
            f"{vertices}: give a surface of the same mesh"
        )
    # vertices of the medial wall and of the cuts belong to no triangle, and lie anywhere
    used = np.unique(triangles[0])
    if not len(used) or used[0] < 0 or used[-1] >= vertices:
        raise UserError(f"{option} {path} has triangles without vertices: replace the file")
    extents = np.ptp(points[0][used], axis=0)
    if extents.min() > FLAT * extents.max():
        raise UserError(f"{option} {path} is not flat: give a flat (cut and unfolded) surface")
    plane = np.delete(points[0].astype(np.float64), int(extents.argmin()), axis=1)
    middle = plane[used].mean(axis=0)
    inside = np.isin(np.arange(vertices), used)
    return FlatSurface(np.where(inside[:, None], plane, middle), triangles[0].astype(np.int64))


def in_stated_order(left: Path, right: Path) -> tuple[Path, Path]:
    """Return the surfaces of the left and of the right hemisphere, as the files state them.

    Parameters
    ----------
    left, right
        As given; a file that states no hemisphere (``AnatomicalStructurePrimary``) is taken for
        the one that it was given for, unless the other one is.

    Raises
    ------
    UserError
        If both are of one hemisphere.
    """
    sides = [stated_hemisphere(load(path)) for path in (left, right)]
    if sides[0] is not None and sides[0] == sides[1]:
        raise UserError(
            f"{left} and {right} are both of the {SIDES[sides[0]]} hemisphere by what they state: "
            "give one of each as --surface-left and --surface-right"
        )
    return (right, left) if sides[0] == RIGHT or sides[1] == LEFT else (left, right)


def template(vertices: int) -> tuple[FlatSurface, FlatSurface] | str:
    """Return nilearn's flat map of a mesh, left and right, or one sentence why there is none.

    Parameters
    ----------
    vertices
        Vertices per hemisphere in the runs' brain model.
    """
    if vertices not in FSAVERAGE:
        return (
            f"no flat map: nilearn has none of a mesh of {vertices} vertices, so give "
            "--surface-left and --surface-right (for HCP's mesh of 32492 the files "
            "*.flat.32k_fs_LR.surf.gii)"
        )
    try:
        from nilearn.datasets import fetch_surf_fsaverage
    except ImportError:
        return (
            "no flat map: install nilearn for its template (pip install 'neuroclips[flatmap]'), or "
            "give --surface-left and --surface-right"
        )
    try:
        files = fetch_surf_fsaverage(FSAVERAGE[vertices])
    except OSError as error:  # the finer meshes come over the network
        return f"no flat map: nilearn could not fetch its template ({error}); try again later"
    left, right = (
        read_flat(Path(files[f"flat_{side}"]), vertices, "the template")
        for side in ("left", "right")
    )
    return left, right
