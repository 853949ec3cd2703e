"""The long campaign: kills, full disks and races over all stages; prints the table for the docs.

``python tests/faults/campaign.py FOLDER [--stages S ...] [--kills 66] [--full 22] [--races 22]
[--stops 22] [--seed 0]``

Every try begins with a run folder in which the earlier stages are done, disturbs one stage at a
random moment, starts the same command again, and compares every artifact bit for bit with those of
an undisturbed run. Full disks need the right to mount a small tmpfs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import harness
from harness import STAGES, stage_words


def kill(root: Path, stage: str, seconds: float, draw: random.Random) -> dict[str, object]:
    """Kill one stage once or twice, go on, compare."""
    folder = harness.begin(root / "calm", root / "try", stage)
    times = draw.choice((1, 1, 2))
    killed = 0
    for _ in range(times):
        outcome = harness.kill_after(stage_words(stage), folder, draw.uniform(0.0, seconds))
        killed += outcome.code == -9
    last = harness.command(stage_words(stage), folder)
    wrong = harness.differing(root / "calm", folder, stage)
    return {"kills": killed, "code": last.code, "differ": wrong, "said": last.said[-500:]}


def fill(root: Path, stage: str, seconds: float, draw: random.Random) -> dict[str, object]:
    """Take a stage's disk away, before it starts or in the middle; make room, go on, compare."""
    disk = root / "disk"
    disk.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", disk], check=True)
    try:
        folder = harness.begin(root / "calm", disk / "try", stage, link=False)
        middle = draw.random() < 0.75
        child, began = 0, time.monotonic()
        if middle:
            child = harness.start(stage_words(stage), folder)
            time.sleep(draw.uniform(0.05, 0.8) * seconds)
        _take(disk, int(draw.uniform(0, 3e5)))
        first = (
            harness.finish(child, folder, began)
            if middle
            else harness.command(stage_words(stage), folder)
        )
        (disk / "filler").unlink()
        last = harness.command(stage_words(stage), folder)
        wrong = harness.differing(root / "calm", folder, stage)
    finally:
        subprocess.run(["umount", disk], check=True)
    one_sentence = first.code == 0 or (
        first.code == 2 and "Traceback" not in first.said and "no space" in first.said
    )
    return {
        "refused": first.code == 2,
        "first": first.code,
        "sentence": one_sentence,
        "code": last.code,
        "differ": wrong,
        "said": first.said[-700:],
    }


def _take(disk: Path, left: int) -> None:
    """Fill a disk up to some bytes; a stage may be writing there meanwhile."""
    while True:
        room = os.statvfs(disk)
        try:
            with open(disk / "filler", "wb") as stream:
                os.posix_fallocate(stream.fileno(), 0, max(room.f_bavail * room.f_frsize - left, 1))
            return
        except OSError:
            continue


def race(root: Path, stage: str, seconds: float, draw: random.Random) -> dict[str, object]:
    """Start a stage three times at once, with readers beside; compare what one of them made."""
    folder = harness.begin(root / "calm", root / "try", stage)
    began = time.monotonic()
    writers = []
    for _ in range(3):
        writers.append(harness.start(stage_words(stage), folder))
        time.sleep(draw.uniform(0, 0.02))
    readers = [harness.start(["status"], folder) for _ in range(2)]
    seen = [harness.finish(child, folder, began) for child in readers]
    ended = [harness.finish(child, folder, began) for child in writers]
    wrong = harness.differing(root / "calm", folder, stage)
    named = all("process" in o.said and "since" in o.said for o in ended if o.code == 2)
    return {
        "made": sum(o.code == 0 for o in ended),
        "refused": sum(o.code == 2 for o in ended),
        "named": named,
        "readers": [o.code for o in seen],
        "code": 0 if all(o.code in (0, 2) for o in ended) else 1,
        "differ": wrong,
        "said": "\n".join(o.said[-300:] for o in ended),
    }


def stop(root: Path, stage: str, seconds: float, draw: random.Random) -> dict[str, object]:
    """Send SIGTERM, SIGINT or SIGUSR1; the command must end soon, and say how to continue."""
    folder = harness.begin(root / "calm", root / "try", stage)
    number = draw.choice((15, 2, 10))
    moment = draw.uniform(0.1, seconds)
    outcome = harness.kill_after(stage_words(stage), folder, moment, number)
    last = harness.command(stage_words(stage), folder)
    wrong = harness.differing(root / "calm", folder, stage)
    stopped = outcome.code == 128 + number
    return {
        "stopped": stopped,
        "sentence": outcome.code in (0, 128 + number)
        and (not stopped or "to continue" in outcome.said),
        "took": round(outcome.seconds - moment, 2) if stopped else 0.0,
        "code": last.code,
        "differ": wrong,
        "said": outcome.said[-500:],
    }


FAULTS = {"kills": kill, "full": fill, "races": race, "stops": stop}


def main() -> int:
    """Run the campaign; exit with 1 if anything differed or failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    for name, default in (("kills", 66), ("full", 22), ("races", 22), ("stops", 22), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    root = options.folder.resolve()
    harness.warm_up()
    took_file = root / "took.json"
    if not took_file.exists():
        root.mkdir(parents=True, exist_ok=True)
        took_file.write_text(json.dumps(harness.prepare(root)))
    took = json.loads(took_file.read_text())
    print("undisturbed:", took, flush=True)
    draw = random.Random(options.seed)
    bad = 0
    table: dict[str, Counter[str]] = {}
    for fault, strike in FAULTS.items():
        for number in range(getattr(options, fault)):
            stage = options.stages[number % len(options.stages)]
            result = strike(root, stage, took[stage], draw)
            wrong = (
                bool(result["differ"])
                or result["code"] != 0
                or result.get("sentence") is False
                or result.get("named") is False
                or any(result.get("readers", []))  # type: ignore[call-overload]
            )
            bad += wrong
            row = table.setdefault(f"{fault} {stage}", Counter())
            row["tries"] += 1
            row["wrong"] += wrong
            for key in ("kills", "refused", "made", "stopped"):
                row[key] += int(result.get(key, 0))  # type: ignore[call-overload]
            shown = result if wrong else {k: v for k, v in result.items() if k != "said"}
            print(fault, number, stage, json.dumps(shown), flush=True)
    for name, row in table.items():
        print(name, dict(row))
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
