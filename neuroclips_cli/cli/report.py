"""``neuroclips report``: one self-contained HTML file."""

from __future__ import annotations

import typer

from neuroclips_cli.cli.options import command
from neuroclips_cli.settings.load import Settings


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @command(app, "report")
    def report(settings: Settings, overwrite: bool = False) -> None:
        from neuroclips_cli.stages import report as stage

        stage.run(settings, overwrite=overwrite)
