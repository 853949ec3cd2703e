"""Run a stage, unless what it made is still up to date: then its recipe is not even imported."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from neuroclips_cli.runs.pipeline import BY_NAME
from neuroclips_cli.runs.stage import is_up_to_date, stage_folder
from neuroclips_cli.runtime import distributed
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.stages._metric_table import show_run
from neuroclips_cli.stages._requests import REQUESTS


def run_stage(settings: Settings, name: str, *, overwrite: bool = False, **options: Any) -> Any:
    """Do what a command of the pipeline does.

    Parameters
    ----------
    settings : Settings
        The settings in force.
    name : str
        A stage of the table.
    overwrite : bool
        Start afresh even if the result is there.
    **options
        What the recipe's ``run`` takes.

    Returns
    -------
    object
        What the recipe returns, as a rule the stage's folder.

    Raises
    ------
    UserError
        As the recipe does.
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
