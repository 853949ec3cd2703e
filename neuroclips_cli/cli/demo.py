"""``neuroclips demo``: the whole way on the synthetic dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuroclips_cli.cli.options import command
from neuroclips_cli.settings.load import Settings


@command("demo")
def demo(
    settings: Settings,
    folder: Annotated[Path, typer.Option("--folder", help="Where data set and results go.")] = Path(
        "neuroclips-demo"
    ),
    overwrite: bool = False,
) -> None:
    from neuroclips_cli.stages import demo as stage

    stage.run(settings, folder, overwrite=overwrite)
