"""``neuroclips simulate``: a data set with known ground truth, in any layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuroclips_cli.cli.options import SettingKey, command, setting
from neuroclips_cli.settings.load import Settings

Whole = int | None
Number = float | None


@command("simulate")
def simulate(
    settings: Settings,
    folder: Annotated[Path, typer.Argument(help="The data set to write.", metavar="DIR")],
    stimuli: Annotated[
        Path | None, typer.Option("--stimuli", help="Take the videos in this folder.")
    ] = None,
    layout: Annotated[
        str | None,
        setting("--layout", help="Whose folders and names: cc2017, fmriprep, hcp7t ..."),
        SettingKey("simulate.layout"),
    ] = None,
    tr: Annotated[
        Number,
        setting("--tr", help="Seconds between volumes; default: the layout's own."),
        SettingKey("simulate.tr_s"),
    ] = None,
    files: Annotated[
        str | None,
        setting("--files", help="Of fMRIPrep's layouts: cifti, gifti (pairs) or volume."),
        SettingKey("simulate.files"),
    ] = None,
    subjects: Annotated[
        Whole, setting("--subjects", help="Subjects."), SettingKey("simulate.subjects")
    ] = None,
    segments: Annotated[
        Whole,
        setting("--segments", help="Training films."),
        SettingKey("simulate.train_segments"),
    ] = None,
    test_segments: Annotated[
        Whole,
        setting("--test-segments", help="Test films."),
        SettingKey("simulate.test_segments"),
    ] = None,
    clips: Annotated[
        Whole,
        setting("--clips-per-segment", help="2 s clips of a training film."),
        SettingKey("simulate.clips_per_segment"),
    ] = None,
    test_clips: Annotated[
        Whole,
        setting("--test-clips-per-segment", help="2 s clips of a test film."),
        SettingKey("simulate.test_clips_per_segment"),
    ] = None,
    repetitions: Annotated[
        Whole,
        setting("--repetitions", help="Runs of each training film."),
        SettingKey("simulate.train_repetitions"),
    ] = None,
    test_repetitions: Annotated[
        Whole,
        setting("--test-repetitions", help="Runs of each test film."),
        SettingKey("simulate.test_repetitions"),
    ] = None,
    grayordinates: Annotated[
        str | None,
        setting("--grayordinates", help="small, or 91k for HCP's 91282."),
        SettingKey("simulate.grayordinates"),
    ] = None,
    reliability: Annotated[
        Number,
        setting("--reliability", help="Median correlation of two runs, responding vertices."),
        SettingKey("simulate.reliability"),
    ] = None,
    noise: Annotated[
        Number,
        setting("--noise", help="Factor on the noise."),
        SettingKey("simulate.noise_scale"),
    ] = None,
    signal: Annotated[
        Number,
        setting("--signal", help="Factor on the response; 0: no response."),
        SettingKey("simulate.signal_scale"),
    ] = None,
    shared: Annotated[
        Number,
        setting("--shared-topography", help="Share of vertices that all subjects have in common."),
        SettingKey("simulate.shared_topography"),
    ] = None,
    seen_by_all: Annotated[
        Number,
        setting("--seen-by-all", help="Share of training films that every subject sees."),
        SettingKey("simulate.seen_by_all"),
    ] = None,
    seen_by_some: Annotated[
        Number,
        setting("--seen-by-some", help="Share that half of the subjects see; the rest: one each."),
        SettingKey("simulate.seen_by_some"),
    ] = None,
    overwrite: bool = False,
) -> None:
    from neuroclips_cli.stages import simulate as stage

    stage.run(settings, folder, stimuli=stimuli, overwrite=overwrite)
