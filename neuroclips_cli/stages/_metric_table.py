"""The table of metrics that ``evaluate`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuroclips_cli import console
from neuroclips_cli.reporting import tables
from neuroclips_cli.runs.stage import read_json


def show(result: Mapping[str, Any], title: str) -> None:
    """Print the metric table and what must be known to read it."""
    console.table(f"{title} ({tables.measured_how(result)})", *tables.text_table(result))
    for note in tables.notes(result):
        console.info(note)


def show_run(folder: Path, run: str) -> None:
    """Print the metrics of a run from the folder of its evaluation."""
    show(read_json(folder / "metrics.json"), f"{folder.parent.name}: {run}")
