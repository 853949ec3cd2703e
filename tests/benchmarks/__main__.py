"""Run benchmarks: ``python -m tests.benchmarks [signal_part ...] [--folder DIR]``, or ``gpu``."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
from pathlib import Path

SUBJECTS = (
    *(
        "startup",
        "roofline",
        "signal_part",
        "signal_steps",
        "preprocess_memory",
        "video",
        "metrics",
        "train",
        "adaptation",
        "pool",
        "growth",
    ),
    "layouts",
    "full_subject",
)
"""Modules beside this one; each has ``main(folder) -> [(what, number, ratio)]``."""

if sys.argv[1:2] == ["gpu"]:
    from tests.benchmarks.gpu.command import main

    main(sys.argv[2:])
    raise SystemExit

parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
parser.add_argument("subjects", nargs="*", default=list(SUBJECTS))
parser.add_argument("--folder", type=Path, default=Path("benchmarks-data"))
options = parser.parse_args()
print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores")
for subject in options.subjects:
    module = importlib.import_module(f"tests.benchmarks.{subject}")
    print("\n| what | measured | ratio |\n|---|---|---|")
    for what, number, ratio in module.main(options.folder):
        print(f"| {what} | {number:.2f} | {ratio} |")
