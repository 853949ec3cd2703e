"""Compare every recorded array of the original code with ours and print the table.

Reads the records from the folder named by ``NEUROCLIPS_FIXTURES`` (default ../shared/fixtures)::

    python examples/parity_table.py                         # print
    python examples/parity_table.py --write docs/results/parity.md  # replace the page's table

Takes about a minute on one core.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from parity import generation, losses, perception, prior, semantics, signal, unclip, video
from parity.records import Compared, Comparison

BEGIN, END = "<!-- table -->", "<!-- end of table -->"


def comparisons() -> Iterator[Comparison]:
    """Run every comparison."""
    for name in semantics.NAMES:
        yield semantics.compare(name)
    for name in prior.NAMES:
        yield prior.compare(name)
        yield prior.compare_schedule(name)
    for name in perception.NAMES:
        yield perception.compare(name)
    yield losses.compare()
    yield losses.compare_scalars()
    yield generation.compare_alpha()
    yield generation.compare_coefficients()
    yield unclip.compare()
    yield generation.compare_schedule()
    yield generation.compare_sampling("euler_analytic")
    yield generation.compare_sampling("euler_unet")
    yield generation.compare_postprocess()
    yield video.compare_unet()
    yield video.compare_control()
    yield video.compare_loop()
    yield signal.compare()


def table(rows: list[Compared]) -> str:
    """Return the rows as Markdown."""
    lines = ["| record | array | largest difference | tolerance | |", "|---|---|---|---|---|"]
    for row in rows:
        verdict = "ok" if row.holds else "**beyond**"
        numbers = f"{row.difference:.1e} | {row.tolerance:.1e}"
        lines.append(f"| {row.fixture} | `{row.array}` | {numbers} | {verdict} |")
    beyond = sum(not row.holds for row in rows)
    return "\n".join(lines) + f"\n\n{len(rows)} arrays, {beyond} beyond their tolerance.\n"


def main() -> None:
    """Print the table, or put it between the marks of a document."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--write", type=Path, help="document with the table between its marks")
    path = options.parse_args().write
    rows = [row for comparison in comparisons() for row in comparison.rows]
    made = table(rows)
    if path is None:
        print(made)
    else:
        text = path.read_text("utf-8")
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        path.write_text(f"{before}{BEGIN}\n\n{made}\n{END}{after}", "utf-8")
    sys.exit(any(not row.holds for row in rows))


if __name__ == "__main__":
    main()
