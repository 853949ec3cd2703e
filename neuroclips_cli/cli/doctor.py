"""``neuroclips doctor``: check the machine and the data, and say what to do."""

from __future__ import annotations

import typer

from neuroclips_cli.cli.options import command
from neuroclips_cli.config import Settings


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @command(app, "doctor", stage="preprocess")
    def doctor(settings: Settings) -> None:
        from neuroclips_cli.stages import doctor as stage

        raise typer.Exit(stage.run(settings))
