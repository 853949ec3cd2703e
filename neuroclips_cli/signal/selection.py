"""Voxel choice where training films were not repeated: tests of a correlation between series.

Three questions, one test: do two repetitions of a film correlate (reliability), does what an
encoding model predicts correlate with what was measured (encoding), do two subjects who watched
the same film correlate (inter-subject correlation). Where a voxel does not respond to the film,
the two series are independent; both are autocorrelated, which the test allows for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.runtime.batches import batches
from neuroclips_cli.signal.reproducibility import Selection, fisher_z, interrun_correlation

MOST_LAGS = 20
"""Autocorrelation is looked at up to this many volumes, a quarter of the series at most."""
PENALTIES = tuple(10.0**power for power in range(-3, 5))
"""Tried penalties of the encoding model, as multiples of a feature's mean square."""


class PooledCorrelation:
    """Correlation of two series over the segments of many films, and its test.

    Parameters
    ----------
    voxels : int
        Number of voxels.
    order : int
        Degree of the polynomial that was removed from the series.

    Notes
    -----
    With Fisher z of a segment's correlation and weight ``w = volumes - order - 3``::

        t = sum(w z) / sqrt(F sum(w)),   F = 1 + 2 sum_k (1 - k / n) rho_1(k) rho_2(k)

    F is the factor by which the variance of a correlation of independent series grows by their
    autocorrelations (Bartlett 1935), measured over all segments and not below 1. Under the null
    hypothesis t is standard normal.
    """

    def __init__(self, voxels: int, order: int) -> None:
        self._order = order
        self._sum = np.zeros(voxels)
        self._weight = np.zeros(voxels)
        self._covariance = np.zeros((2, MOST_LAGS + 1, voxels))
        self._volumes = np.zeros(voxels)
        self._segments = np.zeros(voxels)

    def add(
        self, columns: slice, first: NDArray[np.floating], second: NDArray[np.floating]
    ) -> None:
        """Take in one segment of some voxels.

        Parameters
        ----------
        columns : slice
            Which voxels.
        first, second : numpy.ndarray
            float (volumes, voxels of the slice), detrended; a voxel that is NaN in either is left
            out of this segment.
        """
        one, two = (np.asarray(series, np.float64) for series in (first, second))
        volumes = len(one)
        weight = volumes - self._order - 3
        if weight < 1:
            return
        used = np.isfinite(one).all(axis=0) & np.isfinite(two).all(axis=0)
        one, two = np.where(used, one, 0.0), np.where(used, two, 0.0)
        self._sum[columns] += weight * fisher_z(interrun_correlation(one, two))
        self._weight[columns] += weight * used
        self._volumes[columns] += volumes * used
        self._segments[columns] += used
        for row, series in enumerate((one, two)):
            centered = series - series.mean(axis=0)
            for lag in range(min(MOST_LAGS, volumes // 4) + 1):
                products = np.einsum("tv,tv->v", centered[: volumes - lag], centered[lag:])
                self._covariance[row, lag, columns] += products

    def statistic(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean Fisher z and the test statistic, float64 (voxels,); 0 where nothing was."""
        variance = self._covariance[:, :1]
        rho = np.divide(
            self._covariance, variance, out=np.zeros_like(self._covariance), where=variance > 0
        )
        length = self._volumes / np.maximum(self._segments, 1)
        lags = np.arange(1, MOST_LAGS + 1)[:, None]
        share = np.clip(1 - lags / np.maximum(length, 1), 0, 1)
        # Lagged products are fewer than volumes, in both series; the formula has that share once.
        product = rho[0, 1:] * rho[1, 1:] / np.maximum(share, 0.25)
        factor = np.maximum(1.0, 1 + 2 * product.sum(axis=0))
        weight = np.maximum(self._weight, 1)
        return self._sum / weight, self._sum / np.sqrt(factor * weight)


def choose(
    mean_z: NDArray[np.float64],
    t: NDArray[np.float64],
    level: float,
    *,
    usable: NDArray[np.bool_],
    region: NDArray[np.bool_] | None,
    tested: NDArray[np.bool_],
) -> Selection:
    """Select the voxels whose correlation is above zero.

    Two-sided normal test, Bonferroni over the tested voxels, positive values only, as
    :func:`neuroclips_cli.signal.reproducibility.select_voxels` does it.

    Parameters
    ----------
    mean_z, t : numpy.ndarray
        float64 (voxels,), of :meth:`PooledCorrelation.statistic`.
    level : float
        Family-wise error rate, 0..1.
    usable, tested : numpy.ndarray
        bool (voxels,): what may be selected; what counts as a comparison.
    region : numpy.ndarray, optional
        bool (voxels,), the region of interest.

    Returns
    -------
    Selection
    """
    from scipy import stats

    t = np.where(usable, t, 0.0)
    p = np.where(usable, 2 * stats.norm.sf(np.abs(t)), 1.0)
    comparisons = int(tested.sum())
    p_threshold = level / max(comparisons, 1)
    selected = usable & (p < p_threshold) & (t > 0)
    if region is not None:
        selected &= region
    return Selection(np.where(usable, mean_z, 0.0), t, p, selected, p_threshold, comparisons)


def choose_all(
    *,
    usable: NDArray[np.bool_],
    region: NDArray[np.bool_] | None,
    tested: NDArray[np.bool_],
) -> Selection:
    """Select every usable voxel of a region, without any test.

    Parameters
    ----------
    usable, region, tested
        As for :func:`choose`.

    Returns
    -------
    Selection
        Its ``mean_z`` and ``t`` are 0, its ``p`` 1: nothing was measured.
    """
    selected = usable & region if region is not None else usable.copy()
    zeros = np.zeros(len(usable))
    return Selection(zeros, zeros, np.ones(len(usable)), selected, 1.0, int(tested.sum()))


Blocks = Iterable[tuple[slice, NDArray[np.floating]]]
"""Some voxels, and their standardized responses (clips, voxels of the slice), block by block."""


@dataclass
class _Half:
    """Sums over half of the segments: of features, and of features times responses."""

    features: NDArray[np.float64]
    products: NDArray[np.float32]
    squares: NDArray[np.float64]
    samples: int = 0


class EncodingModel:
    """Ridge regression from film features to every voxel, fitted on two halves of the segments.

    What one half predicts of the other one is correlated with what was measured there, and the
    other way round. Two passes over the responses: :meth:`learn` from every segment, then
    :meth:`score` every segment.

    Parameters
    ----------
    voxels, features : int
        How many there are.
    order : int
        Degree of the polynomial that was removed from the responses.

    Notes
    -----
    Each voxel has its own penalty, by generalized cross-validation within the half that is fitted
    (Golub, Heath and Wahba 1979). The two tests share their data, so they are not independent; the
    mean of two standard normal statistics has a variance of 1 at most, whatever their dependence,
    and is what is tested: conservative, and without a permutation.
    """

    def __init__(self, voxels: int, features: int, order: int) -> None:
        self._halves = [
            _Half(
                np.zeros((features, features)),
                np.zeros((features, voxels), np.float32),
                np.zeros(voxels),
            )
            for _ in range(2)
        ]
        self._fitted = False
        self._tests = [PooledCorrelation(voxels, order) for _ in range(2)]

    def learn(self, segment: int, features: NDArray[np.floating], blocks: Blocks) -> None:
        """Take in one segment.

        Parameters
        ----------
        segment : int
            Its number; even and odd ones make the halves.
        features : numpy.ndarray
            float (clips, features), detrended as the responses are.
        blocks : iterable
            Standardized responses, a block of voxels after the other; NaN counts as 0.
        """
        half, x = self._halves[segment % 2], np.asarray(features, np.float64)
        half.features += x.T @ x
        half.samples += len(x)
        for columns, z in blocks:
            y = np.nan_to_num(np.asarray(z, np.float64))
            half.products[:, columns] += (x.T @ y).astype(np.float32)
            half.squares[columns] += np.einsum("tv,tv->v", y, y)

    def score(self, segment: int, features: NDArray[np.floating], blocks: Blocks) -> None:
        """Compare one segment with what the other half predicts of it; see :meth:`learn`."""
        if not self._fitted:
            for half in self._halves:
                _fit(half)
            self._fitted = True
        x, weights = np.asarray(features, np.float64), self._halves[1 - segment % 2].products
        for columns, z in blocks:
            self._tests[segment % 2].add(columns, x @ weights[:, columns], z)

    def statistic(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean Fisher z and the test statistic, float64 (voxels,)."""
        (z_1, t_1), (z_2, t_2) = (test.statistic() for test in self._tests)
        return (z_1 + z_2) / 2, (t_1 + t_2) / 2


def _fit(half: _Half, block: int = 4096) -> None:
    """Put the weights, each voxel with its own penalty, in the place of the products."""
    values, axes = np.linalg.eigh(half.features)
    values = np.maximum(values, 0.0)
    size = max(float(values.mean()), np.finfo(float).tiny)
    for columns in batches(half.products.shape[1], block):
        onto = axes.T @ half.products[:, columns].astype(np.float64)
        best, weights = np.full(onto.shape[1], np.inf), np.zeros_like(onto)
        for penalty in PENALTIES:
            scale = 1 / (values + penalty * size)
            kept = values * scale
            explained = ((2 * scale - scale * kept)[:, None] * onto**2).sum(axis=0)
            left = np.maximum(half.squares[columns] - explained, 0.0)
            error = left / max(half.samples - kept.sum(), 1e-9) ** 2
            better = error < best
            best = np.where(better, error, best)
            weights[:, better] = scale[:, None] * onto[:, better]
        half.products[:, columns] = axes @ weights
