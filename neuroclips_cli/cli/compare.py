"""``neuroclips compare``: several runs in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from neuroclips_cli.cli.options import command
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.load import Settings


@command("compare")
def compare(
    settings: Settings,
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN RUN ...",
            help="Folders of evaluations, or names such as reconstruct-without-keyframe; "
            "the first is what the others are compared with. RUN:shuffled is its control.",
            show_default=False,
        ),
    ] = None,
    subjects: Annotated[
        str | None,
        typer.Option(
            "--subjects",
            help="Rows of these subjects and their mean, as the paper's tables: 1,2,3 or all; "
            "RUN is evaluate by default.",
        ),
    ] = None,
    over: Annotated[
        Literal["minutes"] | None,
        typer.Option(
            "--over",
            help="minutes: accuracy of one subject's decoders against the minutes of its films "
            "that they were trained on; RUN is a decoder's folder then, by default every one.",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--format", help="terminal, markdown, latex or csv."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write, .md, .tex or .csv.")
    ] = None,
    overwrite: bool = False,
) -> None:
    from neuroclips_cli.stages import compare as stage

    if over is not None and subjects is not None:
        raise UserError(
            "--over minutes shows decoders of one subject, --subjects several: name the one with "
            "--subject, or leave --over out"
        )
    if over is not None:
        stage.over_minutes(settings, runs or [], kind=kind, out=out, overwrite=overwrite)
    elif subjects is not None:
        named = runs or ["evaluate"]
        stage.over_subjects(settings, named, subjects, kind=kind, out=out, overwrite=overwrite)
    elif not runs:
        raise UserError(
            "compare needs runs to compare: name them, or give --subjects or --over minutes"
        )
    else:
        stage.run(settings, runs, kind=kind, out=out, overwrite=overwrite)
