"""From neural drive to BOLD: the canonical double-gamma response, sampled once per volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESPONSE_S = 32.0
_FINE_S = 0.05
_PEAK_SHAPE, _UNDERSHOOT_SHAPE, _UNDERSHOOT_SHARE = 6.0, 16.0, 1.0 / 6.0


def double_gamma(times_s: NDArray[np.floating]) -> NDArray[np.float64]:
    """Canonical hemodynamic response (SPM's: peak at 5 s, undershoot at 15 s), unit sum per second.

    Parameters
    ----------
    times_s
        Seconds after a brief neural event, any shape; 0 before the event and after 32 s.
    """
    from scipy import stats

    t = np.asarray(times_s, dtype=np.float64)
    response = stats.gamma.pdf(t, _PEAK_SHAPE) - _UNDERSHOOT_SHARE * stats.gamma.pdf(
        t, _UNDERSHOOT_SHAPE
    )
    return np.where((t >= 0) & (t <= RESPONSE_S), response / (1 - _UNDERSHOOT_SHARE), 0.0)


def response_at(times_s: NDArray[np.floating], bins: int, bin_s: float) -> NDArray[np.float64]:
    """Linear map from the neural drive of a film to the response at any times.

    Parameters
    ----------
    times_s
        (times,) seconds after the film's beginning; negative before it.
    bins, bin_s
        Number of samples of the drive, and how long each of them lasts in s. The drive is zero (its
        average) before the film and after it.

    Returns
    -------
    float64 (times, bins)
        The convolution with :func:`double_gamma`; a bin's share is taken at its middle, which at
        0.5 s is right to 0.2 % of the response's peak.
    """
    bin_middle_s = (np.arange(bins) + 0.5) * bin_s
    return double_gamma(times_s[:, None] - bin_middle_s[None, :]) * bin_s


def response_matrix(
    bins: int, bin_s: float, volumes: int, leading: int, tr_s: float
) -> NDArray[np.float64]:
    """Linear map from the neural drive of a film to the volumes of its run.

    A volume stands for the middle of its acquisition. The drive is zero (its average) before the
    film and after it, so leading volumes hold no response and trailing ones hold its tail.

    Returns
    -------
    float64 (volumes, bins)
    """
    return response_at((np.arange(volumes) - leading + 0.5) * tr_s, bins, bin_s)


def best_delay_s(clip_s: float, tr_s: float) -> float:
    """Return how long after a clip's beginning the first volume of the strongest answer begins, s.

    A clip is seen all the while that it lasts, so that the answer to it peaks later than the 5 s of
    a brief event; a volume stands for its middle, which is half a TR after its beginning.
    """
    times_s = np.arange(0, clip_s + 12, 0.01)
    bins = round(clip_s / _FINE_S)
    answer = response_at(times_s, bins, _FINE_S).sum(axis=1)
    return float(round(times_s[answer.argmax()] - tr_s / 2, 2))
