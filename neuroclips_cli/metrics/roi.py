"""Means of voxel weights over regions and over lower and higher visual areas."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.errors import UserError
from neuroclips_cli.models.subject_place import RIDGE


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
    >>> grouped(np.array(["L_V1_ROI", "L_MT_ROI"]), {"lower": ["V1"]}, ["V1", "MT"]).tolist()
    ['lower', '']
    """
    of_region = {region: name for name, regions in groups.items() for region in regions}
    names = [
        of_region.get(full, of_region.get(short, ""))
        for full, short in zip(labels, plain, strict=True)
    ]
    return np.array(names, dtype=str)


def voxel_weights(weights: Path, place: int | str | None = None) -> NDArray[np.float64]:
    """Return the mean absolute weight of every voxel in a subject's first ridge layer.

    Parameters
    ----------
    weights : pathlib.Path
        ``model.safetensors`` of ``train-pr`` or ``train-sr``.
    place : int or str, optional
        Of the subject in a decoder of several, see :func:`checkpoint.place_of`.

    Returns
    -------
    numpy.ndarray
        float64 (voxels,), at least 0, in output units per standard deviation of the voxel.

    Raises
    ------
    UserError
        If the file is missing, damaged, or of another model.

    See Also
    --------
    scaled : Brings the weights to 0..1 for maps.
    neuroclips_cli.metrics.roi.region_means : Averages them over regions.

    Notes
    -----
    ``w_v = (1 / hidden) sum_h abs(W[h, v])``; of a window of volumes the mean over them.
    """
    from safetensors import SafetensorError, safe_open

    own = "average" if place == "average" else f"linears.{place or 0}"
    one = re.compile(rf"({'|'.join(RIDGE)})\.{own}(\.volumes\.\d+)?\.weight")
    try:
        with safe_open(weights, framework="np") as file:
            names = sorted(name for name in file.keys() if one.fullmatch(name))  # noqa: SIM118
            if not names or len({name.split(".")[0] for name in names}) != 1:
                named = " nor ".join(f"{ridge}.{own}.weight" for ridge in RIDGE)
                raise UserError(
                    f"{weights} holds no ridge layer, neither {named}: it is not a trained "
                    "reconstructor, train again"
                )
            layers = [file.get_tensor(name) for name in names]
    except FileNotFoundError as error:
        raise UserError(f"{weights} does not exist: run the training command first") from error
    except SafetensorError as error:
        raise UserError(
            f"{weights} holds no readable ridge layer ({error}): train again"
        ) from error
    means = [np.abs(layer.astype(np.float64)).mean(axis=0) for layer in layers]
    found: NDArray[np.float64] = means[0] if len(means) == 1 else np.mean(means, axis=0)
    return found


def scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale values linearly to 0..1.

    Parameters
    ----------
    values : numpy.ndarray
        float64 (voxels,), at least one.

    Returns
    -------
    numpy.ndarray
        float64 (voxels,), ``(x - min) / (max - min)``; all 0 where the values are equal (paper A).

    Examples
    --------
    >>> scaled(np.array([2.0, 4.0, 3.0])).tolist(), scaled(np.ones(2)).tolist()
    ([0.0, 1.0, 0.5], [0.0, 0.0])
    """
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)
