"""Ridge regression in closed form, and what it predicts of segments that were left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FOLDS = 6


def segment_folds(segments: NDArray[np.integer], most: int = FOLDS) -> list[NDArray[np.bool_]]:
    """Group whole segments into folds.

    Parameters
    ----------
    segments : numpy.ndarray
        int (samples,), the segment of every sample.
    most : int
        Most folds.

    Returns
    -------
    list of numpy.ndarray
        A mask bool (samples,) for every fold; as many folds as segments, ``most`` at most.

    Examples
    --------
    >>> [fold.tolist() for fold in segment_folds(np.array([4, 4, 7]))]
    [[True, True, False], [False, False, True]]
    """
    present = np.unique(segments)
    return [np.isin(segments, part) for part in np.array_split(present, min(most, len(present)))]


def dual_weights(
    gram: NDArray[np.floating],
    wanted: NDArray[np.floating],
    used: NDArray[np.bool_],
    penalty: float,
) -> NDArray[np.float64]:
    """Fit a ridge regression on some of the samples, in its dual form.

    Parameters
    ----------
    gram : numpy.ndarray
        float (samples, samples), inner products of the samples.
    wanted : numpy.ndarray
        float (samples, outputs).
    used : numpy.ndarray
        bool (samples,), which samples are fitted.
    penalty : float
        Multiple of a sample's mean squared norm, above 0.

    Returns
    -------
    numpy.ndarray
        float64 (used samples, outputs): ``(K + penalty mean(diag K) I)^-1 Y``.
    """
    inner = gram[np.ix_(used, used)]
    size = np.trace(inner) / len(inner)
    return np.linalg.solve(inner + penalty * size * np.eye(len(inner)), wanted[used])


def predict_left_out(
    gram: NDArray[np.floating],
    wanted: NDArray[np.floating],
    folds: list[NDArray[np.bool_]],
    penalty: float,
) -> NDArray[np.float64]:
    """Predict every sample by the regression without its fold.

    Parameters
    ----------
    gram, wanted, penalty
        As for :func:`dual_weights`.
    folds : list of numpy.ndarray
        As :func:`segment_folds` returns them.

    Returns
    -------
    numpy.ndarray
        float (samples, outputs).
    """
    predicted = np.empty_like(wanted)
    for fold in folds:
        weights = dual_weights(gram, wanted, ~fold, penalty)
        predicted[fold] = gram[np.ix_(fold, ~fold)] @ weights
    return predicted
