"""N-way top-1 accuracy in closed form (paper 4.3).

The paper draws N - 1 distractor classes at random, asks whether the ground-truth class scores
highest among the N, and repeats this 100 times. The expectation of that experiment is known: of
M classes that are not ground truth, g score above it, so a draw is won with probability
C(M - g, N - 1) / C(M, N - 1). This removes the sampling error; it agrees with the Monte Carlo
version of the public code within that error, and `sampled_accuracy` is that version.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb

import numpy as np


@lru_cache(maxsize=65536)
def win_probability(others: int, above: int, tied: int, ways: int, best: int = 1) -> float:
    """Probability that a ground-truth class wins one N-way draw.

    Parameters
    ----------
    others : int
        M, the number of classes that are not ground truth.
    above : int
        How many of them score strictly above the best ground-truth class.
    tied : int
        How many of them score exactly the same; a draw against k of them is won with
        probability ``best`` / (``best`` + k), so that a constant prediction is at chance.
    ways : int
        N; the draw holds N - 1 of the M classes.
    best : int
        How many ground-truth classes share the best ground-truth score.

    Returns
    -------
    float
        0..1.

    Raises
    ------
    ValueError
        If fewer than N - 1 other classes exist.

    See Also
    --------
    nway_accuracy : The same for rows of class scores.
    chance : Its value for a constant prediction.

    Notes
    -----
    Without ties it is ``C(M - g, N - 1) / C(M, N - 1)``, with g = ``above``.

    Examples
    --------
    One of three other classes scores higher; a 2-way draw avoids it two times in three:

    >>> round(win_probability(others=3, above=1, tied=0, ways=2), 4)
    0.6667
    >>> win_probability(others=3, above=0, tied=3, ways=2)
    0.5
    """
    drawn = ways - 1
    if drawn > others:
        raise ValueError(f"a {ways}-way test needs {drawn} other classes, there are {others}")
    below = others - above - tied
    total = comb(others, drawn)
    return sum(
        comb(tied, k) * comb(below, drawn - k) / total * best / (best + k)
        for k in range(min(tied, drawn) + 1)
    )


def nway_accuracy(scores: np.ndarray, classes: np.ndarray, ways: int) -> np.ndarray:
    """Exact N-way top-1 accuracy of every row.

    Parameters
    ----------
    scores : numpy.ndarray
        float (rows, classes), the classifier's probabilities (or logits) of the reconstruction.
    classes : numpy.ndarray
        int (rows,) or (rows, K): the ground-truth class or classes of each row. With several,
        as in the public code of MinD-Video (K = 3), one win is enough.
    ways : int
        N.

    Returns
    -------
    numpy.ndarray
        float64 (rows,), 0..1.

    Raises
    ------
    ValueError
        If ``scores`` and ``classes`` do not fit together, or there are fewer than N classes.

    See Also
    --------
    sampled_accuracy : The Monte Carlo estimate that papers report.
    chance : The value of a prediction that knows nothing.

    Examples
    --------
    >>> scores = np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]])
    >>> nway_accuracy(scores, np.array([0, 1]), ways=2).tolist()
    [1.0, 0.5]
    """
    others, rows = _standing(scores, classes)
    return np.array(
        [win_probability(others, above, tied, ways, best) for above, tied, best in rows]
    )


def sampled_accuracy(
    scores: np.ndarray, classes: np.ndarray, ways: int, trials: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the N-way top-1 accuracy of every row by drawing distractors, as papers do.

    Parameters
    ----------
    scores : numpy.ndarray
        float (rows, classes), as in `nway_accuracy`, whose value this approaches.
    classes : numpy.ndarray
        int (rows,) or (rows, K), ground-truth classes.
    ways : int
        N.
    trials : int
        Draws per row; the published figures take 100.
    rng : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    tuple of numpy.ndarray
        float64 (rows,) each: the share of draws won, and its binomial standard error
        sqrt(p (1 - p) / trials), p the share itself. The published "deviation" is the mean of
        these errors over clips; it is not a spread over clips.

    Raises
    ------
    ValueError
        If there are fewer than N - 1 other classes.

    Notes
    -----
    Who wins depends only on how many of the N - 1 distractors score above the ground truth and
    how many tie with it, so these numbers are drawn instead of the classes (hypergeometric).

    Examples
    --------
    >>> scores = np.array([[0.7, 0.2, 0.1]])
    >>> won, error = sampled_accuracy(scores, np.array([0]), 2, 100, np.random.default_rng(0))
    >>> won.tolist(), error.tolist()
    ([1.0], [0.0])
    """
    others, rows = _standing(scores, classes)
    if ways - 1 > others:
        raise ValueError(f"a {ways}-way test needs {ways - 1} other classes, there are {others}")
    won = np.empty(len(rows))
    for row, (above, tied, best) in enumerate(rows):
        kinds = [above, tied, others - above - tied]
        drawn = rng.multivariate_hypergeometric(kinds, ways - 1, size=trials)
        lucky = rng.random(trials) * (best + drawn[:, 1]) < best
        won[row] = np.mean((drawn[:, 0] == 0) & lucky)
    return won, np.sqrt(won * (1 - won) / trials)


def _standing(scores: np.ndarray, classes: np.ndarray) -> tuple[int, list[tuple[int, int, int]]]:
    """Count the classes that are not ground truth and, per row, those above and those tied.

    Third of a row is how many ground-truth classes share the best ground-truth score.
    """
    scores = np.asarray(scores)
    classes = np.atleast_2d(np.asarray(classes).T).T
    if scores.ndim != 2 or len(scores) != len(classes):
        raise ValueError(f"scores {scores.shape} and classes {classes.shape} do not fit together")
    own = np.take_along_axis(scores, classes, axis=1)
    target = own.max(axis=1, keepdims=True)
    best = (own == target).sum(axis=1)
    # a ground-truth class is never above the best ground-truth class, but may tie with it
    above = (scores > target).sum(axis=1)
    tied = (scores == target).sum(axis=1) - best
    rows = zip(above.tolist(), tied.tolist(), best.tolist(), strict=True)
    return scores.shape[1] - classes.shape[1], list(rows)


def chance(ways: int, classes: int = 1) -> float:
    """Return the N-way accuracy of a prediction that knows nothing.

    Parameters
    ----------
    ways : int
        N, at least 1.
    classes : int
        K, ground-truth classes per row.

    Returns
    -------
    float
        ``K / (K + N - 1)``, 0..1. With one ground-truth class that is 1 / N; with the public code's
        three it is 3 / (N + 2).

    Examples
    --------
    >>> chance(50), chance(2, classes=3), round(chance(50, classes=3), 3)
    (0.02, 0.75, 0.058)
    """
    return classes / (classes + ways - 1)
