"""Reproducibility of voxels across repetitions of a film (paper 4.1; Wen et al. 2017).

Order of operations (paper 4.1):

1. detrend and standardize every repetition (`neuroclips_cli.signal.detrend`);
2. Pearson correlation of the repetitions, voxel by voxel;
3. Fisher z-transformation;
4. one-sample t-test of z over the training segments;
5. Bonferroni correction, positive t only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.runtime.batches import batches
from neuroclips_cli.signal.detrend import standardize
from neuroclips_cli.signal.single_precision import project

# Identical repetitions have r = 1, whose Fisher z is infinite and would make the test undefined.
LARGEST_R = 1.0 - 1e-12


def interrun_correlation(
    first: NDArray[np.floating], second: NDArray[np.floating], constant: float = 0.0
) -> NDArray[np.float64]:
    """Compute the Pearson correlation of two repetitions, column by column.

    Parameters
    ----------
    first, second : numpy.ndarray
        float (volumes, voxels), any scale, the same shape.
    constant : float
        The correlation of a constant column.

    Returns
    -------
    numpy.ndarray
        float64 (voxels,), -1..1.

    See Also
    --------
    voxel_reproducibility : The same of detrended repetitions, as Fisher z.

    Notes
    -----
    ``r_v = a_v . b_v / (norm(a_v) norm(b_v))`` with centered series a, b.

    Examples
    --------
    >>> first = np.array([[0.0, 1.0], [1.0, 1.0]])
    >>> interrun_correlation(first, 3 * first + 2).tolist()
    [1.0, 0.0]
    """
    a = np.asarray(first, dtype=np.float64)
    b = np.asarray(second, dtype=np.float64)
    a = a - a.mean(axis=0)
    b = b - b.mean(axis=0)
    size = np.sqrt(np.einsum("tv,tv->v", a, a) * np.einsum("tv,tv->v", b, b))
    shared = np.einsum("tv,tv->v", a, b)
    return np.divide(shared, size, out=np.full_like(shared, constant), where=size > 0)


def fisher_z(r: NDArray[np.floating]) -> NDArray[np.float64]:
    """Apply Fisher's variance-stabilizing transform.

    Parameters
    ----------
    r : numpy.ndarray
        float, any shape, correlations in -1..1; kept 1e-12 away from both ends.

    Returns
    -------
    numpy.ndarray
        float64, the shape of ``r``: ``z = artanh(r) = log((1 + r) / (1 - r)) / 2``, always finite.

    Examples
    --------
    >>> fisher_z(np.array([-0.5, 0.0, 0.5, 1.0])).round(3).tolist()
    [-0.549, 0.0, 0.549, 14.162]
    """
    return np.arctanh(np.clip(np.asarray(r, dtype=np.float64), -LARGEST_R, LARGEST_R))


def voxel_reproducibility(
    repetitions: Sequence[NDArray[np.float32]], order: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Compute Fisher z of the correlation between repetitions, detrended and standardized.

    Equal to :func:`detrend.standardize`, :func:`interrun_correlation` and :func:`fisher_z` up to
    the rounding of single precision, at a tenth of the work: the polynomials are taken off the
    products of two series instead of off the series. Where little else than polynomials is left,
    that would lose digits; these columns are done the long way.

    Parameters
    ----------
    repetitions : sequence of numpy.ndarray
        Two or more of float32 (volumes, voxels), arbitrary units.
    order : int
        Degree of the polynomial to remove.

    Returns
    -------
    z : numpy.ndarray
        float64 (voxels,), mean over all pairs of repetitions; 0 where there is no signal in both of
        a pair.
    usable : numpy.ndarray
        bool (voxels,), False where any repetition is not finite or constant.

    See Also
    --------
    select_voxels : The test on z over segments.

    Examples
    --------
    One voxel repeats, one does not, one is constant:

    >>> rng = np.random.default_rng(0)
    >>> signal, first, second = rng.normal(size=(3, 50, 1))
    >>> flat = np.ones((50, 1))
    >>> repetitions = [
    ...     np.hstack([signal + 0.1 * noise, noise, flat]).astype(np.float32)
    ...     for noise in (first, second)
    ... ]
    >>> z, usable = voxel_reproducibility(repetitions, order=1)
    >>> (z > 1).tolist(), usable.tolist()
    ([True, False, False], [True, True, False])
    """
    found = [project(series, order) for series in repetitions]
    hard = ~np.all([one.clear for one in found], axis=0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        z = _mean_of_pairs(
            [
                (np.vecdot(a.centered, b.centered) - np.vecdot(a.weights, b.weights))
                / np.sqrt(a.left * b.left)
                for i, a in enumerate(found)
                for b in found[i + 1 :]
            ]
        )
    usable = np.ones(len(z), bool)
    if hard.any():
        z[hard], usable[hard] = _scores_the_long_way([r[:, hard] for r in repetitions], order)
    return z, usable


def _scores_the_long_way(
    repetitions: Sequence[NDArray[np.float32]], order: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return what :func:`voxel_reproducibility` does, step by step."""
    done = [standardize(series, order) for series in repetitions]
    pairs = [interrun_correlation(a, b) for i, (a, _) in enumerate(done) for b, _ in done[i + 1 :]]
    return _mean_of_pairs(pairs), np.all([good for _, good in done], axis=0)


def _mean_of_pairs(correlations: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean Fisher z of the correlations of all pairs of repetitions."""
    return np.asarray(np.mean([fisher_z(r) for r in correlations], axis=0))


@dataclass(frozen=True)
class Selection:
    """Outcome of the reproducibility test, one entry per tested voxel.

    Attributes
    ----------
    mean_z : float64 (voxels,)
        Mean over segments of the Fisher z of the repeat correlation; 0 where excluded.
    t, p : float64 (voxels,)
        One-sample t-test of z against 0 over segments, two-sided p; 0 and 1 where excluded.
    selected : bool (voxels,)
        p < level / comparisons and t > 0 (and inside the region mask, if one was given).
    p_threshold : float
        The Bonferroni-corrected threshold.
    tested : int
        Number of comparisons that it is corrected for.
    """

    mean_z: NDArray[np.float64]
    t: NDArray[np.float64]
    p: NDArray[np.float64]
    selected: NDArray[np.bool_]
    p_threshold: float
    tested: int


def select_voxels(
    z: NDArray[np.floating],
    level: float = 0.05,
    *,
    usable: NDArray[np.bool_] | None = None,
    region: NDArray[np.bool_] | None = None,
    tested: NDArray[np.bool_] | None = None,
) -> Selection:
    """Select the voxels whose inter-run correlation is above zero in segment after segment.

    One-sample t-test over segments, two-sided, Bonferroni over all voxels, positive t
    (paper 4.1). A region mask limits what is selected, not the number of comparisons.

    Parameters
    ----------
    z : numpy.ndarray
        float (segments, voxels), Fisher z of the inter-run correlation; at least 2 segments.
    level : float
        Family-wise error rate, 0..1 (paper: 0.05).
    usable : numpy.ndarray, optional
        bool (voxels,): False for voxels that must be left out (NaN or constant in some run).
    region : numpy.ndarray, optional
        bool (voxels,): True inside the region of interest.
    tested : numpy.ndarray, optional
        bool (voxels,): False for what is not a measurement in any run, such as the medial wall; it
        does not count as a comparison.

    Returns
    -------
    Selection

    Raises
    ------
    ValueError
        If there are fewer than two segments.

    See Also
    --------
    voxel_reproducibility : Computes a segment's row of ``z``.

    Notes
    -----
    ``t_v = mean(z_v) / (std(z_v) / sqrt(S))`` over S segments; selected where ``p_v < level /
    comparisons`` and ``t_v > 0``.

    Examples
    --------
    >>> z = np.array([[0.5, 0.1, -0.5], [0.51, -0.1, -0.51], [0.49, 0.05, -0.49]])
    >>> selection = select_voxels(z)
    >>> selection.selected.tolist(), round(selection.p_threshold, 4)
    ([True, False, False], 0.0167)
    """
    from scipy import stats

    scores = np.asarray(z, dtype=np.float64)
    if scores.shape[0] < 2:
        raise ValueError("a t-test over segments needs at least two segments")
    voxels = scores.shape[1]
    usable = np.ones(voxels, bool) if usable is None else usable
    mean_z, t, p = np.zeros(voxels), np.zeros(voxels), np.ones(voxels)
    if usable.any():
        test = stats.ttest_1samp(scores[:, usable], 0.0, axis=0)
        mean_z[usable] = scores[:, usable].mean(axis=0)
        t[usable], p[usable] = test.statistic, test.pvalue
    comparisons = voxels if tested is None else int(tested.sum())
    p_threshold = level / max(comparisons, 1)
    selected = usable & (p < p_threshold) & (t > 0)
    if region is not None:
        selected &= region
    return Selection(mean_z, t, p, selected, p_threshold, comparisons)


def mean_over_repetitions(
    repetitions: NDArray[np.float32], block: int = 256
) -> NDArray[np.float32]:
    """Average over the repetitions that exist (no rescaling).

    Parameters
    ----------
    repetitions : numpy.ndarray
        float32 (clips, repetitions, ..., voxels), NaN where one is missing; may be memory-mapped,
        ``block`` clips are read at a time.
    block : int
        Clips per step, at least 1.

    Returns
    -------
    numpy.ndarray
        float32 (clips, ..., voxels), the units of ``repetitions``; 0 where there is no repetition.

    Examples
    --------
    >>> scans = np.array([[[1.0, np.nan], [3.0, np.nan]]], dtype=np.float32)
    >>> mean_over_repetitions(scans).tolist()
    [[2.0, 0.0]]
    """
    means = np.empty((len(repetitions), *repetitions.shape[2:]), np.float32)
    for rows in batches(len(repetitions), block):
        piece = np.asarray(repetitions[rows])
        present = np.isfinite(piece)
        total = np.where(present, piece, 0).sum(axis=1, dtype=np.float64)
        means[rows] = total / np.maximum(present.sum(axis=1), 1)
    return means
