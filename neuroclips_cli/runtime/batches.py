"""Go through many rows in pieces that fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator


def batches(count: int, size: int, advance: Callable[[int], None] | None = None) -> Iterator[slice]:
    """Yield slices that cover ``range(count)`` in pieces of at most ``size``.

    Parameters
    ----------
    count, size : int
        Rows, and rows at a time (at least one).
    advance : callable, optional
        Called with the number of rows of a piece when the caller asks for the next one.

    Examples
    --------
    >>> [(piece.start, piece.stop) for piece in batches(5, 2)]
    [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, count, max(1, size)):
        piece = slice(start, min(start + max(1, size), count))
        yield piece
        if advance is not None:
            advance(piece.stop - piece.start)
