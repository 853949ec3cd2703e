"""``neuroclips adapt``: a new subject's decoder from one of other subjects."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from neuroclips_cli.cli.options import command
from neuroclips_cli.settings.load import Settings


class Part(str, Enum):
    """The two reconstructors of a decoder."""

    perception = "train-pr"
    semantics = "train-sr"


@command("adapt")
def adapt(
    settings: Settings,
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            help="Decoder to start from: a folder such as pool-01-02-03, or a checkpoint such "
            "as last.pth.",
            show_default=False,
        ),
    ] = "",
    minutes: Annotated[
        float,
        typer.Option(
            "--minutes", min=0, help="The first minutes of the training films; 0 for all."
        ),
    ] = 0.0,
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            help="What is trained: ridge (the first layers), embedder (the residual blocks, too), "
            "full, scratch (everything, without a decoder to begin from); closed-form solves "
            "the first layer from films that the decoder's subjects saw, too.",
        ),
    ] = "full",
    only: Annotated[
        Part | None, typer.Option("--only", help="Only this reconstructor.", show_default=False)
    ] = None,
    overwrite: bool = False,
) -> None:
    from neuroclips_cli.stages import adapt as stage

    stage.run(
        settings,
        parent=from_,
        minutes=minutes,
        mode=mode,
        only=only.value if only else "",
        overwrite=overwrite,
    )
