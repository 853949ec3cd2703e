"""``neuroclips interpret``: voxel weights as CIFTI maps, per region, and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuroclips_cli.cli.options import command
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.load import Settings


@command("interpret")
def interpret(
    settings: Settings,
    labels: Annotated[
        str,
        typer.Option(
            "--labels",
            help="Regions: CIFTI or GIFTI labels (LEFT,RIGHT), or a volume; default data.mask.",
        ),
    ] = "",
    surface_left: Annotated[
        Path | None, typer.Option("--surface-left", help="Flat surface, .surf.gii.")
    ] = None,
    surface_right: Annotated[
        Path | None, typer.Option("--surface-right", help="Flat surface, .surf.gii.")
    ] = None,
    lower: Annotated[
        str, typer.Option("--lower", help="Regions, such as V1,V2; default V1 to V4.")
    ] = "",
    higher: Annotated[
        str, typer.Option("--higher", help="Regions; default the other visual areas of HCP's.")
    ] = "",
    overwrite: bool = False,
) -> None:
    from neuroclips_cli.stages import interpret as stage

    surfaces = None
    if surface_left is not None and surface_right is not None:
        surfaces = (surface_left, surface_right)
    elif surface_left is not None or surface_right is not None:
        raise UserError("--surface-left and --surface-right go together; give both")
    names = [tuple(n.strip() for n in text.split(",") if n.strip()) for text in (lower, higher)]
    choices = stage.Choices(labels, surfaces, *names)
    stage.run(settings, choices, overwrite=overwrite)
