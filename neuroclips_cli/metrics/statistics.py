"""Summary of a metric over clips: mean, standard deviation and a bootstrap interval."""

from __future__ import annotations

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
    neuroclips_cli.metrics.permutation.sign_flip_p : A test of paired differences.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroclips_cli.metrics.statistics import bootstrap_interval
    >>> bootstrap_interval(np.array([0.5, 0.5, 0.5]), samples=100, seed=0)
    (0.5, 0.5)
    >>> low, high = bootstrap_interval(np.array([0.0, 1.0]), samples=1000, seed=0)
    >>> low, high
    (0.0, 1.0)
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        sums, counts = values.astype(float), np.ones(len(values))
    else:
        _, member = np.unique(groups, return_inverse=True)
        sums, counts = np.bincount(member, weights=values), np.bincount(member).astype(float)
    means = np.empty(samples)
    step = max(1, 2_000_000 // len(sums))
    for start in range(0, samples, step):
        stop = min(start + step, samples)
        drawn = rng.integers(0, len(sums), size=(stop - start, len(sums)))
        means[start:stop] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


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
    >>> import numpy as np
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
