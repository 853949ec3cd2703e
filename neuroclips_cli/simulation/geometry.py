"""Grayordinates: HCP's 91282 with its medial wall, or a small sample of them."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nibabel.cifti2 import BrainModelAxis

SURFACE_VERTICES = 32492
SMALL_CORTEX = 4000  # vertices of one hemisphere
SMALL_SUBCORTEX = 300  # voxels in all
CHOICES = ("small", "91k")


def brain_models(kind: str) -> BrainModelAxis:
    """Build the brain models of a simulated file.

    Parameters
    ----------
    kind
        ``91k``: the 91282 grayordinates of the HCP and of cc2017 (29696 + 29716 cortical vertices
        of 32492 each, 19 subcortical structures). ``small``: 4000 + 4000 of these vertices and
        about 300 of these voxels, evenly thinned out.

    Returns
    -------
    nibabel.cifti2.BrainModelAxis
    """
    from nibabel.cifti2 import BrainModelAxis

    facts = _facts()
    counts, names = facts["counts"], facts["names"]
    structure = np.repeat(np.arange(len(counts)), counts)
    cortical = structure < 2
    keep = np.ones(len(structure), bool)
    if kind == "small":
        keep = np.zeros(len(structure), bool)
        for hemisphere in range(2):
            keep[_thin(np.flatnonzero(structure == hemisphere), SMALL_CORTEX)] = True
        keep[_thin(np.flatnonzero(~cortical), SMALL_SUBCORTEX)] = True
    elif kind != "91k":
        raise ValueError(f"unknown grayordinates {kind!r}")
    vertex = np.full(len(structure), -1)
    vertex[cortical] = np.concatenate([facts["left_vertices"], facts["right_vertices"]])
    voxel = np.full((len(structure), 3), -1)
    voxel[~cortical] = facts["voxels"]
    return BrainModelAxis(
        names[structure[keep]].astype(object),
        voxel=voxel[keep],
        vertex=vertex[keep],
        affine=facts["affine"],
        volume_shape=tuple(int(n) for n in facts["volume_shape"]),
        nvertices={str(name): SURFACE_VERTICES for name in names[:2]},
    )


def _thin(indices: np.ndarray, count: int) -> np.ndarray:
    return indices[np.linspace(0, len(indices) - 1, count).round().astype(int)]


def _facts() -> dict[str, np.ndarray]:
    path = resources.files("neuroclips_cli") / "assets" / "hcp_91282.npz"
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
