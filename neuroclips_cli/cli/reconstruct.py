"""``neuroclips reconstruct``: blurry clips, keyframes, captions, clips."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from neuroclips_cli.cli.options import GeneratedTogether, SettingKey, Steps, command, setting
from neuroclips_cli.settings.load import Settings


class Guidance(str, Enum):
    """What can be left out."""

    keyframe = "keyframe"
    blurry = "blurry"


@command("reconstruct")
def reconstruct(
    settings: Settings,
    without: Annotated[
        Guidance | None, typer.Option("--without", help="Leave one guidance out.")
    ] = None,
    clips: Annotated[
        str | None,
        typer.Option("--clips", help="Test clips, as 0:50 or 3,7,12; all by default."),
    ] = None,
    blur_init: Annotated[
        str | None,
        setting("--blur-init", help="eq5, released or strength:<x>."),
        SettingKey("reconstruct.blur_init"),
    ] = None,
    captioner: Annotated[
        str | None,
        setting("--captioner", help="blip2, or git on the decoded tokens."),
        SettingKey("reconstruct.captioner"),
    ] = None,
    steps: Steps = None,
    batch_size: GeneratedTogether = None,
    fast: Annotated[
        bool | None,
        setting("--fast/--no-fast", help="Half the steps, with another solver."),
        SettingKey("reconstruct.fast"),
    ] = None,
    overwrite: bool = False,
) -> None:
    from neuroclips_cli.stages._launch import run_stage

    left_out = without.value if without else None
    run_stage(settings, "reconstruct", without=left_out, clips=clips, overwrite=overwrite)
