"""Signals that ask for an end: the command leaves at a resumable point and says how to continue."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
)
"""Ctrl-C, ``kill`` and schedulers, a closed terminal, SLURM's warning before the time limit."""

_state: dict[str, int] = {"received": 0}


class Stopped(KeyboardInterrupt):
    """Raised where the program stands when one of :data:`SIGNALS` arrives."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn every signal of :data:`SIGNALS` into :class:`Stopped` while the block runs.

    Files appear whole or not at all, so any point at which Python takes the signal is one to go
    on from. Outside the main thread, where Python allows no handlers, nothing is changed, and
    a command started with ``nohup`` keeps ignoring the end of its terminal.
    """
    _state["received"] = 0
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, _raise)
        for number in SIGNALS
        if not _is_ignored_hangup(number)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            # A handler that was not installed from Python is reported as None.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def exit_code() -> int:
    """Return 128 + the signal that came last; 130, Ctrl-C's, where none was seen."""
    return 128 + (_state["received"] or int(signal.SIGINT))


def message(arguments: Sequence[str] | None, program: str = "neuroclips") -> str:
    """Say in one sentence what stopped the command and how to continue."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    number = _state["received"]
    cause = f" by {signal.Signals(number).name}" if number not in (0, signal.SIGINT) else ""
    return (
        f"stopped{cause}; what is finished is kept, run the same command again to continue: "
        f"`{shlex.join([program, *words])}`"
    )


def _is_ignored_hangup(number: int) -> bool:
    """Tell whether a signal is that of a closed terminal and ``nohup`` has it ignored."""
    hang_up = getattr(signal, "SIGHUP", None)
    return number == hang_up and signal.getsignal(number) == signal.SIG_IGN


def _raise(number: int, _frame: FrameType | None) -> Any:
    _state["received"] = number
    raise Stopped
