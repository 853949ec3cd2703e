"""When clips and their responses lie on a run's volumes, and the series at those times.

All times count from the moment at which a run's first volume was measured; volume ``i`` follows it
``i * tr_s`` later. Clip ``k`` of a stretch
of film begins ``k * clip_s`` after the stretch; its response is read ``delay_s`` later, from the
``window`` volumes about that moment. Where such a time falls on a volume, that volume is taken as
it is; elsewhere the series is interpolated.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.errors import UserError

Interpolation = Literal["cubic", "linear", "nearest"]
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)
ON_VOLUME = 1e-3
"""Times within this share of a TR of a volume are that volume's: rounding of times in tables."""


def window_offsets(window: int) -> NDArray[np.int64]:
    """Return the volumes of a clip's window, counted from the one at the delayed onset.

    Parameters
    ----------
    window : int
        Volumes per clip, at least 1.

    Returns
    -------
    numpy.ndarray
        int64 (window,), ascending; centered on 0, an even window with one more volume behind.

    Notes
    -----
    The delay is set to where the response peaks: volumes on both sides of it tell of the same clip.

    Examples
    --------
    >>> window_offsets(1).tolist(), window_offsets(3).tolist(), window_offsets(4).tolist()
    ([0], [-1, 0, 1], [-1, 0, 1, 2])
    """
    return np.arange(window, dtype=np.int64) - (window - 1) // 2


def response_positions(
    clips: int,
    *,
    start_s: float,
    clip_s: float,
    delay_s: float,
    tr_s: float,
    window: int = 1,
    spacing_s: float | None = None,
) -> NDArray[np.float64]:
    """Return where in a run the responses to clips lie.

    Parameters
    ----------
    clips : int
        Number of clips.
    start_s : float
        When the first clip was shown, in s after the first volume.
    clip_s, delay_s : float
        Length of a clip, and how much later its response is, in s.
    tr_s : float
        Time between two volumes in s.
    window : int
        Volumes per clip.
    spacing_s : float, optional
        Time between the volumes of a window in s; `tr_s` where absent.

    Returns
    -------
    numpy.ndarray
        float64 (clips, window), in volumes, 0 for the run's first one; a whole number (exactly)
        where a time falls on a volume.

    See Also
    --------
    at_positions : The series there.

    Examples
    --------
    >>> given = {"start_s": 2.0, "clip_s": 2.0, "delay_s": 4.0}
    >>> response_positions(3, **given, tr_s=2.0).ravel().tolist()
    [3.0, 4.0, 5.0]
    >>> response_positions(2, **given, tr_s=1.6, window=3).round(6).tolist()
    [[2.75, 3.75, 4.75], [4.0, 5.0, 6.0]]
    """
    onset_s = start_s + np.arange(clips, dtype=np.float64) * clip_s + delay_s
    step_s = tr_s if spacing_s is None else spacing_s
    times_s = onset_s[:, None] + window_offsets(window) * step_s
    return _snapped(times_s / tr_s)


def film_positions(
    volumes: int, duration_s: float, *, start_s: float, tr_s: float, grid_s: float, first_s: float
) -> NDArray[np.float64]:
    """Return where in a run the moments of a regular grid of film time lie, without any delay.

    Repetitions that were recorded at other moments of the film are compared on such a grid.

    Parameters
    ----------
    volumes : int
        Of the run; moments outside it are left out at the end.
    duration_s : float
        Length of the stretch of film in s.
    start_s, tr_s : float
        When it was shown, in s after the first volume, and the time between two volumes.
    grid_s, first_s : float
        Step and first moment of the grid, in s of the stretch.

    Returns
    -------
    numpy.ndarray
        float64 (moments,), in volumes.
    """
    count = math.floor((duration_s - first_s) / grid_s + ON_VOLUME)
    times_s = start_s + first_s + np.arange(max(count, 0), dtype=np.float64) * grid_s
    positions = _snapped(times_s / tr_s)
    return positions[positions <= volumes - 1]


def next_volume_s(start_s: float, tr_s: float, least_s: float = 0.0) -> float:
    """Return when a volume is measured, in s of a stretch, at or next after ``least_s`` of it.

    Parameters
    ----------
    start_s : float
        When the stretch begins, in s after the first volume; may be below 0.
    tr_s : float
        Time between two volumes in s.
    least_s : float
        From when on.

    Examples
    --------
    >>> from neuroclips_cli.signal.clip_times import next_volume_s
    >>> next_volume_s(3.0, 2.0), next_volume_s(-0.5, 2.0), next_volume_s(0.0, 2.0, 0.5)
    (1.0, 0.5, 2.0)
    """
    position = float(_snapped(np.array([(start_s + least_s) / tr_s]))[0])
    return least_s + max(0.0, (max(math.ceil(position), 0) - position) * tr_s)


def _snapped(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round what lies on a volume to that volume."""
    whole = np.round(positions)
    return np.where(np.abs(positions - whole) <= ON_VOLUME, whole, positions)


def span(positions: NDArray[np.float64]) -> slice:
    """Return the volumes between which positions lie, both ends included.

    Examples
    --------
    >>> span(np.array([[3.0], [4.0]])), span(np.array([2.75, 6.1]))
    (slice(3, 5, None), slice(2, 8, None))
    """
    return slice(math.floor(positions.min()), math.ceil(positions.max()) + 1)


def whole_clips(positions: NDArray[np.float64], volumes: int, *, delay_s: float, run: str) -> int:
    """Count the clips whose whole window was recorded.

    Parameters
    ----------
    positions : numpy.ndarray
        float (clips, window), of :func:`response_positions`.
    volumes : int
        Of the run.
    delay_s : float
        For the message.
    run : str
        Its name for the message.

    Returns
    -------
    int
        Clips from the first one on; those at the end, which the run ends too early for, are not
        counted.

    Raises
    ------
    UserError
        If a window begins before the run's first volume.
    """
    if positions.size and positions[0, 0] < 0:
        raise UserError(
            f"the window of {positions.shape[1]} volumes (data.window), {delay_s:g} s after the "
            f"onset of the first clip, begins {-positions[0, 0]:.3g} volumes before {run} does: "
            "shorten data.window, lengthen data.delay_s, or correct when the film began "
            "(scan_start_s, first_volume_s)"
        )
    return int((positions.max(axis=1, initial=0) <= volumes - 1).sum())


def at_positions(
    series: NDArray[np.floating], positions: NDArray[np.float64], method: Interpolation
) -> NDArray[np.floating]:
    """Return a series at times that may fall between volumes.

    Parameters
    ----------
    series : numpy.ndarray
        float (volumes, voxels), all finite where positions are not whole numbers.
    positions : numpy.ndarray
        float64 (times,) within the series, in volumes.
    method : {"cubic", "linear", "nearest"}
        Spline of order 3 or 1 through the volumes, or the nearest volume.

    Returns
    -------
    numpy.ndarray
        (times, voxels): the type of ``series`` where all positions are whole numbers or the
        method is ``nearest``, else float64.

    See Also
    --------
    scipy.interpolate.make_interp_spline : Does it.

    Notes
    -----
    A cubic spline is close to the ideal interpolation of a band-limited series; the linear one
    averages two volumes by weights that change from clip to clip, which smooths some clips more
    than others.

    Examples
    --------
    >>> series = np.array([[0.0], [1.0], [4.0], [9.0], [16.0]])
    >>> at_positions(series, np.array([1.0, 2.5]), "cubic").round(6).tolist()
    [[1.0], [6.25]]
    """
    whole = np.round(positions).astype(np.int64)
    if method == "nearest" or np.array_equal(positions, whole):
        if len(whole) and np.array_equal(whole, np.arange(whole[0], whole[0] + len(whole))):
            return series[whole[0] : whole[0] + len(whole)]
        return series[whole]
    return _weights(len(series), positions.tobytes(), method) @ np.asarray(series, np.float64)


@lru_cache(maxsize=32)
def _weights(volumes: int, positions: bytes, method: Interpolation) -> NDArray[np.float64]:
    """Return the weight of every volume in the value at every time, float64 (times, volumes).

    A spline through the volumes is linear in them: the weights are the splines through one volume
    of 1 among zeros, and serve all blocks of voxels.
    """
    from scipy.interpolate import make_interp_spline

    order = min(3 if method == "cubic" else 1, volumes - 1)
    spline = make_interp_spline(np.arange(volumes), np.eye(volumes), k=order)
    return np.asarray(spline(np.frombuffer(positions)))
