"""``neuroclips train-pr``: the Perception Reconstructor."""

from __future__ import annotations

from typing import Annotated

from neuroclips_cli.cli.options import FromCheckpoint, SettingKey, Subjects, command, setting
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
    from_checkpoint: FromCheckpoint = None,
    subjects: Subjects = None,
    learning_rate: Annotated[
        float | None,
        setting("--learning-rate", help="Peak of OneCycle."),
        SettingKey("train_pr.learning_rate"),
    ] = None,
    overwrite: bool = False,
) -> None:
    from neuroclips_cli.stages._launch import run_stage

    run_stage(settings, "train-pr", checkpoint=from_checkpoint, overwrite=overwrite)
