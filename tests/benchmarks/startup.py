"""``neuroclips --help`` against importing what draws it, in alternating pairs."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

PAIRS = 12


def main(folder: Path) -> list[tuple[str, float, str]]:
    """Measure medians, so that one slow start does not count."""
    help_page, libraries = [], []
    for _ in range(PAIRS):
        help_page.append(_timed("-m", "neuroclips_cli", "--help"))
        libraries.append(_timed("-c", "import typer, rich"))
    ours, theirs = statistics.median(help_page), statistics.median(libraries)
    return [
        ("`python -c 'import typer, rich'`, s", theirs, ""),
        ("`neuroclips --help`, s", ours, f"{ours / theirs:.2f} x"),
    ]


def _timed(*words: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
