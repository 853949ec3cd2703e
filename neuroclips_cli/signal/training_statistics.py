"""Mean, drift and noise of every voxel over the training runs, for scans that come one by one.

A finished run is standardized by itself. Of a run that is still being recorded, or is too short
for that, only its first volumes are known: what its baseline, drift and noise will be like is
known from the training runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HIGHEST = 0.95
"""Highest autocorrelation that is believed: beyond it noise and drift cannot be told apart."""


@dataclass(frozen=True)
class RunStatistics:
    """Baseline, drift and noise of one run.

    Attributes
    ----------
    trend : numpy.ndarray
        float64 (order + 1, voxels), coefficients of the Legendre polynomials on -1..1 that fit the
        run, its level first (the mean, but for a share of a curve's coefficient that falls with
        the number of volumes), in the units of the series.
    deviation : numpy.ndarray
        float64 (voxels,), standard deviation (ddof 1) of what they leave.
    autocorrelation : numpy.ndarray
        float64 (voxels,), correlation of what they leave with itself a volume later; NaN where
        nothing is left.
    volumes : int
        Volumes of the run.
    """

    trend: NDArray[np.float64]
    deviation: NDArray[np.float64]
    autocorrelation: NDArray[np.float64]
    volumes: int


@dataclass(frozen=True)
class TrainingStatistics:
    """Baseline, drift and noise of the selected voxels over all training runs.

    Attributes
    ----------
    mean : numpy.ndarray
        float64 (voxels,), mean of the runs' levels, in the units of the series.
    between_runs : numpy.ndarray
        float64 (voxels,), standard deviation (ddof 1) of the runs' means, after every run was
        divided by its :func:`gain`; 0 of a single run.
    drift : numpy.ndarray
        float64 (order, voxels), root mean square over the runs of the Legendre coefficients of
        degree 1 and above.
    deviation : numpy.ndarray
        float64 (voxels,), root mean square over the runs of the detrended standard deviation.
    volumes : int
        Volumes of the longest run, to which -1..1 of its polynomials corresponds.
    autocorrelation : float
        0..`HIGHEST`, median over the voxels of the runs' mean correlation of the detrended series
        with itself a volume later.
    """

    mean: NDArray[np.float64]
    between_runs: NDArray[np.float64]
    drift: NDArray[np.float64]
    deviation: NDArray[np.float64]
    volumes: int
    autocorrelation: float = 0.0

    def standardize(self, series: NDArray[np.floating]) -> NDArray[np.float64]:
        """Standardize a series by the training runs alone.

        Parameters
        ----------
        series : numpy.ndarray
            float (volumes, voxels), the units of the training runs.

        Returns
        -------
        numpy.ndarray
            float64 (volumes, voxels): ``(x - mean) / deviation``, no drift removed.

        Examples
        --------
        >>> one = np.ones(1)
        >>> TrainingStatistics(10 * one, one, one[None], 2 * one, 9).standardize(
        ...     np.array([[14.0]])
        ... ).tolist()
        [[2.0]]
        """
        return (np.asarray(series, np.float64) - self.mean) / self.deviation


def run_statistics(series: NDArray[np.floating], order: int) -> RunStatistics:
    """Measure baseline, drift and noise of one run.

    Parameters
    ----------
    series : numpy.ndarray
        float (volumes, voxels), arbitrary units; voxels with a value that is not finite become NaN.
    order : int
        Degree of the polynomial, as for :func:`neuroclips_cli.signal.detrend.standardize`.

    Returns
    -------
    RunStatistics

    Examples
    --------
    A mean of 5 and a rise by 2, of which nothing is left:

    >>> found = run_statistics(np.linspace(4.0, 6.0, 9)[:, None], order=1)
    >>> found.trend.round(6).tolist(), found.deviation.round(6).tolist()
    ([[5.0], [1.0]], [0.0])
    """
    data = np.asarray(series, np.float64)
    finite = np.isfinite(data).all(axis=0)
    data = np.where(finite, data, 0.0)
    mean = data.mean(axis=0)
    data -= mean
    basis = np.polynomial.legendre.legvander(np.linspace(-1.0, 1.0, len(data)), order)
    trend = np.linalg.lstsq(basis, data, rcond=None)[0]
    data -= basis @ trend
    trend[0] += mean
    deviation = np.where(finite, data.std(axis=0, ddof=1), np.nan)
    power = np.square(data).sum(axis=0)
    lagged = np.where(power > 0, (data[1:] * data[:-1]).sum(axis=0), np.nan)
    lagged /= np.where(power > 0, power, 1.0)
    return RunStatistics(
        np.where(finite, trend, np.nan), deviation, np.where(finite, lagged, np.nan), len(data)
    )


BRIGHT = 10.0
"""Least typical mean of a voxel, in deviations, at which images have a scale: what was centered
before has none."""


def gain(
    image: NDArray[np.floating], mean: NDArray[np.floating], deviation: NDArray[np.floating]
) -> float:
    """Return the factor by which an image is brighter than the mean image.

    Parameters
    ----------
    image, mean : numpy.ndarray
        float (voxels,); voxels of the image that are not finite do not count.
    deviation : numpy.ndarray
        float (voxels,), of the noise.

    Returns
    -------
    float
        Least squares, ``sum(x m) / sum(m^2)``; 1 where the mean image is not far above the noise,
        or the factor is not above 0.

    Examples
    --------
    >>> gain(np.array([110.0, 220.0]), np.array([100.0, 200.0]), np.ones(2))
    1.1
    """
    used = np.isfinite(image)
    if not used.any() or np.median(np.abs(mean) / deviation) < BRIGHT:
        return 1.0
    found = float(np.dot(image[used], mean[used]) / np.square(mean[used]).sum())
    return found if found > 0 else 1.0


def over_runs(runs: Sequence[RunStatistics]) -> TrainingStatistics:
    """Combine the training runs.

    Parameters
    ----------
    runs : sequence of RunStatistics
        All training runs. A voxel that is NaN or constant in one is left out of that one.

    Returns
    -------
    TrainingStatistics
        Of a voxel that is usable in no run the mean is 0 and the deviation 1.
    """
    deviation = np.stack([run.deviation for run in runs])
    trend = np.stack([run.trend for run in runs])
    used = np.isfinite(deviation) & (deviation > 0)
    count = np.maximum(used.sum(axis=0), 1)
    trend = np.where(used[:, None], trend, 0.0)
    mean = trend[:, 0].sum(axis=0) / count
    squares = np.square(np.where(used, deviation, 0.0)).sum(axis=0) / count
    spread = np.where(used.any(axis=0), np.sqrt(squares), 1.0)
    images = np.where(used, trend[:, 0], np.nan)
    gains = np.array([gain(image, mean, spread) for image in images])
    apart = np.where(used, trend[:, 0] / gains[:, None] - mean, 0.0)
    return TrainingStatistics(
        mean=mean,
        between_runs=np.sqrt(np.square(apart).sum(axis=0) / np.maximum(count - 1, 1)),
        drift=np.sqrt(np.square(trend[:, 1:]).sum(axis=0) / count),
        deviation=spread,
        volumes=max(run.volumes for run in runs),
        autocorrelation=_autocorrelation(
            np.stack([run.autocorrelation for run in runs])[:, used.any(axis=0)]
        ),
    )


def _autocorrelation(found: NDArray[np.float64]) -> float:
    """Return the median over the voxels, (runs, voxels), of their mean over the runs."""
    known = np.isfinite(found)
    total, count = np.where(known, found, 0.0).sum(axis=0), known.sum(axis=0)
    if not count.any():
        return 0.0
    return float(np.clip(np.median(total[count > 0] / count[count > 0]), 0.0, HIGHEST))
