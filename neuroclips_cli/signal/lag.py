"""Lag scan: at which delay scans tell most of the clips that were shown.

A wrong delay, or a film that began at another moment than the run table says, lets everything
else run and decodes nothing. The scan decodes simple features of training clips by ridge
regression at every delay from 0 to 10 s, on segments left out, and tells where that works best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.signal.clip_times import at_positions, response_positions, whole_clips
from neuroclips_cli.signal.detrend import standardize
from neuroclips_cli.signal.reproducibility import interrun_correlation
from neuroclips_cli.signal.ridge import predict_left_out, segment_folds

LONGEST_S = 10.0
"""Delays are scanned from 0 to here, in steps of a TR."""
PENALTIES = (0.1, 1.0, 10.0)
"""Tried penalties, as multiples of a scan's mean squared norm."""
FOLDS = 4
CLEAR = 6.0
"""Standard errors by which the best delay has to beat another one to be worth a warning."""


@dataclass(frozen=True)
class LagRun:
    """A stretch of a training run.

    Attributes
    ----------
    series : numpy.ndarray
        float (volumes, voxels), all volumes of the run in some voxels.
    start_s : float
        When the first clip was shown, in s after the first volume.
    features : numpy.ndarray
        float (clips, features) of the clips that were shown one after the other.
    """

    series: NDArray[np.floating]
    start_s: float
    features: NDArray[np.floating]


@dataclass(frozen=True)
class LagScan:
    """How well clips are decoded at every delay.

    Attributes
    ----------
    delays_s : tuple of float
        Ascending, in s.
    correlation : tuple of float
        Mean correlation, over features, of what is decoded of clips left out with the truth.
    error : float
        Standard error of such a mean where nothing is decoded.
    """

    delays_s: tuple[float, ...]
    correlation: tuple[float, ...]
    error: float

    @property
    def best_s(self) -> float:
        """The delay that decodes best, in s, between two of those scanned where the curve is so."""
        values, top = self.correlation, int(np.argmax(self.correlation))
        if top in (0, len(values) - 1):
            return self.delays_s[top]
        before, peak, after = values[top - 1 : top + 2]
        bend = before - 2 * peak + after
        shift = 0.0 if bend >= 0 else 0.5 * (before - after) / bend
        return self.delays_s[top] + shift * (self.delays_s[1] - self.delays_s[0])

    def at(self, delay_s: float) -> float:
        """Return the correlation at a delay, in s, between those scanned by a straight line."""
        return float(np.interp(delay_s, self.delays_s, self.correlation))

    def is_far_off(self, delay_s: float, tr_s: float) -> bool:
        """Tell whether another delay decodes clearly better than the configured one.

        Parameters
        ----------
        delay_s : float
            The configured delay in s.
        tr_s : float
            Time between two volumes in s; what is nearer than that, or than 1 s, is not far.
        """
        gain = max(self.correlation) - self.at(delay_s)
        near = abs(self.best_s - delay_s) <= max(tr_s, 1.0)
        return not near and gain >= max(CLEAR * self.error, 0.2 * max(self.correlation))


def scan_delays(
    runs: Sequence[LagRun], *, clip_s: float, tr_s: float, order: int, longest_s: float = LONGEST_S
) -> LagScan:
    """Decode clip features at every delay, on segments left out.

    Parameters
    ----------
    runs : sequence of LagRun
        Training runs, at least two, of different films.
    clip_s, tr_s : float
        Length of a clip and time between two volumes, in s.
    order : int
        Degree of the polynomial that is removed from the responses.
    longest_s : float
        Longest delay in s; a run that ends earlier after its film loses its last clips, at all
        delays alike.

    Returns
    -------
    LagScan

    Raises
    ------
    ValueError
        If there are fewer than two runs with enough clips.

    See Also
    --------
    neuroclips_cli.signal.ridge.predict_left_out : Decodes.

    Notes
    -----
    Every delay is read from the same clips. Between volumes the series is interpolated linearly.
    """
    delays = tuple(float(d) for d in np.arange(0.0, longest_s + 1e-9, tr_s))
    kept = [(run, _common_clips(run, clip_s, tr_s, delays[-1])) for run in runs]
    kept = [(run, clips) for run, clips in kept if clips > order + 2]
    if len(kept) < 2:
        raise ValueError("a lag scan needs two runs whose films are longer")
    segments = np.concatenate([np.full(clips, number) for number, (_, clips) in enumerate(kept)])
    wanted = np.concatenate([standardize(run.features[:clips], order)[0] for run, clips in kept])
    folds = segment_folds(segments, most=FOLDS)
    curve = []
    for delay_s in delays:
        scans = np.concatenate(
            [_responses(run, clips, clip_s, tr_s, delay_s, order) for run, clips in kept]
        )
        curve.append(_decoded(scans @ scans.T, wanted, folds))
    return LagScan(delays, tuple(curve), _error(wanted))


def _error(wanted: NDArray[np.float64]) -> float:
    """Return the standard error of a mean correlation with unrelated series.

    Correlated features count as fewer: ``1 / sqrt(clips n)``, ``n = (sum l)^2 / sum l^2`` over the
    eigenvalues l of their covariance.
    """
    covariance = wanted.T @ wanted
    features = np.trace(covariance) ** 2 / max(float(np.square(covariance).sum()), 1e-12)
    return float(1 / np.sqrt(len(wanted) * max(features, 1.0)))


def _common_clips(run: LagRun, clip_s: float, tr_s: float, longest_s: float) -> int:
    """Count the clips whose response at the longest delay was recorded."""
    positions = response_positions(
        len(run.features), start_s=run.start_s, clip_s=clip_s, delay_s=longest_s, tr_s=tr_s
    )
    return whole_clips(positions, len(run.series), delay_s=longest_s, run="the run")


def _responses(
    run: LagRun, clips: int, clip_s: float, tr_s: float, delay_s: float, order: int
) -> NDArray[np.float64]:
    """Return standardized responses to the first clips at one delay."""
    positions = response_positions(
        clips, start_s=run.start_s, clip_s=clip_s, delay_s=delay_s, tr_s=tr_s
    )
    return standardize(at_positions(run.series, positions.ravel(), "linear"), order)[0]


def _decoded(
    gram: NDArray[np.float64], wanted: NDArray[np.float64], folds: list[NDArray[np.bool_]]
) -> float:
    """Return the mean correlation of decoded features with the true ones, at the best penalty."""
    return max(
        float(interrun_correlation(predict_left_out(gram, wanted, folds, penalty), wanted).mean())
        for penalty in PENALTIES
    )
