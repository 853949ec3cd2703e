"""Series without their polynomials in single precision, for the gigabytes that preprocess reads.

A voxel's series lies in one piece in memory, and every step passes once over a block of voxels
that stays in the processor's cache. Where little else than polynomials is left, single precision
would lose digits: :mod:`neuroclips_cli.signal.detrend` does such voxels, in double precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.runtime.batches import batches
from neuroclips_cli.signal.detrend import legendre_factors, polynomial_basis, standardize
from neuroclips_cli.signal.training_statistics import RunStatistics, run_statistics

CACHED = 512
"""Voxels that stay in a core's own cache from one step to the next."""
LEAST_LEFT = 0.02
"""Share of a centered series that polynomials must leave: 5 digits of the rest are then kept."""
ROUNDING = 1e-15
"""Variance by rounding of single precision, as a share of the squared mean."""


@dataclass(frozen=True)
class Projection:
    """Series less their mean, and how much of them polynomials explain.

    Attributes
    ----------
    centered : numpy.ndarray
        float32 (voxels, volumes), less `mean`.
    mean : numpy.ndarray
        float32 (voxels,), to the digits of single precision.
    weights : numpy.ndarray
        float32 (voxels, order + 1) of the polynomials in `centered`.
    left : numpy.ndarray
        float64 (voxels,), sum of squares of what the polynomials leave.
    clear : numpy.ndarray
        bool (voxels,): all this is exact enough; the others are not finite, constant or all drift.
    """

    centered: NDArray[np.float32]
    mean: NDArray[np.float32]
    weights: NDArray[np.float32]
    left: NDArray[np.float64]
    clear: NDArray[np.bool_]


def project(series: NDArray[np.floating], order: int) -> Projection:
    """Project series on the polynomials of degree 0 to `order`.

    Parameters
    ----------
    series : numpy.ndarray
        float (volumes, voxels), arbitrary units; fastest where a voxel's volumes are neighbors.
    order : int
        Highest degree.

    Returns
    -------
    Projection

    Raises
    ------
    ValueError
        If there are not more volumes than polynomials.
    """
    volumes = len(series)
    basis = polynomial_basis(volumes, order).astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        rows = np.asarray(series.T, np.float32)
        if rows.strides[1] != rows.itemsize:
            rows = np.ascontiguousarray(rows)
        share = np.full(volumes, 1 / volumes, np.float32)
        mean, square = np.empty((2, len(rows)), np.float32)
        centered = np.empty(rows.shape, np.float32)
        weights = np.empty((len(rows), order + 1), np.float32)
        for part in batches(len(rows), CACHED):
            np.matmul(rows[part], share, out=mean[part])
            less = np.subtract(rows[part], mean[part, None], out=centered[part])
            np.matmul(less, basis, out=weights[part])
            np.vecdot(less, less, out=square[part])
        whole = square.astype(np.float64)
        left = whole - np.vecdot(weights, weights)
        clear = (left > LEAST_LEFT * whole) & (whole > ROUNDING * volumes * np.square(mean))
    return Projection(centered, mean, weights, left, clear & np.isfinite(whole))


def standardize_run(
    series: NDArray[np.floating], order: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], RunStatistics]:
    """Standardize some voxels of a run, and measure baseline, drift and noise in passing.

    Parameters
    ----------
    series : numpy.ndarray
        float (volumes, voxels), arbitrary units; NaN and infinity are allowed.
    order : int
        Degree of the polynomial to remove.

    Returns
    -------
    z : numpy.ndarray
        float32 (volumes, voxels), :func:`neuroclips_cli.signal.detrend.standardize` to 1e-5.
    usable : numpy.ndarray
        bool (voxels,), False where a voxel carries nothing.
    statistics : RunStatistics
        :func:`neuroclips_cli.signal.training_statistics.run_statistics` to the same digits.

    Raises
    ------
    ValueError
        If there are not more volumes than polynomials.
    """
    volumes, found = len(series), project(series, order)
    z, hard = found.centered, ~found.clear
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        z -= found.weights @ polynomial_basis(volumes, order).T.astype(np.float32)
        square = np.vecdot(z, z)
        deviation = np.sqrt(square / (volumes - 1))
        lagged = np.vecdot(z[:, 1:], z[:, :-1]) / square
        z *= (1 / deviation)[:, None]
    trend = _legendre(found.weights.T.astype(np.float64), volumes, order)
    trend[0] += found.mean
    statistics = RunStatistics(trend, deviation.astype(float), lagged.astype(float), volumes)
    usable = np.ones(len(z), bool)
    if hard.any():
        exact, usable[hard] = standardize(series[:, hard], order)
        z[hard] = exact.T
        _replace(statistics, hard, run_statistics(series[:, hard], order))
    return z.T, usable, statistics


def _legendre(weights: NDArray[np.float64], volumes: int, order: int) -> NDArray[np.float64]:
    """Turn weights of the orthonormal polynomials, (order + 1, voxels), into Legendre ones."""
    triangle = legendre_factors(volumes, order)[1]
    return np.asarray(np.linalg.inv(triangle) @ weights)


def _replace(statistics: RunStatistics, where: NDArray[np.bool_], by: RunStatistics) -> None:
    """Write the statistics of some voxels over."""
    statistics.trend[:, where] = by.trend
    statistics.deviation[where] = by.deviation
    statistics.autocorrelation[where] = by.autocorrelation
