"""Polynomial detrending and standardization of time series.

Order of operations in preprocessing (paper 4.1): (1) detrend every voxel of a run, (2) bring it to
zero mean and unit standard deviation, (3) select the window of volumes that answer to the movie.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def polynomial_basis(volumes: int, order: int) -> NDArray[np.float64]:
    """Compute orthonormal polynomials of degree 0 to `order` on equally spaced points.

    Parameters
    ----------
    volumes : int
        Number of points, more than ``order + 1``.
    order : int
        Highest degree, at least 0.

    Returns
    -------
    numpy.ndarray
        float64 (volumes, order + 1), columns orthonormal.

    Raises
    ------
    ValueError
        If there are not more volumes than polynomials.

    See Also
    --------
    detrend : Removes their span from time series.

    Notes
    -----
    QR decomposition of the Legendre polynomials on [-1, 1].

    Examples
    --------
    >>> basis = polynomial_basis(10, order=2)
    >>> basis.shape, bool(np.allclose(basis.T @ basis, np.eye(3)))
    ((10, 3), True)
    """
    if volumes <= order + 1:
        raise ValueError(f"{volumes} volumes cannot be detrended by a polynomial of order {order}")
    return legendre_factors(volumes, order)[0]


@lru_cache(maxsize=64)
def legendre_factors(volumes: int, order: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the QR decomposition of the Legendre polynomials on [-1, 1].

    Parameters
    ----------
    volumes : int
        Number of equally spaced points.
    order : int
        Highest degree.

    Returns
    -------
    tuple of numpy.ndarray
        float64 (volumes, order + 1) and (order + 1, order + 1), not to be written to: orthonormal
        polynomials, and the triangle that turns Legendre coefficients into theirs.
    """
    powers = np.polynomial.legendre.legvander(np.linspace(-1.0, 1.0, volumes), order)
    basis, triangle = np.linalg.qr(powers)
    for shared in (basis, triangle):
        shared.flags.writeable = False
    return basis, triangle


def detrend(series: NDArray[np.floating], order: int = 4) -> NDArray[np.float64]:
    """Remove the best-fitting polynomial from every column (paper 4.1: 4th order).

    Parameters
    ----------
    series : numpy.ndarray
        float (volumes, voxels), arbitrary units, finite.
    order : int
        Degree of the polynomial; 0 removes the mean only.

    Returns
    -------
    numpy.ndarray
        float64 (volumes, voxels), zero mean, the units of ``series``.

    Raises
    ------
    ValueError
        If there are not more volumes than polynomials.

    See Also
    --------
    standardize : Detrends, then divides by the standard deviation.
    nilearn.signal.clean : A general cleaner; it detrends linearly.

    Notes
    -----
    With the orthonormal basis B of `polynomial_basis`: ``X - B B^T X``, in float64. Equal to
    ``amri_sig_detrend`` of the cc2017 code (Wen et al. 2017).

    Examples
    --------
    A parabola disappears under order 2:

    >>> series = np.arange(10.0)[:, None] ** 2
    >>> bool(np.allclose(detrend(series, order=2), 0))
    True
    >>> detrend(np.array([[1.0], [2.0], [6.0]]), order=0).round(6).tolist()
    [[-2.0], [-1.0], [3.0]]
    """
    data = np.asarray(series, dtype=np.float64)
    basis = polynomial_basis(data.shape[0], order)
    # A large baseline costs digits in the projection; the mean is part of the basis anyway.
    data = data - data.mean(axis=0)
    data -= basis @ (basis.T @ data)
    return data


def usable_columns(series: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell which columns can be standardized: all values finite and not all the same.

    Parameters
    ----------
    series : numpy.ndarray
        float (volumes, voxels), arbitrary units.

    Returns
    -------
    numpy.ndarray
        bool (voxels,).

    Examples
    --------
    >>> usable_columns(np.array([[1.0, 5.0, np.nan], [2.0, 5.0, 1.0]])).tolist()
    [True, False, False]
    """
    low, high = series.min(axis=0), series.max(axis=0)  # NaN and infinity survive both
    with np.errstate(invalid="ignore"):
        return np.isfinite(low) & np.isfinite(high) & (high > low)


def standardize(
    series: NDArray[np.floating], order: int = 4
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Detrend, then give every column zero mean and unit standard deviation (paper 4.1).

    Parameters
    ----------
    series : numpy.ndarray
        float (volumes, voxels), arbitrary units; NaN and infinity are allowed.
    order : int
        Degree of the polynomial to remove.

    Returns
    -------
    z : numpy.ndarray
        float64 (volumes, voxels), standard deviation 1 with ddof 1; columns that carry nothing are
        zero.
    usable : numpy.ndarray
        bool (voxels,), False where a column holds NaN or infinity, or is constant (also: constant
        after detrending up to rounding).

    Raises
    ------
    ValueError
        If there are not more volumes than polynomials.

    See Also
    --------
    detrend : Without the scaling.

    Notes
    -----
    Order of operations:

    1. columns that are constant or not finite are set to zero;
    2. polynomial detrending;
    3. division by the standard deviation over volumes (ddof 1).

    Examples
    --------
    >>> z, usable = standardize(np.array([[1.0, 7.0], [2.0, 7.0], [3.0, 7.0]]), order=0)
    >>> z.std(axis=0, ddof=1).round(6).tolist(), usable.tolist()
    ([1.0, 0.0], [True, False])
    """
    usable = usable_columns(series)
    data = np.where(usable, np.asarray(series, dtype=np.float64), 0.0)
    size = np.abs(data).max(axis=0)
    data = detrend(data, order)
    deviation = data.std(axis=0, ddof=1)
    usable = usable & (deviation > 1e-10 * np.maximum(size, np.finfo(np.float64).tiny))
    deviation = np.where(usable, deviation, 1.0)
    return np.where(usable, (data - data.mean(axis=0)) / deviation, 0.0), usable
