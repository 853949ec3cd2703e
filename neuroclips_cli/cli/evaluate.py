"""``neuroclips evaluate``: the metrics of a run, or of any two sets of clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuroclips_cli.cli.options import SettingKey, command, setting
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.load import Settings


@command("evaluate")
def evaluate(
    settings: Settings,
    run: Annotated[
        str,
        typer.Option("--run", help="Which reconstruction, e.g. reconstruct-without-blurry."),
    ] = "reconstruct",
    pred: Annotated[
        Path | None, typer.Option("--pred", help="Any clips: a folder or a .npy file.")
    ] = None,
    gt: Annotated[
        Path | None, typer.Option("--gt", help="Ground truth, with matching names.")
    ] = None,
    panels: Annotated[
        str | None,
        typer.Option(
            "--panels",
            help='Clips of --pred show both side by side: "gt|pred" or "pred|gt".',
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the result of --pred and --gt.")
    ] = None,
    protocol: Annotated[
        str | None,
        setting(
            "--protocol",
            help="standard (default), neuroclips, mindvideo, mind-animator or neurons.",
        ),
        SettingKey("evaluate.protocol"),
    ] = None,
    monte_carlo: Annotated[
        int | None,
        setting("--monte-carlo", help="N-way also from this many random draws per frame."),
        SettingKey("evaluate.monte_carlo"),
    ] = None,
    extra_metrics: Annotated[
        str | None,
        setting(
            "--extra-metrics",
            help="Further metrics: epe (needs OpenCV), lpips (needs weights).",
        ),
        SettingKey("evaluate.extra_metrics"),
    ] = None,
    overwrite: bool = False,
) -> None:
    if panels is not None:
        if pred is None or gt is not None:
            raise UserError("--panels goes with --pred alone: its clips hold both sides")
        gt = pred
    if pred is None and gt is None:
        if out is not None:
            raise UserError("--out goes with --pred and --gt; a run's result is in its folder")
        from neuroclips_cli.stages._launch import run_stage

        run_stage(settings, "evaluate", run=run, overwrite=overwrite)
    elif pred is None or gt is None:
        raise UserError("--pred and --gt go together; give both")
    else:
        from neuroclips_cli.stages import evaluate as stage

        target = out or Path("evaluation")
        stage.run_pair(settings, pred, gt, target, panels=panels, overwrite=overwrite)
