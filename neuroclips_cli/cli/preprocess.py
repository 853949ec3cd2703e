"""``neuroclips preprocess``: voxel selection, hemodynamic shift, clips and frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuroclips_cli.cli.options import SettingKey, command, setting
from neuroclips_cli.settings.load import Settings


@command("preprocess")
def preprocess(
    settings: Settings,
    mask: Annotated[
        str | None,
        setting("--mask", help="CIFTI, GIFTI (LEFT,RIGHT) or volume that limits the selection."),
        SettingKey("data.mask"),
    ] = None,
    regions: Annotated[
        str | None,
        setting("--regions", help="Labels kept of the mask, separated by commas."),
        SettingKey("data.regions"),
    ] = None,
    parcels: Annotated[
        str | None,
        setting("--parcels", help="Label file: means over its parcels instead of voxels."),
        SettingKey("data.parcels"),
    ] = None,
    common: Annotated[
        str | None,
        setting("--common", help="Take the voxels that these subjects have in common: 1,2,3."),
        SettingKey("data.common"),
    ] = None,
    delay: Annotated[
        float | None,
        setting("--delay", help="Hemodynamic delay in seconds."),
        SettingKey("data.delay_s"),
    ] = None,
    layout: Annotated[
        str | None,
        setting("--layout", help="Layout of the data set; recognized by its names if absent."),
        SettingKey("data.layout"),
    ] = None,
    runs: Annotated[
        str | None,
        setting("--runs", help="Run table (runs.tsv) instead of what the data set holds."),
        SettingKey("data.runs"),
    ] = None,
    raw: Annotated[
        str | None,
        setting("--raw", help="Raw BIDS tree with the events, where it lies elsewhere."),
        SettingKey("data.raw"),
    ] = None,
    films: Annotated[
        str | None,
        setting("--films", help="Folder of the films, where they lie elsewhere."),
        SettingKey("data.films"),
    ] = None,
    tr: Annotated[
        float | None,
        setting("--tr", help="Time between volumes in seconds, where no file states it."),
        SettingKey("data.tr_s"),
    ] = None,
    window: Annotated[
        int | None,
        setting("--window", help="Volumes per clip, centered on the delayed onset."),
        SettingKey("data.window"),
    ] = None,
    confounds: Annotated[
        str | None,
        setting("--confounds", help="Strategy by which confounds are regressed out."),
        SettingKey("data.confounds"),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the run table and what would be read and written."),
    ] = False,
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

    if dry_run:
        stage.dry_run(settings)
        return
    stage.run(settings, overwrite=overwrite)
