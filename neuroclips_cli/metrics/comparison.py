"""Two runs over the same clips: paired differences with intervals and a permutation test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neuroclips_cli.metrics.permutation import holm, sign_flip_p
from neuroclips_cli.metrics.statistics import Summary, summarize


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
    neuroclips_cli.metrics.permutation.sign_flip_p : The test.
    neuroclips_cli.metrics.permutation.holm : The correction for the number of metrics.
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
    >>> import numpy as np
    >>> from neuroclips_cli.metrics.comparison import paired_differences
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
    >>> from neuroclips_cli.metrics.comparison import shared_clips
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
