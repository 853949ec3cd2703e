"""Files written beside a training, so that the device does not wait for the disk."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class BackgroundWriter:
    """One thread that writes one file at a time.

    Whatever goes wrong in the thread is raised by the next call of :meth:`submit` or
    :meth:`wait`: it is told, late but never lost.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def submit(self, write: Callable[[], None]) -> None:
        """Begin to write, after the file before is whole.

        Parameters
        ----------
        write : callable
            Must read nothing that changes meanwhile.

        Raises
        ------
        Exception
            Of the file before.
        """
        self.wait()
        self._pending = self._pool.submit(write)

    def wait(self) -> None:
        """Return when all that was begun is on the disk; raises what went wrong."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()
