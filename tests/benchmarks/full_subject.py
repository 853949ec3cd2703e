"""One simulated subject of cc2017's size through every stage, with profile tiny on the CPU.

18 training films of 240 clips, seen twice, and 5 test films of 240 clips, seen ten times; 91282
grayordinates in 86 runs, 7.8 GB. A stage that is done is not run again, so that an interrupted
benchmark goes on, and its row tells of the rest only.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.benchmarks.commands import run_command

SIZE = ("--clips-per-segment", "240", "--test-clips-per-segment", "240", "--grayordinates", "91k")
STAGES = ("preprocess", "train-pr", "train-sr", "reconstruct", "fuse", "evaluate", "report")


def main(folder: Path) -> list[tuple[str, float, str]]:
    """Run the commands in turn; each row is also printed as soon as it is known."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_row(folder, ["simulate", "dataset", "--subjects", "1", *SIZE], folder / "dataset")]
    for stage in STAGES:
        words = [stage, "--device", "cpu", *(() if stage == "report" else ("--dataset", "dataset"))]
        rows.append(_row(folder, words, folder / "runs" / "sub-01" / stage))
    return rows


def _row(folder: Path, words: list[str], made: Path) -> tuple[str, float, str]:
    used = run_command(folder, words)
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file()) / 1e9
    note = f"{used.processor:.0f} s of processor, {used.memory:.2f} GB, {size:.2f} GB on disk"
    print(f"| {words[0]}, s | {used.seconds:.0f} | {note} |", file=sys.stderr, flush=True)
    return f"{words[0]}, s", used.seconds, note
