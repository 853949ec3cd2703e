"""``neuroclips init``: write a commented neuroclips.toml."""

from __future__ import annotations

import typer

from neuroclips_cli.cli.options import command
from neuroclips_cli.settings.load import Settings


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @command(app, "init")
    def init(settings: Settings, overwrite: bool) -> None:
        from neuroclips_cli.stages import init as stage

        stage.run(settings, overwrite=overwrite)
