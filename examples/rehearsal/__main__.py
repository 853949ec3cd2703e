"""Rehearse the documented full-size commands on miniatures of everything that a user downloads.

    python examples/rehearsal --out DIR [--precision float32 --precision bfloat16]

Writes the miniatures, serves them as the hub does, and runs the commands of
docs/how-to/released-checkpoints.md ("From an empty disk to a full-size report") word for word once
in each precision, on the CPU, with sizes shrunk by ``--set`` alone. Prints what each command took
and the tables; the exit code is 1 if a command failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from fake_hub import FakeHub

HERE = Path(__file__).resolve().parent
PRECISIONS = ("float32", "bfloat16")


def main() -> int:
    """Run the rehearsal; return 1 if a command failed."""
    parser = argparse.ArgumentParser(description="Rehearse the documented full-size commands.")
    parser.add_argument("--out", type=Path, required=True, help="an empty folder for everything")
    parser.add_argument("--precision", action="append", choices=PRECISIONS)
    chosen = parser.parse_args()
    root = chosen.out.resolve()
    start = time.monotonic()
    server = prepare(root)
    print(f"miniatures written in {time.monotonic() - start:.0f} s", flush=True)
    passes = {name: begin(root, name, server.url) for name in chosen.precision or PRECISIONS}
    failed = [name for name, process in passes.items() if process.wait()]
    for name in passes:
        show(root / name)
    server.close()
    print(f"whole rehearsal: {time.monotonic() - start:.0f} s")
    return int(bool(failed))


def prepare(root: Path) -> FakeHub:
    """Write the miniatures and begin to serve them."""
    sys.path.insert(0, str(HERE.parents[1]))  # the package of this very copy
    import torch
    from hub_repositories import read_repositories, save_repositories
    from purr_bundles import save_bundles
    from released_files import save_release

    from neuroclips_cli.backbones.loading import quiet_libraries

    quiet_libraries()
    torch.manual_seed(0)
    save_release(root / "hub" / "datasets" / "gongzx" / "cc2017_dataset")
    save_repositories(root / "hub")
    save_bundles(root / "cc2017")
    server = FakeHub()
    server.repositories = read_repositories(root / "hub")
    return server


def begin(root: Path, precision: str, url: str) -> subprocess.Popen[bytes]:
    """Start the commands in a process of their own, in an empty folder with an empty cache."""
    folder = root / precision
    folder.mkdir()
    (folder / "cc2017").symlink_to(root / "cc2017")
    known = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "NEUROCLIPS_"))}
    environment = known | {
        "HF_ENDPOINT": url,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "160",
        "PYTHONPATH": str(HERE.parents[1]),
    }
    words = [sys.executable, str(HERE / "one_pass.py"), str(folder), precision]
    return subprocess.Popen(words, env=environment)


def show(folder: Path) -> None:
    """Print what a pass did, and what its log ends with where it failed."""
    result = json.loads((folder / "commands.json").read_text())
    for command in result:
        print(f"{folder.name}: {command['seconds']:6.1f} s  {' '.join(command['words'])}")
    if any(command["code"] for command in result):
        print((folder / "log.txt").read_text()[-3000:])
        return
    for table in sorted(folder.glob("*.md")):
        print(f"\n{folder.name}, {table.name}:\n\n{table.read_text()}")


if __name__ == "__main__":
    sys.exit(main())
