"""Means of voxel weights over regions and over lower and higher visual areas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RegionMean:
    """What the voxels of one region weigh.

    Attributes
    ----------
    region : str
    voxels : int
    means : dict
        Map -> mean over the region's voxels.
    """

    region: str
    voxels: int
    means: dict[str, float]


def region_means(
    labels: NDArray[np.str_], maps: Mapping[str, NDArray[np.float64]]
) -> list[RegionMean]:
    """Average maps over the voxels of each label.

    Parameters
    ----------
    labels
        (voxels,) the region of each voxel; empty where it is in none.
    maps
        Name -> (voxels,).

    Returns
    -------
    list of RegionMean
        In the order of the labels' names; regions without a voxel do not occur.
    """
    found = []
    for region in np.unique(labels[labels != ""]):
        inside = labels == region
        means = {name: float(values[inside].mean()) for name, values in maps.items()}
        found.append(RegionMean(str(region), int(inside.sum()), means))
    return found


def ratio(first: RegionMean, second: RegionMean) -> dict[str, float]:
    """Return map -> mean weight of the first region over that of the second."""
    return {
        name: value / second.means[name] if second.means[name] else float("nan")
        for name, value in first.means.items()
    }


def grouped(
    labels: NDArray[np.str_], groups: Mapping[str, Sequence[str]], plain: Sequence[str]
) -> NDArray[np.str_]:
    """Return the group of each voxel, empty where its region belongs to none.

    Parameters
    ----------
    labels
        (voxels,) full names, such as ``L_V1_ROI``.
    groups
        Group -> plain names of its regions, such as ``V1``.
    plain
        (voxels,) the plain name of each label.
    """
    of_region = {region: name for name, regions in groups.items() for region in regions}
    names = [
        of_region.get(full, of_region.get(short, ""))
        for full, short in zip(labels, plain, strict=True)
    ]
    return np.array(names, dtype=str)
