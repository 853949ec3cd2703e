"""Decode the test films from one, two, five and ten averaged repetitions of their scans.

Reads a finished run on a simulated data set (``reconstruct``, on all test clips) and prints a
Markdown table; only the test scans change, the reconstructors are the run's::

    python examples/repetitions_table.py neuroclips-demo/runs/sub-01 [--repetitions 1 2 5 10]

Each row has the mean of a metric over the clips and its 95 % interval; the clips' random numbers
are the same in all rows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from neuroclips_cli import open_run
from neuroclips_cli.signal.reproducibility import mean_over_repetitions

METRICS = ("video_2way", "video_50way", "frame_2way", "frame_50way", "ssim", "psnr")


def row(folder: Path, repetitions: int) -> dict[str, tuple[float, float, float]]:
    """Return mean and bounds of every metric, decoded from the first so many repetitions.

    Parameters
    ----------
    folder : Path
        Folder of the subject's results.
    repetitions : int
        How many to average.
    """
    run = open_run(folder.parent, int(folder.name.removeprefix("sub-")))
    numbers = run.array("reconstruct", "index.npy").tolist()
    scans = run.array("preprocess", "fmri_test_repetitions.npy")[numbers, :repetitions]
    decoded = run.decode(mean_over_repetitions(scans), numbers)
    found = run.evaluate(decoded.clips, numbers)["metrics"]
    return {name: (found[name]["mean"], *found[name]["ci95"]) for name in METRICS}


def main() -> None:
    """Print one line per number of repetitions."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("run", type=Path, help="such as neuroclips-demo/runs/sub-01")
    options.add_argument("--repetitions", type=int, nargs="+", default=[1, 2, 5, 10])
    asked = options.parse_args()
    print(f"| repetitions | {' | '.join(METRICS)} |")
    print("|---" * (1 + len(METRICS)) + "|")
    for count in asked.repetitions:
        cells = [
            f"{mean:.3f} [{low:.3f}, {high:.3f}]"
            for mean, low, high in row(asked.run, count).values()
        ]
        print(f"| {count} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
