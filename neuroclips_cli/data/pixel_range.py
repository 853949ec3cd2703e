"""Which numbers stand for black and white in an array of frames: decided over all of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.errors import UserError

OVERSHOOT = 0.25
"""How far resizing may carry values beyond black and white, as a share of the range."""


@dataclass(frozen=True)
class PixelRange:
    """What black and white are in an array.

    Attributes
    ----------
    black, white : float
    """

    black: float = 0.0
    white: float = 255.0

    def to_uint8(self, frames: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Return frames as uint8, rounded; values beyond black and white are cut off."""
        if frames.dtype == np.uint8 and (self.black, self.white) == (0.0, 255.0):
            return np.asarray(frames, np.uint8)
        share = (frames.astype(np.float32) - self.black) / (self.white - self.black)
        return np.asarray(np.clip(np.rint(share * 255.0), 0, 255), np.uint8)


BYTES, UNIT, SIGNED = PixelRange(), PixelRange(0.0, 1.0), PixelRange(-1.0, 1.0)


@dataclass(frozen=True)
class Uint8Clips:
    """An array of clips of any type and range, handed out as uint8.

    Attributes
    ----------
    stored : (clips, frames, height, width, 3)
        Usually memory-mapped.
    pixels : PixelRange
    """

    stored: NDArray[np.generic]
    pixels: PixelRange

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.stored)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the stored array."""
        return self.stored.shape

    def __getitem__(self, clip: int) -> NDArray[np.uint8]:
        """Return uint8 (frames, height, width, 3) of one clip."""
        return self.pixels.to_uint8(self.stored[clip])


def find_range(clips: Iterable[NDArray[np.generic]], what: str) -> PixelRange:
    """Look through all clips and tell which range their values have.

    Parameters
    ----------
    clips
        Clip by clip (frames, ...), of one numeric type.
    what
        The file, for messages.

    Returns
    -------
    PixelRange
        0..255, 0..1 or -1..1, whatever the type.

    Raises
    ------
    UserError
        If a value is not finite (clip and frame are named), or the values have another range.
    """
    low, high, whole = np.inf, -np.inf, True
    for number, clip in enumerate(clips):
        if clip.dtype.kind not in "uif":
            raise UserError(f"{what} holds {clip.dtype}, not numbers: write uint8 frames")
        smallest, largest = float(clip.min()), float(clip.max())
        if not (np.isfinite(smallest) and np.isfinite(largest)):
            frame = int(np.argwhere(~np.isfinite(clip.astype(np.float64)))[0][0])
            raise UserError(
                f"{what} holds NaN or infinity in frame {frame} of clip {number}: write it again"
            )
        low, high = min(low, smallest), max(high, largest)
        whole = clip.dtype.kind in "ui"
        if clip.dtype == np.uint8 and high > 1:
            return BYTES
    found = _named(low, high, whole)
    if found is None:
        raise UserError(
            f"{what} holds values from {low:g} to {high:g}: frames have 0..255, 0..1 or -1..1"
        )
    return found


def _named(low: float, high: float, whole: bool) -> PixelRange | None:
    """Return the range that all values together fit; None where none does, or several do."""
    if whole:
        # 0 and 1 alone are frames that lost their values when they were made whole numbers.
        return BYTES if low >= 0 and high <= 255 and high != 1 else None
    if high <= 1 + OVERSHOOT:
        if low >= -OVERSHOOT:
            return UNIT
        return SIGNED if -1 - 2 * OVERSHOOT <= low <= -2 * OVERSHOOT else None
    beyond = 255 * OVERSHOOT
    return BYTES if low >= -beyond and 8 < high <= 255 + beyond else None
