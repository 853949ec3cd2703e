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
    """Average voxel maps over the voxels of each region.

    Parameters
    ----------
    labels : numpy.ndarray
        str (voxels,), the region of each voxel; empty where it is in none.
    maps : mapping
        Name -> float64 (voxels,), any unit.

    Returns
    -------
    list of RegionMean
        In the order of the labels' names; regions without a voxel do not occur.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroclips_cli.metrics.roi import region_means
    >>> labels = np.array(["V1", "V1", "", "MT"])
    >>> [(m.region, m.voxels, m.means) for m in region_means(labels, {"w": np.arange(4.0)})]
    [('MT', 1, {'w': 3.0}), ('V1', 2, {'w': 0.5})]
    """
    found = []
    for region in np.unique(labels[labels != ""]):
        inside = labels == region
        means = {name: float(values[inside].mean()) for name, values in maps.items()}
        found.append(RegionMean(str(region), int(inside.sum()), means))
    return found


def ratio(first: RegionMean, second: RegionMean) -> dict[str, float]:
    """Divide the mean weights of one region by those of another.

    Parameters
    ----------
    first, second : RegionMean
        Means of the same maps.

    Returns
    -------
    dict
        Map -> mean of ``first`` over mean of ``second``; NaN where the latter is 0.

    Examples
    --------
    >>> from neuroclips_cli.metrics.roi import RegionMean, ratio
    >>> ratio(RegionMean("low", 2, {"w": 3.0}), RegionMean("high", 2, {"w": 2.0}))
    {'w': 1.5}
    """
    return {
        name: value / second.means[name] if second.means[name] else float("nan")
        for name, value in first.means.items()
    }


def grouped(
    labels: NDArray[np.str_], groups: Mapping[str, Sequence[str]], plain: Sequence[str]
) -> NDArray[np.str_]:
    """Return the group of each voxel.

    Parameters
    ----------
    labels : numpy.ndarray
        str (voxels,), full names of regions, such as ``L_V1_ROI``.
    groups : mapping
        Group -> plain names of its regions, such as ``V1``.
    plain : sequence of str
        (voxels,), the plain name of each label.

    Returns
    -------
    numpy.ndarray
        str (voxels,), empty where the region belongs to no group.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroclips_cli.metrics.roi import grouped
    >>> grouped(np.array(["L_V1_ROI", "L_MT_ROI"]), {"lower": ["V1"]}, ["V1", "MT"]).tolist()
    ['lower', '']
    """
    of_region = {region: name for name, regions in groups.items() for region in regions}
    names = [
        of_region.get(full, of_region.get(short, ""))
        for full, short in zip(labels, plain, strict=True)
    ]
    return np.array(names, dtype=str)
