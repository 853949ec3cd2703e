"""adapt: a decoder of other subjects fitted to a new one, from some minutes of its films."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from neuroclips_cli import console
from neuroclips_cli.errors import UserError
from neuroclips_cli.runs import manifest
from neuroclips_cli.runs.inherit import take_over
from neuroclips_cli.runs.locations import decoder_name, subject_label
from neuroclips_cli.runs.stage import require_stage
from neuroclips_cli.settings.load import Settings, replace_settings
from neuroclips_cli.settings.parse import nearest
from neuroclips_cli.stages import _closed_form, train_pr, train_sr
from neuroclips_cli.stages._adaptation import (
    GRADIENT_MODES,
    SCRATCH,
    SHARED_SETTINGS,
    Adaptation,
    parent_folder,
    require_parent,
    scans_of,
)
from neuroclips_cli.stages._training_scans import refuse_shown_tests

NAME = "adapt"
STAGES = tuple(SHARED_SETTINGS)
Fit = Callable[[Settings, str, Adaptation, bool], Path]
"""Settings, ``train-pr`` or ``train-sr``, the adaptation, whether to overwrite -> the folder."""


def by_gradient(settings: Settings, stage: str, adaptation: Adaptation, overwrite: bool) -> Path:
    """Train what the mode trains, as the stage does with the subject's own decoder."""
    recipe = train_pr.run if stage == "train-pr" else train_sr.run
    return recipe(settings, adaptation=adaptation, overwrite=overwrite)


MODES: dict[str, Fit] = {
    **dict.fromkeys(GRADIENT_MODES, by_gradient),
    _closed_form.MODE: _closed_form.fit,
}
"""What fits a decoder in each mode."""


def run(
    settings: Settings,
    *,
    parent: str = "",
    minutes: float = 0.0,
    mode: str = "full",
    only: str = "",
    overwrite: bool = False,
) -> Path:
    """Fit a decoder to the subject.

    Parameters
    ----------
    settings : Settings
        ``run.subject`` is the new one; what the parent was trained with is taken over.
    parent : str
        A decoder's folder, or a published checkpoint; see :func:`parent_folder`.
    minutes : float
        Of the subject's training films, from the first on; 0 for all.
    mode : str
        One of :data:`MODES`.
    only : str
        ``train-pr`` or ``train-sr``; both by default, of a checkpoint file the one it holds.
    overwrite : bool
        Fit again even if the result is there.

    Returns
    -------
    Path
        The decoder's folder.

    Raises
    ------
    UserError
        If mode or parent are unknown, the parent was trained on the subject or on its test films,
        or there are fewer minutes.
    """
    if mode not in MODES:
        raise UserError(
            f"--mode {mode!r} is unknown{nearest(mode, MODES)}: write one of {', '.join(MODES)}"
        )
    if (mode == SCRATCH) == bool(parent):
        raise UserError(
            "--mode scratch begins with random weights: leave --from out"
            if parent
            else f"--mode {mode} needs a decoder to begin from: name it with --from"
        )
    # Settings of a pool are for its training; here one subject's decoder is made.
    settings = replace_settings(settings, {"run.subjects": ()})
    folder = parent_folder(settings, parent) if parent else None
    adaptation = Adaptation(mode, minutes, folder)
    decoder = decoder_name(settings) or adaptation.decoder(settings.run.subject)
    settings = replace_settings(settings, {"run.decoder": decoder})
    preprocess = require_stage(settings, "preprocess", NAME)
    stages = [only] if only else _stages_of(folder)
    for stage in stages:
        settings = _with_parents_settings(settings, stage, adaptation)
    for stage in stages:
        _require(settings, stage, adaptation, preprocess)
    for stage in stages:
        made = MODES[mode](settings, stage, adaptation, overwrite)
    label = subject_label(settings.run.subject)
    console.info(
        f"{label} is decoded with `neuroclips reconstruct --subject {settings.run.subject} "
        f"--decoder {decoder}`"
    )
    return made.parent


def _stages_of(folder: Path | None) -> list[str]:
    """Return what a parent can give: both, those in its folder, or a semantic checkpoint's one."""
    if folder is None:
        return list(STAGES)
    if folder.is_file():
        console.info(
            f"{folder.name} initializes train-sr; --only train-pr takes a perceptual checkpoint"
        )
        return ["train-sr"]
    return [stage for stage in STAGES if (folder / stage / manifest.NAME).is_file()]


def _with_parents_settings(settings: Settings, stage: str, adaptation: Adaptation) -> Settings:
    """Take over what the parent was trained with, where the user did not choose it."""
    path = adaptation.parent_of(stage)
    record = manifest.read(path) if path is not None and path.is_dir() else None
    return settings if record is None else take_over(settings, stage, record)


def _require(settings: Settings, stage: str, adaptation: Adaptation, preprocess: Path) -> None:
    """Refuse a parent that cannot be one, before anything is loaded."""
    path = adaptation.parent_of(stage)
    if path is None or path.is_file():
        return
    card = require_parent(settings, stage, path)
    refuse_shown_tests(scans_of(path, card), {settings.run.subject: preprocess})
