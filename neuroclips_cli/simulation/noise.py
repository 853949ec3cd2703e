"""What a scanner adds: baseline, slow drift, autocorrelated noise, a gain per run."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.signal.detrend import polynomial_basis

_DRIFT_ORDER_S = 120.0  # cc2017 takes polynomials up to order 4 out of runs of 8 min


def named_rng(*key: int | str) -> np.random.Generator:
    """Return the random numbers of a key: numbers such as seed and subject, names of what is drawn.

    Examples
    --------
    >>> bool(named_rng(0, "film seg1").random() == named_rng(0, "film seg1").random())
    True
    """
    parts = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    return np.random.default_rng(parts)


def autocorrelated(
    rng: np.random.Generator, volumes: int, phi: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Stationary AR(1) noise of unit variance.

    Parameters
    ----------
    phi
        (columns,) lag-1 autocorrelation of each column, in [0, 1).

    Returns
    -------
    float32 (volumes, columns)
    """
    noise = rng.standard_normal((volumes, len(phi)), dtype=np.float32)
    keep = phi.astype(np.float32)
    fresh = np.sqrt(1 - keep**2)
    for t in range(1, volumes):
        noise[t] = keep * noise[t - 1] + fresh * noise[t]
    return noise


def drift(
    rng: np.random.Generator, volumes: int, columns: int, tr_s: float, size: float = 5.0
) -> NDArray[np.float32]:
    """Slow drift of a run: random polynomials whose deviation is about `size`.

    Drift is slow in seconds, not in runs: their highest order is one for every two minutes
    (4 for the 8 min runs of cc2017, 1 for the demo's shorter ones).

    Returns
    -------
    float32 (volumes, columns)
    """
    order = max(1, round(volumes * tr_s / _DRIFT_ORDER_S))
    basis = polynomial_basis(volumes, order)[:, 1:].astype(np.float32)
    weights = rng.standard_normal((order, columns), dtype=np.float32)
    weights /= np.arange(1, order + 1, dtype=np.float32)[:, None]
    return basis @ weights * np.float32(size * np.sqrt(volumes / 1.4))


def left_after_detrending(
    phi: NDArray[np.float64], volumes: int, order: int
) -> NDArray[np.float64]:
    """Predict the sample variance of unit AR(1) noise without its polynomial, (columns,).

    ``trace(P C) / (volumes - 1)`` with the residual projector P and the noise covariance C.
    """
    basis = polynomial_basis(volumes, order)
    lag = np.abs(np.subtract.outer(np.arange(volumes), np.arange(volumes)))
    residual = np.eye(volumes) - basis @ basis.T
    by_lag = np.bincount(lag.ravel(), weights=residual.ravel(), minlength=volumes)
    grid = np.linspace(0, 0.95, 39)
    variance = np.array([(by_lag * g ** np.arange(volumes)).sum() for g in grid]) / (volumes - 1)
    return np.interp(phi, grid, variance)
