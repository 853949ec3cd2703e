"""``neuroclips decode``: clips from new scans, whose film need not be known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuroclips_cli.cli.options import FolderKey, GeneratedTogether, Steps, command
from neuroclips_cli.settings.load import Settings


@command("decode")
def decode(
    settings: Settings,
    scans: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Runs of one film, averaged: FILE, LEFT,RIGHT or FILE.h5#KEY; or a .npy."
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="The trained subject's folder, such as runs/sub-01."),
        FolderKey("run.workdir"),
    ] = None,
    start: Annotated[
        float,
        typer.Option("--start", help="When the film began, in s after the scan did."),
    ] = 0.0,
    duration: Annotated[
        float | None,
        typer.Option("--duration", help="Length of the film in s; default: all of the run."),
    ] = None,
    tr: Annotated[
        float | None,
        typer.Option("--tr", help="Time between volumes in s, where headers are wrong."),
    ] = None,
    confounds_file: Annotated[
        list[Path] | None,
        typer.Option(
            "--confounds-file",
            help="Table of confounds, one per run in their order; 'none': taken out already.",
        ),
    ] = None,
    first_clip: Annotated[
        int,
        typer.Option("--first-clip", help="Number of the first clip: its random numbers."),
    ] = 0,
    label: Annotated[
        str, typer.Option("--name", help="Name of the result, kept beside others.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to copy clips and videos to.")
    ] = None,
    follow: Annotated[
        Path | None,
        typer.Option("--follow", help="Decode volumes as they arrive in a folder or file."),
    ] = None,
    volumes: Annotated[
        int | None, typer.Option("--volumes", help="With --follow: stop after this many volumes.")
    ] = None,
    idle: Annotated[
        float,
        typer.Option(
            "--idle", help="With --follow: stop after this many seconds without a seconds."
        ),
    ] = 60.0,
    stop_file: Annotated[
        Path | None,
        typer.Option("--stop-file", help="With --follow: stop when this file appears."),
    ] = None,
    steps: Steps = None,
    batch_size: GeneratedTogether = None,
    overwrite: bool = False,
) -> None:
    from neuroclips_cli.data.new_scans import FilmTiming
    from neuroclips_cli.errors import UserError
    from neuroclips_cli.stages._copied_results import copy_results

    timing = FilmTiming(start, duration, tr)
    if follow is not None:
        if scans:
            raise UserError("give scans or --follow, not both: they are decoded differently")
        from neuroclips_cli.stages import decode as stage
        from neuroclips_cli.stages._follow import FOLLOWED, FollowOptions

        removed = [str(path) for path in confounds_file or ()] == ["none"]
        options = FollowOptions(
            timing, first_clip, volumes, idle, stop_file, confounds_removed=removed
        )
        folder = stage.follow(settings, path=follow, options=options, label=label or FOLLOWED)
    else:
        from neuroclips_cli.stages._launch import run_stage

        folder = run_stage(
            settings,
            "decode",
            scans=tuple(scans or ()),
            timing=timing,
            confounds=tuple(confounds_file or ()),
            first_clip=first_clip,
            label=label,
            overwrite=overwrite,
        )
    if out is not None:
        copy_results(folder, out)
