"""What the user sees: messages, progress and tables, on a terminal or in a log."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

LOG_EVERY_S = 10.0
"""Seconds between two lines of progress where there is no terminal."""

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What could move the cursor or turn the direction of writing; tabs and new lines may stay."""

_state = {"verbose": False, "quiet": False}


def configure(verbose: bool = False, quiet: bool = False) -> None:
    """Choose how much is said: ``verbose`` adds details, ``quiet`` leaves warnings and errors."""
    _state.update(verbose=verbose, quiet=quiet)


@contextmanager
def quietly() -> Iterator[None]:
    """Leave out all but warnings and errors for the length of the block."""
    before = dict(_state)
    configure(quiet=True)
    try:
        yield
    finally:
        _state.update(before)


def escape(text: str) -> str:
    """Return text without markup and control characters, as names of files may hold both."""
    from rich.markup import escape as escape_markup

    return escape_markup(_CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text))


def info(message: str) -> None:
    """Say something that matters to everybody."""
    if not _state["quiet"]:
        _err().print(escape(message), highlight=False, soft_wrap=True)


def detail(message: str) -> None:
    """Say something that is of interest with ``--verbose`` only."""
    if _state["verbose"]:
        _err().print(escape(message), style="dim", highlight=False, soft_wrap=True)


def warn(message: str) -> None:
    """Say something the user should look at; shown even when quiet."""
    text = f"[yellow]Warning:[/yellow] {escape(message)}"
    _err().print(text, highlight=False, soft_wrap=True)


def error(message: str) -> None:
    """Say why the command failed."""
    _err().print(f"[red]Error:[/red] {escape(message)}", highlight=False, soft_wrap=True)


def out(text: str) -> None:
    """Write a command's result to standard output, unchanged and unstyled."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to standard output, also when quiet: it is the command's result.

    On a terminal it fits the window; elsewhere no cell is cut or wrapped.
    """
    from rich.console import Console
    from rich.table import Table

    grid = Table(title=title or None, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        grid.add_column(escape(column), overflow="fold", no_wrap=index == 0)
    for row in rows:
        grid.add_row(*(escape(str(cell)) for cell in row))
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        widest = Console(width=100_000).measure(grid).maximum
        console = Console(file=sys.stdout, width=max(widest, 80))
    console.print(grid)


@contextmanager
def progress(description: str, total: int, unit: str = "clip") -> Iterator[Callable[..., None]]:
    """Show how far a long piece of work is.

    Yields
    ------
    callable
        ``advance(n=1, **shown)``: ``n`` more units are done; ``shown`` are values to print
        beside, such as ``loss=0.31``.
    """
    console = _err()
    if _state["quiet"]:
        yield lambda n=1, **shown: None
    elif console.is_terminal:
        yield from _bar(console, description, total, unit)
    else:
        yield from _lines(description, total, unit)


def _bar(
    console: Console, description: str, total: int, unit: str
) -> Iterator[Callable[..., None]]:
    """Show a bar with rate, time spent and time left."""
    from rich import progress as parts

    columns = (
        parts.TextColumn("{task.description}"),
        parts.BarColumn(),
        parts.MofNCompleteColumn(),
        parts.TextColumn("{task.fields[rate]}", style="cyan"),
        parts.TimeElapsedColumn(),
        parts.TimeRemainingColumn(),
        parts.TextColumn("{task.fields[shown]}", style="dim"),
    )
    with parts.Progress(*columns, console=console) as bar:
        number = bar.add_task(escape(description), total=total, rate="", shown="")
        task = bar.tasks[0]

        def advance(n: int = 1, **shown: Any) -> None:
            bar.update(number, advance=n)
            speed = task.finished_speed or task.speed
            bar.update(number, rate=_rate(speed, unit) if speed else "")
            if shown:
                bar.update(number, shown=_shown(shown))

        yield advance


def _lines(description: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    """Write a line about every ten seconds, and one at the end."""
    began = last = time.monotonic()
    done = 0

    def line(shown: dict[str, Any]) -> None:
        spent = time.monotonic() - began
        rate = done / spent if spent > 0 else 0.0
        parts = [f"{description}: {done}/{total}", duration(spent)]
        if rate and done:
            parts.append(_rate(rate, unit))
        if rate and done < total:
            parts.append(f"{duration((total - done) / rate)} left")
        info(", ".join([*parts, _shown(shown)] if shown else parts))

    latest: dict[str, Any] = {}

    def advance(n: int = 1, **shown: Any) -> None:
        nonlocal done, last
        done += n
        latest.update(shown)
        if time.monotonic() - last >= LOG_EVERY_S and done < total:
            last = time.monotonic()
            line(latest)

    yield advance
    line(latest)


def _shown(values: dict[str, Any]) -> str:
    """Return values as ``loss 0.31  epoch 4``."""
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def _rate(per_second: float, unit: str) -> str:
    """Return a rate in the unit that reads best."""
    if per_second >= 1:
        return f"{per_second:.1f} {unit}/s"
    return f"{1 / per_second:.1f} s/{unit}"


def duration(seconds: float) -> str:
    """Return a time span as ``4 s``, ``2 min 05 s`` or ``1 h 20 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _err() -> Console:
    """Return a console on the standard error of this moment (tests and pipes may exchange it)."""
    from rich.console import Console

    return Console(stderr=True)
