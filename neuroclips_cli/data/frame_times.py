"""When each picture of a video is on screen, for films and clips alike.

The times are the container's (`data.video_file` and `data.gif_file` read them);
docs/reference/inputs.md says which source wins where two contradict each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.orientation import UPRIGHT, Orientation

EXACT_S = 1e-6
"""How far computed times may lie from each other that are equal."""
LARGEST_ROUNDING_S = 1e-3
"""Most that a coarse clock (milliseconds in mkv, flv and asf) is taken to round by."""


@dataclass(frozen=True)
class FrameTimes:
    """The pictures of a video and their times.

    Attributes
    ----------
    path : Path
        The file.
    onsets_s : numpy.ndarray
        float64 (pictures,), rising: when each picture appears, in seconds from the first one.
    duration_s : float
        From the first picture to the end of the last one.
    width, height : int
        Of a picture as it is shown, in pixels.
    interval_s : float
        Seconds between pictures at the rate at which the video was made; a picture that stands
        still lasts several. 0 where the times lie on no such grid.
    start_s : float
        How long after the beginning of the container (the earliest picture or sound) the first
        picture appears.
    rounding_s : float
        How far a stored time may lie from the true one.
    plain : bool
        Whether every packet makes one picture that is shown, each group of them by itself: what
        every decoder reads alike.
    stamps : numpy.ndarray or None
        int64 (pictures,), the container's own time stamps, by which PyAV's pictures are told
        apart; None where they are counted.
    orientation : Orientation
        What the container asks a player to do with each picture.
    """

    path: Path
    onsets_s: NDArray[np.float64]
    duration_s: float
    width: int
    height: int
    interval_s: float = 0.0
    start_s: float = 0.0
    rounding_s: float = EXACT_S
    plain: bool = False
    stamps: NDArray[np.int64] | None = None
    orientation: Orientation = field(default=UPRIGHT)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.onsets_s)

    @property
    def steady(self) -> bool:
        """Whether every picture is within half an interval of an even spacing."""
        if len(self) < 3:
            return True
        mean = self.onsets_s[-1] / (len(self) - 1)
        even = np.arange(len(self)) * mean
        return bool(np.abs(self.onsets_s - even).max() < 0.5 * mean)

    @property
    def longest_s(self) -> float:
        """How long the picture that stands longest is shown, in seconds."""
        return float(np.diff(self.onsets_s, append=self.duration_s).max())

    def on_screen(self, times_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the number of the picture on screen at each time.

        Parameters
        ----------
        times_s : numpy.ndarray
            float64, seconds from the beginning of the container. The first picture stands from
            there, the last one beyond its end.
        """
        return self._at(times_s - self.start_s + self.rounding_s)

    def nearest(self, times_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the number of the picture that begins nearest to each time on the video's grid.

        A picture that stands for several intervals counts as that many equal ones, so that a
        writer that joins equal pictures changes nothing. Off a grid it is the one on screen.

        Parameters
        ----------
        times_s : numpy.ndarray
            float64, seconds from the first picture.
        """
        # The small term lets exact halves go up whatever the rounding error.
        ahead = self.interval_s * (0.5 + 1e-9) if self.interval_s else self.rounding_s
        return self._at(times_s + ahead)

    def _at(self, times_s: NDArray[np.float64]) -> NDArray[np.int64]:
        index = np.searchsorted(self.onsets_s, times_s, side="right") - 1
        return np.clip(index, 0, len(self) - 1)

    def stretched(self, duration_s: float) -> FrameTimes:
        """Return the same pictures at times that end at another duration."""
        scale = duration_s / self.duration_s
        return replace(
            self,
            onsets_s=self.onsets_s * scale,
            duration_s=duration_s,
            interval_s=self.interval_s * scale,
        )


def grid_interval(
    onsets_s: NDArray[np.float64], tick_s: float, rates: Iterable[Fraction | float | None]
) -> float:
    """Find the constant rate at which a video was made, from the times of its pictures.

    Parameters
    ----------
    onsets_s : numpy.ndarray
        float64 (pictures,), rising from 0.
    tick_s : float
        Seconds of one step of the container's clock; times are rounded to it.
    rates : iterable
        Frame rates that the container names, in Hz; 0 and None are passed over.

    Returns
    -------
    float
        Seconds: every picture begins within one tick of a whole number of them and at least one
        lasts one of them. 0 where there is no such interval.
    """
    if len(onsets_s) < 2:
        return 0.0
    steps = np.diff(onsets_s)
    named = [1 / float(rate) for rate in rates if rate and float(rate) > 0]
    for interval in (*named, float(steps.mean()), float(steps.min()), float(np.median(steps))):
        # A clock as coarse as the interval fits any times: what it says must be exact then.
        allowed = max(min(1.01 * tick_s, interval / 4), 1e-6)
        numbers = np.rint(onsets_s / interval)
        lasts = np.diff(numbers)
        if lasts.min() == 1 and np.abs(onsets_s - numbers * interval).max() <= allowed:
            return interval
    return 0.0


def on_grid(onsets_s: NDArray[np.float64], interval_s: float) -> NDArray[np.float64]:
    """Return the times that were rounded when they were stored: whole numbers of an interval."""
    return np.rint(onsets_s / interval_s) * interval_s if interval_s else onsets_s


def rounding(tick_s: float) -> float:
    """Return how far a time may lie from the one that was rounded to a clock's ticks, in s."""
    return max(EXACT_S, min(0.51 * tick_s, LARGEST_ROUNDING_S))
