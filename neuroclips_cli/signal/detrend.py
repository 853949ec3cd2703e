"""Polynomial detrending and standardising of time series."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def polynomial_basis(volumes: int, order: int) -> NDArray[np.float64]:
    """Orthonormal polynomials of degree 0 to `order` on `volumes` equally spaced points.

    Returns
    -------
    float64 (volumes, order + 1), columns orthonormal.

    Raises
    ------
    ValueError
        If there are not more volumes than polynomials.
    """
    if volumes <= order + 1:
        raise ValueError(f"{volumes} volumes cannot be detrended by a polynomial of order {order}")
    powers = np.polynomial.legendre.legvander(np.linspace(-1.0, 1.0, volumes), order)
    return np.linalg.qr(powers)[0]


def detrend(series: NDArray[np.floating], order: int = 4) -> NDArray[np.float64]:
    """Remove the best-fitting polynomial from every column (paper 4.1: 4th order).

    Equal to ``amri_sig_detrend`` of the cc2017 code: least squares on an orthonormal basis,
    in float64.

    Parameters
    ----------
    series
        (volumes, voxels), arbitrary units.
    order
        Degree of the polynomial; 0 removes the mean only.

    Returns
    -------
    float64 (volumes, voxels), zero mean.
    """
    data = np.asarray(series, dtype=np.float64)
    basis = polynomial_basis(data.shape[0], order)
    # A large baseline costs digits in the projection; the mean is part of the basis anyway.
    data = data - data.mean(axis=0)
    data -= basis @ (basis.T @ data)
    return data


def usable_columns(series: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell which columns can be standardised: all values finite and not all the same.

    Parameters
    ----------
    series
        (volumes, voxels).

    Returns
    -------
    bool (voxels,)
    """
    low, high = series.min(axis=0), series.max(axis=0)  # NaN and infinity survive both
    with np.errstate(invalid="ignore"):
        return np.isfinite(low) & np.isfinite(high) & (high > low)


def standardise(
    series: NDArray[np.floating], order: int = 4
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Detrend, then give every column zero mean and unit deviation (ddof 1; paper 4.1).

    Parameters
    ----------
    series
        (volumes, voxels), arbitrary units.
    order
        Degree of the polynomial to remove.

    Returns
    -------
    z : float64 (volumes, voxels)
        Standardised series; columns that carry nothing are zero.
    usable : bool (voxels,)
        False where a column holds NaN or infinity, or is constant (also: constant after
        detrending up to rounding).
    """
    usable = usable_columns(series)
    data = np.where(usable, np.asarray(series, dtype=np.float64), 0.0)
    size = np.abs(data).max(axis=0)
    data = detrend(data, order)
    deviation = data.std(axis=0, ddof=1)
    usable = usable & (deviation > 1e-10 * np.maximum(size, np.finfo(np.float64).tiny))
    deviation = np.where(usable, deviation, 1.0)
    return np.where(usable, (data - data.mean(axis=0)) / deviation, 0.0), usable
