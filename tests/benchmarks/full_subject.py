"""A subject of cc2017's size through every stage, with profile tiny on the CPU.

18 training films of 240 clips, seen twice, and 5 test films of 240 clips, seen ten times; 91282
grayordinates in 86 runs of random numbers with a weak repeated signal, 7.7 GB. Trainings run for
two epochs, of which one takes as long as the next. Clips of these films are evaluated by
copies of the embedded networks, which have not seen the like: it takes as long, and the figures
mean nothing. A stage that is done is not run again, so that an interrupted benchmark goes on; its
row tells of the rest only.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib import resources
from pathlib import Path

from tests.benchmarks.commands import run_command
from tests.benchmarks.subject import write_subject

STAGES = ("preprocess", "train-pr", "train-sr", "reconstruct", "fuse", "evaluate", "report")
EVALUATORS = ("image_classifier", "video_classifier", "clip")
GIVEN = (
    *("--dataset", "full", "--device", "cpu"),
    *("--set", "train_pr.epochs=2", "--set", "train_sr.contrastive_epochs=2"),
    *("--set", "train_sr.prior_epochs=2"),
)


def _evaluators(folder: Path) -> list[str]:
    """Put copies of the embedded evaluators beside the data, and name them."""
    embedded = Path(str(resources.files("neuroclips_cli"))) / "assets" / "tiny"
    given = []
    for name in EVALUATORS:
        copied = shutil.copytree(embedded / name, folder / name, dirs_exist_ok=True)
        given += ["--set", f"evaluate.{name}={copied}"]
    return given


def main(folder: Path) -> list[tuple[str, float, str]]:
    """Run the commands in turn; each row is also printed as soon as it is known."""
    write_subject(folder / "full", film_size=64)
    given = [*GIVEN, *_evaluators(folder)]
    return [_row(folder, stage, [] if stage == "report" else given) for stage in STAGES]


def _row(folder: Path, stage: str, given: list[str]) -> tuple[str, float, str]:
    used = run_command(folder, [stage, *given])
    made = folder / "runs" / "sub-01" / stage
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file()) / 1e9
    load = os.getloadavg()[2]
    note = (
        f"{used.processor:.0f} s of processor, {used.memory:.2f} GB, {size:.2f} GB on disk, "
        f"load {load:.0f}"
    )
    print(f"| {stage}, s | {used.seconds:.0f} | {note} |", file=sys.stderr, flush=True)
    return f"{stage}, s", used.seconds, note
