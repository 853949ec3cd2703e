"""What the picture of voxel weights shows: two hemispheres, or the practice world's areas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.surfaces import FlatSurface
from neuroclips_cli.reporting.flatmap import Panel

TITLES = {"perception": "Perception Reconstructor", "semantics": "Semantics Reconstructor"}


def hemispheres(
    maps: Mapping[str, NDArray[np.float64]],
    sides: Sequence[NDArray[np.bool_]],
    vertices: NDArray[np.int64],
    surfaces: Sequence[FlatSurface],
) -> list[list[Panel]]:
    """Return one row per map, left and right.

    Parameters
    ----------
    maps
        Key of `TITLES` -> float (voxels,).
    sides
        bool (voxels,): which voxels lie in the left, which in the right hemisphere.
    vertices
        int (voxels,) their vertices.
    surfaces
        Left and right.
    """
    return [
        [
            Panel(
                f"{TITLES[name]}, {side}",
                surface.points,
                _on_surface(values[here], vertices[here], len(surface.points)),
                surface.triangles,
            )
            for side, here, surface in zip(("left", "right"), sides, surfaces, strict=True)
        ]
        for name, values in maps.items()
    ]


def practice_world(
    maps: Mapping[str, NDArray[np.float64]],
    areas: NDArray[np.str_],
    centers: NDArray[np.float64],
) -> list[list[Panel]]:
    """Return one row per map: early voxels where in the picture they look, then the others.

    Parameters
    ----------
    maps
        Key of `TITLES` -> float (voxels,).
    areas
        (voxels,) ``early``, ``higher`` or ``none``.
    centers
        float (voxels, 2) of the receptive fields, x and y, y downward; NaN for other voxels.
    """
    early = areas == "early"
    # higher voxels have no position: they stand row by row in the order of their numbers
    count = int((~early).sum())
    row, column = np.divmod(np.arange(count), max(1, int(np.ceil(np.sqrt(count)))))
    block = np.stack([column, -row], axis=1).astype(float)
    return [
        [
            Panel(f"{TITLES[name]}: early, by visual field", centers[early] * (1, -1), map_[early]),
            Panel("higher, by number", block, map_[~early]),
        ]
        for name, map_ in maps.items()
    ]


def _on_surface(
    values: NDArray[np.float64], vertices: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    whole = np.full(count, np.nan)
    whole[vertices] = values
    return whole
