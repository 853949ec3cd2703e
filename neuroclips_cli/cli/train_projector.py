"""``neuroclips train-projector``: Reftm's projector on captioned images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuroclips_cli.cli.options import SettingKey, command, setting
from neuroclips_cli.settings.load import Settings


@command("train-projector")
def train_projector(
    settings: Settings,
    images: Annotated[
        Path, typer.Argument(help="Images and captions in COCO's layout.", metavar="DIR")
    ],
    epochs: Annotated[
        int | None, setting("--epochs", help="Epochs."), SettingKey("train_projector.epochs")
    ] = None,
    batch_size: Annotated[
        int | None,
        setting("--batch-size", help="Images in one step."),
        SettingKey("train_projector.batch_size"),
    ] = None,
    learning_rate: Annotated[
        float | None,
        setting("--learning-rate", help="Peak of OneCycle."),
        SettingKey("train_projector.learning_rate"),
    ] = None,
    overwrite: bool = False,
) -> None:
    from neuroclips_cli.stages._launch import run_stage

    run_stage(settings, "train-projector", folder=images, overwrite=overwrite)
