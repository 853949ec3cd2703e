"""Work shared out between threads: numpy and the decoders let go of Python while they work."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST = 8
"""More threads than this wait for the disk and for each other."""


def workers() -> int:
    """Return how many threads to use: the cores that this process may use, 8 at most."""
    if hasattr(os, "sched_getaffinity"):
        return min(MOST, len(os.sched_getaffinity(0)))
    return min(MOST, os.cpu_count() or 1)


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    stop: Event | None = None,
    threads: int | None = None,
) -> Iterator[Result]:
    """Yield ``work(item)`` for every item in order; as many are worked on as there are threads.

    Results do not pile up: an item is begun only when the one before the last ``threads`` ones
    was handed out.

    Parameters
    ----------
    work
        Must not depend on what the other threads do.
    items
        What to work on.
    stop
        Set when the caller, or ``work``, fails, so that long work can end early.
    threads
        :func:`workers` unless given.

    Raises
    ------
    Exception
        The first one of ``work``, in the order of the items.
    """
    count = threads or workers()
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            if stop:
                stop.set()
            for future in waiting:
                future.cancel()
            raise
