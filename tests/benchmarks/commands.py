"""A command of the package in a process of its own: time, processor time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple


class Used(NamedTuple):
    """What a command used: seconds of wall and of processor, and the largest resident GB."""

    seconds: float
    processor: float
    memory: float


def run_command(work: Path, words: list[str]) -> Used:
    """Run ``neuroclips`` with some words in a folder; stop where it fails.

    Parameters
    ----------
    work : Path
        Working folder.
    words : list of str
        Command and options.
    """
    began = time.perf_counter()
    path = os.pathsep.join(
        [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    )
    child = subprocess.Popen(
        [sys.executable, "-m", "neuroclips_cli", *words, "--quiet"],
        cwd=work,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"neuroclips {' '.join(words)} ended with {status}")
    processor = used.ru_utime + used.ru_stime
    return Used(time.perf_counter() - began, processor, used.ru_maxrss / 1e6)
