"""Cut the voxels of a run into pieces that are read one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.runtime.batches import batches


def voxel_pieces(count: int, size: int, needed: NDArray[np.bool_] | None) -> Iterator[slice]:
    """Cut ``count`` voxels into pieces of ``size``, and yield those that hold a needed one.

    Parameters
    ----------
    count, size
        At least 1.
    needed
        bool (count,); None: all are.
    """
    for piece in batches(count, size):
        if needed is None or needed[piece].any():
            yield piece


class ReadWhole(ABC):
    """A run that is read at once, since the shortest piece of its file is a whole volume."""

    columns: NDArray[np.int64]

    @abstractmethod
    def read(self) -> NDArray[np.float32]:
        """Return the time series, float32 (volumes, voxels)."""

    def blocks(
        self, size: int, needed: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield the time series of some voxels after the other; see :class:`data.runs.Run`."""
        series = self.read()
        for piece in voxel_pieces(len(self.columns), size, needed):
            yield piece, series[:, piece]
