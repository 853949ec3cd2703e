"""Summary of a metric over clips: mean, standard deviation and a bootstrap interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Mean of a metric over clips.

    Attributes
    ----------
    mean, std : float
        Over clips (ddof 1), NaN rows left out.
    ci95 : tuple of float
        2.5 and 97.5 percentile of the bootstrapped mean, clips drawn with replacement.
    n : int
        Number of clips.
    ci95_scenes : tuple of float or None
        The same with whole scenes drawn: neighboring clips of one scene are not independent,
        so this is the wider, more honest interval. None when scenes are unknown.
    """

    mean: float
    std: float
    ci95: tuple[float, float]
    n: int
    ci95_scenes: tuple[float, float] | None = None

    def as_dict(self) -> dict[str, object]:
        """Plain, JSON-able form."""
        plain: dict[str, object] = {
            "mean": self.mean,
            "std": self.std,
            "ci95": list(self.ci95),
            "n": self.n,
        }
        if self.ci95_scenes is not None:
            plain["ci95_scenes"] = list(self.ci95_scenes)
        return plain


def bootstrap_interval(
    values: np.ndarray, samples: int, seed: int, groups: np.ndarray | None = None
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean.

    Parameters
    ----------
    values : numpy.ndarray
        float (clips,), at least one, no NaN.
    samples : int
        Bootstrap samples.
    seed : int
        Seed of the draws: the same values give the same interval.
    groups : numpy.ndarray, optional
        (clips,) labels; whole groups are drawn instead of clips.

    Returns
    -------
    tuple of float
        Lower and upper bound (Efron & Tibshirani 1993, chapter 13).

    See Also
    --------
    neuroclips_cli.metrics.statistics.sign_flip_p : A test of paired differences.

    Examples
    --------
    >>> bootstrap_interval(np.array([0.5, 0.5, 0.5]), samples=100, seed=0)
    (0.5, 0.5)
    >>> low, high = bootstrap_interval(np.array([0.0, 1.0]), samples=1000, seed=0)
    >>> low, high
    (0.0, 1.0)
    """
    from scipy import stats

    if groups is None:
        sums, counts = values.astype(float), np.ones(len(values))
    else:
        _, member = np.unique(groups, return_inverse=True)
        sums, counts = np.bincount(member, weights=values), np.bincount(member).astype(float)
    if len(sums) == 1:
        return float(values.mean()), float(values.mean())
    interval = stats.bootstrap(
        (sums, counts),
        lambda sums, counts, axis=-1: sums.sum(axis=axis) / counts.sum(axis=axis),
        n_resamples=samples,
        batch=max(1, 2_000_000 // len(sums)),
        paired=True,
        vectorized=True,
        method="percentile",
        rng=seed,
    ).confidence_interval
    return float(interval.low), float(interval.high)


def summarize(
    values: np.ndarray, samples: int = 10000, seed: int = 0, groups: np.ndarray | None = None
) -> Summary:
    """Compute mean, standard deviation and 95 % interval of one metric over clips.

    Parameters
    ----------
    values : numpy.ndarray
        float (clips,); NaN marks clips that the metric does not cover.
    samples : int
        Bootstrap samples.
    seed : int
        Seed of the bootstrap, see `bootstrap_interval`.
    groups : numpy.ndarray, optional
        (clips,) scene labels, for the second interval.

    Returns
    -------
    Summary

    Raises
    ------
    ValueError
        If no clip has a value.

    See Also
    --------
    bootstrap_interval : The intervals.

    Examples
    --------
    >>> from neuroclips_cli.metrics import statistics
    >>> summary = statistics.summarize(np.array([1.0, 3.0, np.nan]), samples=100)
    >>> summary.mean, round(summary.std, 4), summary.n
    (2.0, 1.4142, 2)
    """
    values = np.asarray(values, dtype=float)
    known = ~np.isnan(values)
    if not known.any():
        raise ValueError("no clip has a value for this metric")
    kept = values[known]
    scenes = None
    if groups is not None:
        scenes = bootstrap_interval(kept, samples, seed, np.asarray(groups)[known])
    return Summary(
        mean=float(kept.mean()),
        std=float(kept.std(ddof=1)) if len(kept) > 1 else 0.0,
        ci95=bootstrap_interval(kept, samples, seed),
        n=int(known.sum()),
        ci95_scenes=scenes,
    )


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


@dataclass(frozen=True)
class Difference:
    """A metric of one run minus the same metric of another, clip by clip.

    Attributes
    ----------
    summary : Summary
        Of the differences, with intervals over clips and, where scenes are known, over scenes.
    p : float
        Two-sided sign-flip test over scenes (over clips where scenes are unknown).
    p_holm : float
        The same, corrected for the number of metrics.
    units : int
        Scenes (or clips) in the test.
    """

    summary: Summary
    p: float
    p_holm: float
    units: int


def paired_differences(
    ours: Mapping[str, np.ndarray],
    theirs: Mapping[str, np.ndarray],
    scenes: np.ndarray | None = None,
    *,
    samples: int = 10000,
    seed: int = 0,
) -> dict[str, Difference]:
    """Compare two runs metric by metric.

    Parameters
    ----------
    ours, theirs : mapping
        Metric -> float (clips,), the same clips in the same order; NaN marks clips that a metric
        does not cover.
    scenes : numpy.ndarray, optional
        (clips,) scene labels.
    samples : int
        Bootstrap samples of the intervals.
    seed : int
        Of the bootstrap and the test.

    Returns
    -------
    dict
        Metric -> ``ours - theirs``, for the metrics that both have on some clip; Holm's
        correction is over these.

    See Also
    --------
    neuroclips_cli.metrics.statistics.sign_flip_p : The test.
    neuroclips_cli.metrics.statistics.holm : The correction for the number of metrics.
    neuroclips_cli.metrics.statistics.bootstrap_interval : The intervals.

    Notes
    -----
    Order of operations:

    1. differences clip by clip;
    2. clips without a value (NaN) are left out, metric by metric;
    3. sign-flip test over scenes;
    4. Holm's correction over the metrics;
    5. bootstrap intervals over clips and over scenes.

    Examples
    --------
    >>> ours = {"ssim": np.array([0.5, 0.5, 0.75])}
    >>> theirs = {"ssim": np.array([0.25, 0.25, 0.5])}
    >>> difference = paired_differences(ours, theirs, samples=100)["ssim"]
    >>> difference.summary.mean, difference.p, difference.units
    (0.25, 0.25, 3)
    """
    values = {name: ours[name] - theirs[name] for name in ours if name in theirs}
    values = {name: column for name, column in values.items() if not np.isnan(column).all()}
    tests = {name: _test(column, scenes, seed) for name, column in values.items()}
    corrected = holm([p for p, _ in tests.values()])
    return {
        name: Difference(summarize(values[name], samples, seed, scenes), p, p_holm, units)
        for (name, (p, units)), p_holm in zip(tests.items(), corrected, strict=True)
    }


def shared_clips(runs: Sequence[Sequence[str]]) -> list[str]:
    """Return the clips that all runs have, in the order of the first run.

    Parameters
    ----------
    runs : sequence of sequence of str
        Clip names of each run, at least one run.

    Returns
    -------
    list of str

    Examples
    --------
    >>> shared_clips([["c", "a", "b"], ["a", "c", "d"]])
    ['c', 'a']
    """
    common = set(runs[0]).intersection(*runs[1:])
    return [clip for clip in runs[0] if clip in common]


def _test(column: np.ndarray, scenes: np.ndarray | None, seed: int) -> tuple[float, int]:
    known = ~np.isnan(column)
    groups = None if scenes is None else scenes[known]
    units = int(known.sum()) if groups is None else len(np.unique(groups))
    return sign_flip_p(column[known], groups, seed=seed), units
