"""Standardize volumes as they are measured: by the past alone, and by what training runs were like.

A finished run is detrended and standardized over all its volumes. While it is being recorded only
earlier ones are known. Each volume is taken apart into trend and the rest by all volumes up to it,
with the baseline, drift and noise of the training runs as prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.signal.training_statistics import TrainingStatistics, gain

PRIOR_VOLUMES = 20
"""How many volumes the training runs' noise counts as, beside the new run's own."""
LEAST_VARIANCE = 0.01
"""Least prior variance of a baseline, in variances of the noise."""
LEVELS = 4.0 ** np.arange(9)
"""Tried prior variances of a baseline, as multiples of what was seen between training runs."""
MEDIAN_OF_SQUARES = 0.4549
"""Median of the square of a standard normal variable."""


@dataclass(frozen=True)
class FilmSpan:
    """Which volumes will answer to a film, as far as it is known before they come.

    Attributes
    ----------
    first : float
        Volumes before the first of them.
    volumes : int
        How many.
    """

    first: float
    volumes: int


class CausalStandardizer:
    """Standardize one volume after the other.

    Parameters
    ----------
    statistics : TrainingStatistics
        Of the training runs, in the voxels that come.
    span : FilmSpan, optional
        The volumes over which the finished run would be standardized; by default the run's first
        ones, as many as a training run has.

    Attributes
    ----------
    volumes : int
        Volumes seen.

    Notes
    -----
    In units of the training runs' noise, ``y = x / deviation``, a voxel's trend is a sum of
    Legendre polynomials over the span, with independent normal priors on their coefficients. That
    of the mean is about ``g mean / deviation``, where g is the median over the volumes so far of
    how much brighter than training they are
    (:func:`neuroclips_cli.signal.training_statistics.gain`). The variances of the other
    coefficients are medians over the voxels of the training runs; that of the mean is the multiple
    (`LEVELS`) of what was seen between training runs under which the volumes so far are most
    likely, over all voxels. What is no trend, responses and noise, is an autoregressive process of
    the training runs' autocorrelation r. With B the polynomials at the volumes so far, T the prior
    variances, ``R[i, j] = r^|i - j|`` and m the mean's prior::

        C = B T B' + R,   e = R[t] C^-1 (Y - m),   S = R[t] C^-1 R[t]'
        z = e / sqrt(g^2 S s^2)

    e is what remains of volume t when its expected trend is taken off. That responses last longer
    than a volume matters: were they taken for white noise, the trend would follow them. The noise's
    variance ``s^2`` starts as that of training, worth `PRIOR_VOLUMES` volumes, and follows
    ``e^2 / (g^2 S)`` of the new run. A run longer than the span is regressed on its last volumes,
    as many as the span has.
    """

    def __init__(self, statistics: TrainingStatistics, span: FilmSpan | None = None) -> None:
        self._statistics = statistics
        self._baseline = statistics.mean / statistics.deviation
        self._span = span or FilmSpan(0.0, statistics.volumes)
        between = float(np.median(np.square(statistics.between_runs / statistics.deviation)))
        self._levels = LEVELS * max(between, LEAST_VARIANCE)
        self._likelihood = np.zeros(len(self._levels))
        self._drift = _drift_variances(statistics)
        voxels = len(statistics.mean)
        self._kept = max(2, round(self._span.first) + self._span.volumes)
        self._past = np.zeros((self._kept, voxels), np.float32)
        self._squares = np.full(voxels, float(PRIOR_VOLUMES))
        self._counted = np.full(voxels, float(PRIOR_VOLUMES))
        self._gains: list[float] = []
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
        center = scale * self._baseline
        basis, noise = self._model()
        joint = [self._joint(basis, noise, level) for level in self._levels]
        before = [_predict_last(covariance) for covariance in joint]
        past = self._past[self._kept - len(noise) + 1 :]
        predicted = [_weighted(weights, past, center) for weights, _ in before]
        scaled = np.where(finite, volume, 0.0) / known.deviation
        noise_variance = np.square(scale) * self._squares / self._counted
        if finite.any():
            for place, (_, spread) in enumerate(before):
                errors = np.square(scaled - predicted[place])[finite] / noise_variance[finite]
                size = float(np.median(errors)) / MEDIAN_OF_SQUARES
                self._likelihood[place] -= 0.5 * (np.log(spread) + size / spread)
        best = int(np.argmax(self._likelihood))
        scaled = np.where(finite, scaled, predicted[best])
        self._past = np.roll(self._past, -1, axis=0)
        self._past[-1] = scaled
        weights = np.linalg.solve(joint[best], noise[-1])
        rest = _weighted(weights, self._past[self._kept - len(noise) :], center) - center
        rest /= scale
        spread = float(weights @ noise[-1])
        z = np.where(finite, rest / np.sqrt(spread * self._squares / self._counted), 0.0)
        self._squares += np.where(finite, np.square(rest) / spread, 0.0)
        self._counted += finite
        self.volumes += 1
        return z.astype(np.float32)

    def _model(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return polynomials (volumes, degrees) and the noise's covariance up to the new volume."""
        known = min(self.volumes + 1, self._kept)
        last = min(float(self.volumes), self._span.first + self._span.volumes - 1)
        places = last - np.arange(known)[::-1] - self._span.first
        times = -1 + 2 * places / max(self._span.volumes - 1, 1)
        basis = np.polynomial.legendre.legvander(times, len(self._drift))
        noise = self._statistics.autocorrelation ** np.abs(np.subtract.outer(places, places))
        return np.asarray(basis, np.float64), np.asarray(noise, np.float64)

    def _joint(
        self, basis: NDArray[np.float64], noise: NDArray[np.float64], level: float
    ) -> NDArray[np.float64]:
        """Return the covariance of the volumes' series, in units of the noise's variance."""
        covariance: NDArray[np.float64] = (basis * [level, *self._drift]) @ basis.T + noise
        return covariance


def _predict_last(covariance: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the weights of earlier volumes in the prediction of the last one, and its variance."""
    to_last = covariance[:-1, -1]
    weights = np.asarray(np.linalg.solve(covariance[:-1, :-1], to_last), np.float64)
    return weights, float(covariance[-1, -1] - weights @ to_last)


def _weighted(
    weights: NDArray[np.float64], series: NDArray[np.float32], center: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return a weighted sum of what volumes differ from the center, added to the center."""
    total: NDArray[np.float64] = weights.astype(np.float32) @ series + (1 - weights.sum()) * center
    return total


def _drift_variances(statistics: TrainingStatistics) -> NDArray[np.float64]:
    """Return the prior variances of degree 1 and above, in units of the noise's variance.

    What fitting noise alone gives a coefficient of degree k over n volumes, (2 k + 1) / n, is taken
    off.
    """
    shares = np.median(np.square(statistics.drift / statistics.deviation), axis=1)
    degrees = np.arange(1, len(shares) + 1)
    return np.maximum(shares - (2 * degrees + 1) / statistics.volumes, 1e-6)
