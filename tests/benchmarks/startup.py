"""``neuroclips --help`` against importing what draws it, in turn."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

PAIRS = 12
SMALLEST = """import typer
app = typer.Typer(help="Two commands.", rich_markup_mode="rich")
app.command("one", help="One.")(lambda: None)
app.command("two", help="Two.")(lambda: None)
app(["--help"])
"""
"""The least that Typer draws a help page for, in its own look."""


def main(folder: Path) -> list[tuple[str, float, str]]:
    """Measure medians, so that one slow start does not count."""
    times: dict[str, list[float]] = {"libraries": [], "smallest": [], "ours": []}
    for _ in range(PAIRS):
        times["libraries"].append(_timed("-c", "import typer, rich"))
        times["smallest"].append(_timed("-c", SMALLEST))
        times["ours"].append(_timed("-m", "neuroclips_cli", "--help"))
    libraries, smallest, ours = (statistics.median(found) for found in times.values())
    return [
        ("`python -c 'import typer, rich'`, s", libraries, ""),
        (
            "the smallest Typer app of two commands, `--help`, s",
            smallest,
            f"{smallest / libraries:.2f} x",
        ),
        ("`neuroclips --help`, s", ours, f"{ours / libraries:.2f} x"),
    ]


def _timed(*words: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
