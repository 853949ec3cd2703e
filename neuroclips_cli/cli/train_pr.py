"""``neuroclips train-pr``: the Perception Reconstructor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuroclips_cli.cli.options import SettingKey, command, setting
from neuroclips_cli.settings.load import Settings


@command("train-pr")
def train_pr(
    settings: Settings,
    epochs: Annotated[
        int | None,
        setting("--epochs", help="Passes over the training clips."),
        SettingKey("train_pr.epochs"),
    ] = None,
    batch_size: Annotated[
        int | None,
        setting("--batch-size", help="Clips in one step."),
        SettingKey("train_pr.batch_size"),
    ] = None,
    from_checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Begin from published weights (last.pth); give it again to go on.",
        ),
    ] = None,
    subjects: Annotated[
        str | None,
        setting("--subjects", help="Train one decoder on these subjects, such as 1,2,3."),
        SettingKey("run.subjects"),
    ] = None,
    learning_rate: Annotated[
        float | None,
        setting("--learning-rate", help="Peak of OneCycle."),
        SettingKey("train_pr.learning_rate"),
    ] = None,
    overwrite: bool = False,
) -> None:
    from neuroclips_cli.stages._launch import run_stage

    run_stage(settings, "train-pr", checkpoint=from_checkpoint, overwrite=overwrite)
