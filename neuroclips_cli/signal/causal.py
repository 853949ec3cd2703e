"""Standardize volumes as they are measured: by the past alone, and by what training runs were like.

A finished run is detrended and standardized over all its volumes. While it is being recorded only
earlier ones are known. Each volume is compared with what a regression on them predicts for it,
whose prior is the baseline, drift and noise of the training runs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.signal.training_statistics import TrainingStatistics, gain

PRIOR_VOLUMES = 20
"""How many volumes the training runs' noise counts as, beside the new run's own."""
LEAST_VARIANCE = 0.01
"""Least prior variance of a baseline, in variances of the noise."""
MAD_TO_DEVIATION = 1.4826


class CausalStandardizer:
    """Standardize one volume after the other.

    Parameters
    ----------
    statistics : TrainingStatistics
        Of the training runs, in the voxels that come.

    Attributes
    ----------
    volumes : int
        Volumes seen.

    Notes
    -----
    In units of the training runs' noise, ``y = x / deviation``, a voxel's baseline is a sum of
    Legendre polynomials over the length of a training run, with independent normal priors on their
    coefficients. That of the mean is about ``g mean / deviation``, where g is the median over the
    volumes so far of how much brighter than training they are
    (:func:`neuroclips_cli.signal.training_statistics.gain`); its variance is how far the new run's
    voxels are from there, or what was seen between training runs if that is more. The variances of
    the other coefficients are medians over the voxels of the training runs. With B the polynomials
    at the earlier volumes, b at the new one, and T the prior variances::

        A = B'B + T^-1,   e = y - m - b' A^-1 B' (Y - m),   S = 1 + b' A^-1 b
        z = e / sqrt(g^2 S s^2)

    z is the standardized innovation of the regression: of unit deviation from the first volume on,
    as S grows where little is known. The noise's variance ``s^2`` starts as that of training, worth
    `PRIOR_VOLUMES` volumes, and follows ``e^2 / (g^2 S)`` of the new run. A run longer than a
    training run is regressed on its last volumes, as many as a training run has.
    """

    def __init__(self, statistics: TrainingStatistics) -> None:
        self._statistics = statistics
        self._baseline = statistics.mean / statistics.deviation
        self._length = max(2, statistics.volumes)
        self._between = float(np.median(np.square(statistics.between_runs / statistics.deviation)))
        self._drift = _drift_variances(statistics)
        voxels = len(statistics.mean)
        self._past = np.zeros((self._length - 1, voxels), np.float32)
        self._squares = np.full(voxels, float(PRIOR_VOLUMES))
        self._counted = np.full(voxels, float(PRIOR_VOLUMES))
        self._gains: list[float] = []
        self._sum = np.zeros(voxels)
        self.volumes = 0

    def update(self, volume: NDArray[np.floating]) -> NDArray[np.float32]:
        """Take in the next volume.

        Parameters
        ----------
        volume : numpy.ndarray
            float (voxels,), the units of the training runs. Voxels that are not finite, as all of
            a volume that was lost, are taken as what was predicted for them.

        Returns
        -------
        numpy.ndarray
            float32 (voxels,), standardized; 0 where not finite.
        """
        known, finite = self._statistics, np.isfinite(volume)
        if finite.any():
            self._gains.append(gain(volume, known.mean, known.deviation))
        scale = float(np.median(self._gains)) if self._gains else 1.0
        scaled = np.where(finite, volume, 0.0) / known.deviation
        center = scale * self._baseline
        predicted, spread = self._predict(center, np.where(finite, scaled, center))
        scaled = np.where(finite, scaled, predicted)
        error = (scaled - predicted) / scale
        z = error / np.sqrt(spread * self._squares / self._counted)
        self._squares += error**2 / spread
        self._counted += finite
        self._past = np.roll(self._past, -1, axis=0)
        self._past[-1] = scaled
        self._sum += scaled
        self.volumes += 1
        return z.astype(np.float32)

    def _predict(
        self, center: NDArray[np.float64], scaled: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float]:
        """Return a new volume's prediction (voxels,), and its variance in units of the noise."""
        known = min(self.volumes, self._length - 1)
        times = -1 + 2 * np.arange(known + 1) / (self._length - 1)
        basis = np.polynomial.legendre.legvander(times, len(self._drift))
        past, new = basis[:-1], basis[-1]
        precision = 1 / np.array([self._baseline_variance(center, scaled), *self._drift])
        solved = np.linalg.solve(past.T @ past + np.diag(precision), new)
        weights = past @ solved
        mean = weights.astype(np.float32) @ self._past[len(self._past) - known :]
        return mean + (1 - weights.sum()) * center, float(1 + new @ solved)

    def _baseline_variance(self, center: NDArray[np.float64], scaled: NDArray[np.float64]) -> float:
        """Return how far baselines are from where training puts them, the noise taken off."""
        count = self.volumes + 1
        apart = np.abs((self._sum + scaled) / count - center)
        seen = (MAD_TO_DEVIATION * float(np.median(apart))) ** 2 - 1 / count
        return max(seen, self._between, LEAST_VARIANCE)


def _drift_variances(statistics: TrainingStatistics) -> NDArray[np.float64]:
    """Return the prior variances of degree 1 and above, in units of the noise's variance.

    What fitting noise alone gives a coefficient of degree k over n volumes, (2 k + 1) / n, is taken
    off.
    """
    shares = np.median(np.square(statistics.drift / statistics.deviation), axis=1)
    degrees = np.arange(1, len(shares) + 1)
    return np.maximum(shares - (2 * degrees + 1) / statistics.volumes, 1e-6)
