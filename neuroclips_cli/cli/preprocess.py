"""``neuroclips preprocess``: voxel selection, hemodynamic shift, clips and frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuroclips_cli.cli.options import Key, command, setting
from neuroclips_cli.settings.load import Settings


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @command(app, "preprocess")
    def preprocess(
        settings: Settings,
        mask: Annotated[
            str | None,
            setting(
                "--mask", help="CIFTI, GIFTI (LEFT,RIGHT) or volume that limits the selection."
            ),
            Key("data.mask"),
        ] = None,
        regions: Annotated[
            str | None,
            setting("--regions", help="Labels kept of the mask, separated by commas."),
            Key("data.regions"),
        ] = None,
        delay: Annotated[
            float | None,
            setting("--delay", help="Hemodynamic delay in seconds."),
            Key("data.delay_s"),
        ] = None,
        from_release: Annotated[
            Path | None,
            typer.Option("--from-release", help="Folder of the authors' tensors instead of runs."),
        ] = None,
        overwrite: bool = False,
    ) -> None:
        if from_release is not None:
            from neuroclips_cli.stages import preprocess_released as released

            released.run(settings, from_release, overwrite=overwrite)
            return
        from neuroclips_cli.stages import preprocess as stage

        stage.run(settings, overwrite=overwrite)
