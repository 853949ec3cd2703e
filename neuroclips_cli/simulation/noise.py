"""What a scanner adds: baseline, slow drift, autocorrelated noise, a gain per run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.signal.detrend import polynomial_basis

DRIFT_ORDER = 4


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
    rng: np.random.Generator, volumes: int, columns: int, size: float = 5.0
) -> NDArray[np.float32]:
    """Random polynomials of order 1 to 4 whose deviation is about `size`, (volumes, columns)."""
    basis = polynomial_basis(volumes, DRIFT_ORDER)[:, 1:].astype(np.float32)
    weights = rng.standard_normal((DRIFT_ORDER, columns), dtype=np.float32)
    weights /= np.arange(1, DRIFT_ORDER + 1, dtype=np.float32)[:, None]
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
