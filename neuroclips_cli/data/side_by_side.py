"""Cut side-by-side videos, as many papers publish them, into what was shown and what was made."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neuroclips_cli.errors import UserError

ORDERS = {"gt|pred": ("gt", "pred"), "pred|gt": ("pred", "gt")}
"""From left to right."""


def position(panels: str, which: str) -> int:
    """Return where a panel lies, 0 for left.

    Parameters
    ----------
    panels
        A key of ``ORDERS``.
    which
        ``gt`` or ``pred``.

    Raises
    ------
    UserError
        If ``panels`` is none.
    """
    if panels not in ORDERS:
        raise UserError(f'--panels \'{panels}\' is not an order: write "gt|pred" or "pred|gt"')
    return ORDERS[panels].index(which)


def cut(frames: np.ndarray, place: int, path: Path) -> np.ndarray:
    """Return one of two panels.

    Parameters
    ----------
    frames
        uint8 (frames, h, w, 3) with two panels of equal size side by side. Where the panels are
        square and have a black border of p pixels around and between them (MinD-Video's have 2,
        as torchvision's ``make_grid`` draws it), then h = s + 2p and w = 2s + 3p: the border
        goes. Any other frame is cut in two halves.
    place
        0 for the left panel, 1 for the right one.
    path
        For messages.

    Returns
    -------
    numpy.ndarray
        uint8 (frames, s, s, 3), or (frames, h, w / 2, 3).

    Raises
    ------
    UserError
        If the width is odd and there is no border that explains it, or below two.
    """
    height, width = frames.shape[1:3]
    border = 2 * height - width
    side = height - 2 * border
    if 0 < border <= height // 8 and not _border(frames, border, side).any():
        left = border + place * (side + border)
        return frames[:, border : border + side, left : left + side]
    if width % 2 or width < 2:
        raise UserError(
            f"{path} is {width} x {height} pixels, which is not a pair of panels of equal width: "
            "cut it in two folders and give --pred and --gt"
        )
    half = width // 2
    return frames[:, :, place * half : (place + 1) * half]


def _border(frames: np.ndarray, border: int, side: int) -> np.ndarray:
    """Return the pixels around and between two square panels, (frames, pixels, 3)."""
    mask = np.ones(frames.shape[1:3], bool)
    for left in (border, 2 * border + side):
        mask[border : border + side, left : left + side] = False
    return np.asarray(frames[:, mask])
