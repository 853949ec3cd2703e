"""N-way top-1 accuracy in closed form (paper 4.3).

The paper draws N - 1 distractor classes at random, asks whether the ground-truth class scores
highest among the N, and repeats this 100 times. The expectation of that experiment is known: of
M classes that are not ground truth, g score above it, so a draw is won with probability
C(M - g, N - 1) / C(M, N - 1). This removes the sampling error; it agrees with the Monte Carlo
version of the public code within that error.
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
    others = scores.shape[1] - classes.shape[1]
    return np.array(
        [
            win_probability(others, int(a), int(t), ways, int(b))
            for a, t, b in zip(above, tied, best, strict=True)
        ]
    )


def chance(ways: int, classes: int = 1) -> float:
    """N-way accuracy of a prediction that knows nothing: K / (K + N - 1).

    With one ground-truth class that is 1 / N; with the public code's three it is 3 / (N + 2),
    that is 0.75 for 2-way and 0.058 for 50-way.
    """
    return classes / (classes + ways - 1)
