"""How many items a network takes at a time: as many as memory allows, fewer where it runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

Result = TypeVar("Result")

ON_CPU = 4
"""Clips at a time without a GPU: their activations still fit the processor's cache."""
MOST = 32
"""More at a time keep no GPU busier."""
SHARE = 0.8
"""Of the free memory; the rest is for what the allocator loses between blocks."""


class AutoBatcher:
    """Cuts a range into pieces.

    Parameters
    ----------
    size : int
        Items at a time; 0 finds it: on a GPU the first item is computed alone, and what it needed
        tells how many fit; elsewhere :data:`ON_CPU`.

    Attributes
    ----------
    size : int
        Items of the next piece.
    """

    def __init__(self, size: int) -> None:
        self._measures = not size and on_gpu()
        self.size = size or (1 if self._measures else ON_CPU)

    def map(
        self, first: int, count: int, compute: Callable[[slice], Result]
    ) -> Iterator[tuple[slice, Result]]:
        """Yield ``(piece, compute(piece))`` until ``range(first, count)`` is covered.

        A piece for which a GPU's memory does not suffice is halved and computed again.

        Raises
        ------
        torch.OutOfMemoryError
            If not even one item fits.
        """
        while first < count:
            piece = slice(first, min(first + self.size, count))
            try:
                result = self._measured(compute, piece) if self._measures else compute(piece)
            except torch.OutOfMemoryError:
                if piece.stop - piece.start == 1:
                    raise
                self.size = (piece.stop - piece.start) // 2
            else:
                yield piece, result
                first = piece.stop
                continue
            # Only here, where the exception is gone, does nothing hold the piece's memory.
            _release()

    def _measured(self, compute: Callable[[slice], Result], piece: slice) -> Result:
        """Compute the first item and choose the size that its memory allows."""
        self._measures = False
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = compute(piece)
        needed = torch.cuda.max_memory_allocated() - before
        _release()
        self.size = fitting(needed, torch.cuda.mem_get_info()[0])
        return result


def on_gpu() -> bool:
    """Tell whether this process has begun to use a GPU."""
    return torch.cuda.is_available() and torch.cuda.is_initialized()


def fitting(needed: int, free: int) -> int:
    """Return how many items of ``needed`` bytes each fit ``free`` bytes, 1 to :data:`MOST`."""
    return max(1, min(MOST, int(SHARE * free) // max(1, needed)))


def _release() -> None:
    """Give cached blocks back, so that pieces of another size find room."""
    if on_gpu():
        torch.cuda.empty_cache()
