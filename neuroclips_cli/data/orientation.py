"""How a container asks players to turn or mirror pictures (the display matrix)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to lay a rectangle on itself.

    Attributes
    ----------
    transposed : bool
        Rows and columns are exchanged first.
    mirrored : bool
        The result's columns are reversed.
    flipped : bool
        The result's rows are reversed.
    """

    transposed: bool = False
    mirrored: bool = False
    flipped: bool = False

    def apply(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the picture, (h, w, 3), as it is shown."""
        shown = picture.transpose(1, 0, 2) if self.transposed else picture
        shown = shown[:, ::-1] if self.mirrored else shown
        return np.ascontiguousarray(shown[::-1] if self.flipped else shown)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height as shown."""
        return (height, width) if self.transposed else (width, height)


UPRIGHT = Orientation()


def from_matrix(matrix: NDArray[np.integer]) -> Orientation | None:
    """Read a display matrix.

    Parameters
    ----------
    matrix : numpy.ndarray
        The nine numbers of ISO/IEC 14496-12's ``matrix``, as integers: a stored point (x, y) is
        shown at (a x + c y, b x + d y) with a, b, c, d = matrix[[0, 1, 3, 4]].

    Returns
    -------
    Orientation or None
        None where it turns by other than right angles.
    """
    a, b, c, d = (int(matrix[place]) for place in (0, 1, 3, 4))
    if not (a or b or c or d):
        return UPRIGHT
    largest = max(abs(a), abs(b), abs(c), abs(d))
    a, b, c, d = (0 if abs(value) < 0.01 * largest else value for value in (a, b, c, d))
    if a and d and not (b or c):
        return Orientation(False, mirrored=a < 0, flipped=d < 0)
    if b and c and not (a or d):
        return Orientation(True, mirrored=c < 0, flipped=b < 0)
    return None
