"""From neural drive to BOLD: the canonical double-gamma response, sampled once per volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESPONSE_S = 32.0
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
    volume_s = (np.arange(volumes) - leading + 0.5) * tr_s
    bin_middle_s = (np.arange(bins) + 0.5) * bin_s
    return double_gamma(volume_s[:, None] - bin_middle_s[None, :]) * bin_s
