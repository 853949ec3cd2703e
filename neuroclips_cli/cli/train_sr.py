"""``neuroclips train-sr``: the Semantics Reconstructor."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from neuroclips_cli.cli.options import FromCheckpoint, SettingKey, Subjects, command, setting
from neuroclips_cli.settings.load import Settings


class Phase(str, Enum):
    """The two phases of training."""

    contrastive = "contrastive"
    prior = "prior"


@command("train-sr")
def train_sr(
    settings: Settings,
    phase: Annotated[
        Phase | None, typer.Option("--phase", help="Only this phase; otherwise both.")
    ] = None,
    contrastive_epochs: Annotated[
        int | None,
        setting("--contrastive-epochs", help="Epochs of phase 1."),
        SettingKey("train_sr.contrastive_epochs"),
    ] = None,
    prior_epochs: Annotated[
        int | None,
        setting("--prior-epochs", help="Epochs of phase 2."),
        SettingKey("train_sr.prior_epochs"),
    ] = None,
    contrastive_batch_size: Annotated[
        int | None,
        setting("--contrastive-batch-size", help="Clips in one step of phase 1."),
        SettingKey("train_sr.contrastive_batch_size"),
    ] = None,
    prior_batch_size: Annotated[
        int | None,
        setting("--prior-batch-size", help="Clips in one step of phase 2."),
        SettingKey("train_sr.prior_batch_size"),
    ] = None,
    from_checkpoint: FromCheckpoint = None,
    subjects: Subjects = None,
    learning_rate: Annotated[
        float | None,
        setting("--learning-rate", help="Peak of OneCycle."),
        SettingKey("train_sr.learning_rate"),
    ] = None,
    overwrite: bool = False,
) -> None:
    from neuroclips_cli.stages._launch import run_stage

    run_stage(
        settings,
        "train-sr",
        phase=phase.value if phase else None,
        checkpoint=from_checkpoint,
        overwrite=overwrite,
    )
