"""``neuroclips doctor``: check the machine and the data, and say what to do."""

from __future__ import annotations

from typing import Annotated

import typer

from neuroclips_cli.cli.options import command
from neuroclips_cli.settings.load import Settings


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @command(app, "doctor", like="preprocess")
    def doctor(
        settings: Settings,
        dry_run: Annotated[
            bool | None,
            typer.Option(
                "--dry-run/--no-dry-run",
                help="Push shapes through all networks at true size; default: not for tiny.",
                show_default=False,
            ),
        ] = None,
    ) -> None:
        """Check machine, data set, model files, and that every stage connects and fits."""
        from neuroclips_cli.stages import doctor as stage

        raise typer.Exit(stage.run(settings, dry_run=dry_run))
