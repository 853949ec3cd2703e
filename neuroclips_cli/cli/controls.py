"""``neuroclips controls``: what the metrics say of predictions that decode nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from neuroclips_cli.cli.options import command
from neuroclips_cli.settings.load import Settings


@command("controls")
def controls(
    settings: Settings,
    only: Annotated[
        str,
        typer.Option(
            "--only",
            help="Some controls, as mean-frame,vae; all for all, also those that take as long "
            "as reconstruct (prior-only, film-guided, unclip-true-tokens, mean-fmri, "
            "noise-fmri, repetitions-1, -2, -5); default the quick ones.",
        ),
    ] = "",
    overwrite: bool = False,
) -> None:
    from neuroclips_cli.stages._control_names import NAMES, QUICK
    from neuroclips_cli.stages._launch import run_stage

    names = [name.strip() for name in only.split(",") if name.strip()] or list(QUICK)
    names = list(NAMES) if names == ["all"] else names
    run_stage(settings, "controls", names=names, overwrite=overwrite)
