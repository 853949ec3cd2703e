"""Paired permutation test over scenes, and its correction for the number of metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PERMUTATIONS = 20_000
"""Sign patterns drawn where there are too many to try all: p is then at least 1 / 20001."""


def sign_flip_p(
    differences: np.ndarray,
    groups: np.ndarray | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> float:
    """Test that paired differences have no preferred sign; two-sided.

    If the two members of a pair were exchangeable, each difference could as well have the other
    sign. Clips of one scene are not independent, so the sign is changed of whole scenes.

    Parameters
    ----------
    differences : numpy.ndarray
        float (clips,), no NaN, at least one.
    groups : numpy.ndarray, optional
        (clips,) scene labels; each clip is its own scene without them.
    permutations : int
        Sign patterns to draw. Where all patterns together are not more, all are tried.
    seed : int
        Seed of the draws.

    Returns
    -------
    float
        0 < p <= 1; the share of patterns whose mean difference is at least as far from zero. Drawn
        patterns count the observed one with them (Phipson & Smyth 2010), so p is never 0.

    See Also
    --------
    holm : Correction for several metrics.

    Notes
    -----
    With a sign s_i of -1 or 1 per scene: ``p = P(abs(sum_i s_i d_i) >= abs(sum_i d_i))``.

    Examples
    --------
    Three equal differences: two of the eight sign patterns are as far from zero.

    >>> import numpy as np
    >>> from neuroclips_cli.metrics.permutation import sign_flip_p
    >>> sign_flip_p(np.array([1.0, 1.0, 1.0]))
    0.25
    """
    sums = _sums(np.asarray(differences, dtype=float), groups)
    observed = abs(sums.sum())
    # sums of the same numbers in another order differ in the last digits only
    limit = observed - 1e-9 * np.abs(sums).sum()
    if len(sums) < 63 and 2 ** (len(sums) - 1) <= permutations:
        return float(np.mean(_all_patterns(sums) >= limit))
    rng = np.random.default_rng(seed)
    reached, step = 0, max(1, 2_000_000 // len(sums))
    for start in range(0, permutations, step):
        count = min(step, permutations - start)
        signs = rng.integers(0, 2, size=(count, len(sums)), dtype=np.int8) * 2 - 1
        reached += int(np.sum(np.abs(signs @ sums) >= limit))
    return (reached + 1) / (permutations + 1)


def holm(p: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's step-down method (Holm 1979).

    Parameters
    ----------
    p : sequence of float
        One per test, 0..1.

    Returns
    -------
    list of float
        In the order given; controls the chance of a single false alarm among all tests.

    Notes
    -----
    For ascending ``p[1] .. p[m]``, the corrected ``p[k]`` is the maximum over j <= k of
    ``min(1, (m - j + 1) p[j])``.

    Examples
    --------
    >>> from neuroclips_cli.metrics.permutation import holm
    >>> holm([0.25, 0.125, 0.5])
    [0.5, 0.375, 0.5]
    """
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    stepped = np.maximum.accumulate(np.asarray(p, dtype=float)[order] * factors)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1)
    return corrected.tolist()


def _sums(differences: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Sum of the differences in each scene."""
    if groups is None:
        return differences
    _, member = np.unique(groups, return_inverse=True)
    return np.bincount(member, weights=differences)


def _all_patterns(sums: np.ndarray) -> np.ndarray:
    """Absolute sum under every sign pattern; one sign is fixed, since all flipped is the same."""
    totals = sums[:1]
    for value in sums[1:]:
        totals = np.concatenate([totals + value, totals - value])
    return np.abs(totals)
