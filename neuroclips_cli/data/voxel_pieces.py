"""Cut the voxels of a run into pieces that are read one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def voxel_pieces(count: int, size: int, needed: NDArray[np.bool_] | None) -> Iterator[slice]:
    """Cut ``count`` voxels into pieces of ``size``, and yield those that hold a needed one.

    Parameters
    ----------
    count, size
        At least 1.
    needed
        bool (count,); None: all are.
    """
    for start in range(0, count, size):
        piece = slice(start, min(start + size, count))
        if needed is None or needed[piece].any():
            yield piece
