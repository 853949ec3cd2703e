"""``neuroclips status``: what each subject's run folder holds."""

from __future__ import annotations

from typing import Annotated

import typer

from neuroclips_cli.cli.options import command
from neuroclips_cli.settings.load import Settings


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @command(app, "status")
    def status(
        settings: Settings,
        verify: Annotated[
            bool, typer.Option("--verify", help="Hash every output again and compare.")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        from neuroclips_cli.stages import status as stage

        stage.run(settings, verify=verify, as_json=as_json)
