"""Read the times and pictures of GIF files (by Pillow)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.frame_times import FrameTimes
from neuroclips_cli.data.video_checks import check_work
from neuroclips_cli.errors import UserError

if TYPE_CHECKING:
    from PIL.GifImagePlugin import GifImageFile

SHORTEST = 2
"""Hundredths of a second: players show pictures of shorter delays for `DEFAULT` instead."""
DEFAULT = 10
EXACT_DELAYS = (2, 4, 5, 10, 20, 25, 50, 100)
"""Hundredths of a second that are those of a whole frame rate."""
ROUNDED_UP, ROUNDED_DOWN = 0.5, 1.0
"""Hundredths of a second that a stored delay may be longer, and shorter, than the true one."""
NEAR = 0.05
"""Share of the duration by which a rounded one may differ from whole scans, at an exact delay."""


def is_gif(path: Path) -> bool:
    """Whether a file begins as GIFs do."""
    try:
        with open(path, "rb") as stream:
            return stream.read(4) == b"GIF8"
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check it") from error


@contextmanager
def _open(path: Path) -> Iterator[GifImageFile]:
    from PIL import GifImagePlugin

    try:
        with GifImagePlugin.GifImageFile(str(path)) as image:
            yield image
    except UserError:
        raise
    except Exception as problem:  # Pillow has a kind of error for every way a file can be broken
        raise UserError(f"cannot read {path} ({type(problem).__name__}): replace it") from problem


def read_gif_times(path: Path) -> FrameTimes:
    """Read how long each picture of a GIF is shown.

    Delays of less than 0.02 s, and missing ones, are shown for 0.1 s by browsers and FFmpeg.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    delays: list[int] = []
    with _open(path) as image:
        width, height = image.size
        for number in _numbers(image):
            check_work(path, number + 1, width * height)
            delay = int(image.info.get("duration", 0)) // 10
            delays.append(delay if delay >= SHORTEST else DEFAULT)
    lasts = np.array(delays, np.float64) / 100
    interval, counts = _grid(np.array(delays))
    if interval:
        # Rounding differs from delay to delay; what the pictures share is their sum.
        lasts, interval = counts * (lasts.sum() / counts.sum()), lasts.sum() / counts.sum()
    onsets = np.cumsum(lasts) - lasts
    return FrameTimes(path, onsets, float(lasts.sum()), width, height, interval_s=float(interval))


def _numbers(image: GifImageFile) -> Iterator[int]:
    """Go from picture to picture."""
    number = 0
    while True:
        yield number
        try:
            image.seek(number := number + 1)
        except EOFError:
            return


def _grid(delays: NDArray[np.int64]) -> tuple[float, NDArray[np.int64]]:
    """Find the interval at which a GIF was made, and how many of them each picture lasts.

    Writers join equal pictures, add up their delays, and round each sum up or down to hundredths
    of a second. Delays that are whole numbers of the shortest one are taken as they are.

    Returns
    -------
    tuple
        Hundredths of a second, about; int64 (pictures,). 0 and ones where there is no interval
        of which every picture lasts a whole number, to within the rounding, and one lasts one.
    """
    shortest = int(delays.min())
    common = int(np.gcd.reduce(delays))
    if common == shortest or len(delays) < 3:
        return common, delays // common
    candidates = np.arange(shortest - ROUNDED_UP, shortest + ROUNDED_DOWN, 0.02)
    for interval in sorted(candidates, key=lambda candidate: abs(candidate - shortest)):
        counts = np.rint(delays / interval).astype(np.int64)
        missing = counts * interval - delays
        if missing.min() >= -ROUNDED_UP and missing.max() < ROUNDED_DOWN and counts.min() == 1:
            return float(interval), counts
    return common, delays // common


def whole_scans(times: FrameTimes, clip_s: float) -> FrameTimes:
    """Undo the rounding of a GIF's delays, where they are those of a clip of whole scans.

    14 pictures of 0.14 s last 1.96 s and are 2 s at 7 per second, as published; 60 of 0.03 s last
    1.8 s and are 2 s at 30 per second. Delays that are exact are left alone.

    Parameters
    ----------
    times : FrameTimes
        Of a GIF.
    clip_s : float
        Duration of one scan's clip in seconds.
    """
    for scans in _candidates(times.duration_s, clip_s):
        if (true := scans * clip_s) == times.duration_s:
            return times
        count = round(times.duration_s / times.interval_s)
        rate = count / true
        stored = 100 * times.interval_s
        fits = stored - ROUNDED_UP - 1e-6 <= 100 / rate < stored + ROUNDED_DOWN
        near = abs(true - times.duration_s) <= NEAR * true
        exact = any(abs(stored - delay) < 1e-6 for delay in EXACT_DELAYS)
        if abs(rate - round(rate)) < 1e-6 and fits and (near or not exact):
            return times.stretched(true)
    return times


def _candidates(duration_s: float, clip_s: float) -> list[int]:
    """Whole numbers of scans that a duration may stand for, the nearest first."""
    near = {int(duration_s / clip_s), int(duration_s / clip_s) + 1} - {0}
    return sorted(near, key=lambda scans: abs(scans * clip_s - duration_s))


def gif_pictures(path: Path, wanted: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Yield pictures by rising numbers, uint8 (h, w, 3).

    Raises
    ------
    UserError
        If it cannot be read.
    """
    position, pending = 0, list(wanted)
    with _open(path) as image:
        for number in _numbers(image):
            if position == len(pending):
                return
            if number == pending[position]:
                shown = np.asarray(image.convert("RGB"))
                while position < len(pending) and number == pending[position]:
                    yield shown
                    position += 1
