"""Run a stage, unless what it made is still up to date: then its recipe is not even imported."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from neuroclips_cli import console
from neuroclips_cli.reporting import tables
from neuroclips_cli.runs.pipeline import BY_NAME
from neuroclips_cli.runs.stage import is_up_to_date, read_json, stage_folder
from neuroclips_cli.runtime import distributed
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.stages._requests import REQUESTS


def run_stage(settings: Settings, name: str, *, overwrite: bool = False, **options: Any) -> Any:
    """Do what a command of the pipeline does; return what its recipe's ``run`` returns.

    ``options`` are those that the recipe's ``run`` takes.
    """
    # Several processes have to find the same answer, which open_stage sees to.
    alone = distributed.world_size() == 1
    if name in REQUESTS and alone and not overwrite:
        request = REQUESTS[name](settings, **options)
        if is_up_to_date(settings, request):
            folder = stage_folder(settings, request.name)
            if name == "evaluate":
                show_run(folder, options.get("run", "reconstruct"))
            return folder
    recipe = import_module(f"neuroclips_cli.stages.{BY_NAME[name].module}")
    return recipe.run(settings, **options, overwrite=overwrite)


def show(result: Mapping[str, Any], title: str) -> None:
    """Print the metric table and what must be known to read it."""
    console.table(f"{title} ({tables.measured_how(result)})", *tables.text_table(result))
    for note in tables.notes(result):
        console.info(note)


def show_run(folder: Path, run: str) -> None:
    """Print the metrics of a run from the folder of its evaluation."""
    show(read_json(folder / "metrics.json"), f"{folder.parent.name}: {run}")
