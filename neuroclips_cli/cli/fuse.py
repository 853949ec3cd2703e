"""``neuroclips fuse``: neighboring clips of one scene become one longer clip."""

from __future__ import annotations

from typing import Annotated

import typer

from neuroclips_cli.cli.options import SettingKey, command, setting
from neuroclips_cli.settings.load import Settings


@command("fuse")
def fuse(
    settings: Settings,
    clips: Annotated[
        str | None, typer.Option("--clips", help="Test clips, as 0:50; all by default.")
    ] = None,
    max_scans: Annotated[
        int | None, setting("--max-scans", help="Longest chain."), SettingKey("fuse.max_scans")
    ] = None,
    overwrite: bool = False,
) -> None:
    from neuroclips_cli.stages._launch import run_stage

    run_stage(settings, "fuse", clips=clips, overwrite=overwrite)
