"""What decides the result of each stage, without importing torch.

A recipe opens its folder with the request made here; the command line asks with the same request
whether there is anything to do before it imports the recipe.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuroclips_cli.backbones.captioners import require_captioner
from neuroclips_cli.backbones.references import resolve, revisions
from neuroclips_cli.backbones.solvers import solver_of
from neuroclips_cli.backbones.token_space import STANDARD, contrast_for
from neuroclips_cli.data.clip_table import parse_clips
from neuroclips_cli.data.new_scans import WHOLE_RUN, FilmTiming
from neuroclips_cli.data.scan_files import files_of, require_cleaned, scan_rows
from neuroclips_cli.errors import UserError
from neuroclips_cli.models.subject_place import recorded_place
from neuroclips_cli.protocols import evaluators
from neuroclips_cli.protocols.evaluation_config import EvaluationConfig, evaluation_config
from neuroclips_cli.runs.locations import decoder_name, pooled_subjects
from neuroclips_cli.runs.stage import (
    StageRequest,
    read_array,
    read_json,
    require_stage,
    require_upstream,
    stage_state,
    workdir_folder,
)
from neuroclips_cli.settings.load import Settings, replace_settings
from neuroclips_cli.stages import _control_names
from neuroclips_cli.stages._adaptation import Adaptation

if TYPE_CHECKING:
    from neuroclips_cli.stages._follow import FollowOptions

FUSED = "fuse"
"""The run whose clips are parts of fused chains (paper 3.4)."""
PHASES = ("contrastive", "prior")
"""Phases of train-sr."""
WITHOUT = ("keyframe", "blurry")
"""Guidances that a reconstruction can leave out."""


def preprocess_folders(settings: Settings, request: StageRequest) -> dict[int, Path]:
    """Return the preprocess folder of every subject that a training is asked for."""
    if "preprocess" in request.inputs:
        return {settings.run.subject: Path(request.inputs["preprocess"])}
    return {
        subject: Path(request.inputs[f"preprocess-{subject:02d}"])
        for subject in sorted(settings.run.subjects)
    }


def _training(
    settings: Settings, stage: str, checkpoint: Path | None, adaptation: Adaptation | None
) -> tuple[dict[str, Path | str], dict[str, Any]]:
    """Return inputs and extras that both trainings share: whose scans, which parent."""
    extra: dict[str, Any] = {"precision": settings.run.precision}
    inputs: dict[str, Path | str]
    subjects = sorted(settings.run.subjects)
    named = pooled_subjects(decoder_name(settings))
    if named and (adaptation is not None or named != subjects):
        raise UserError(
            f"--decoder {decoder_name(settings)} names what subjects {', '.join(map(str, named))} "
            f"share: train it with --subjects {','.join(map(str, named))}, or give another name"
        )
    if adaptation is not None or not subjects:
        inputs = {**require_upstream(settings, stage)}
    else:
        if len(set(subjects)) < 2 or len(set(subjects)) != len(subjects):
            raise UserError(
                f"--subjects {','.join(map(str, subjects))} names one subject, or one twice: write "
                "several, such as 1,2,3, or --subject for one"
            )
        inputs = {
            f"preprocess-{subject:02d}": require_stage(
                replace_settings(settings, {"run.subject": subject}), "preprocess", stage
            )
            for subject in subjects
        }
        extra["subjects"] = subjects
    if adaptation is not None:
        extra |= {"mode": adaptation.mode, "minutes": adaptation.minutes}
        parent = adaptation.parent_of(stage)
        if parent is not None:
            inputs["parent"] = parent
    if checkpoint:
        inputs["checkpoint"] = checkpoint
    return inputs, extra


def train_pr(
    settings: Settings,
    *,
    checkpoint: Path | None = None,
    adaptation: Adaptation | None = None,
) -> StageRequest:
    """Return what decides train-pr."""
    inputs, extra = _training(settings, "train-pr", checkpoint, adaptation)
    inputs |= {
        "vae": resolve(settings.backbones.vae),
    }
    if settings.train_pr.contrast == "convnext" and settings.backbones.convnext:
        inputs["convnext"] = str(Path(settings.backbones.convnext).expanduser())
    return StageRequest("train-pr", inputs, extra)


def train_sr(
    settings: Settings,
    *,
    phase: str | None = None,
    checkpoint: Path | None = None,
    adaptation: Adaptation | None = None,
) -> StageRequest:
    """Return what decides train-sr; the phase only says where to stop."""
    if phase not in (None, *PHASES):
        raise UserError(f"--phase '{phase}' is unknown: write contrastive or prior")
    if checkpoint and settings.train_sr.ridge_closed_form:
        raise UserError(
            "train_sr.ridge_closed_form solves the layers that --from-checkpoint brings: add "
            "--set train_sr.ridge_closed_form=false, or leave the checkpoint out"
        )
    inputs, extra = _training(settings, "train-sr", checkpoint, adaptation)
    inputs["clip"] = resolve(settings.backbones.clip)
    inputs["captioner"] = resolve(settings.backbones.captioner)
    inputs["projector"] = resolve(projector_reference(settings))
    return StageRequest("train-sr", inputs, extra)


def train_projector(settings: Settings, *, folder: Path) -> StageRequest:
    """Return what decides train-projector."""
    inputs: dict[str, Path | str] = {"images": folder, "clip": resolve(settings.backbones.clip)}
    return StageRequest(
        "train-projector",
        inputs,
        {"token_space": settings.semantics.token_space, "precision": settings.run.precision},
    )


def projector_reference(settings: Settings) -> str:
    """Return the projector in force: the user's own, else a trained one, else the profile's.

    Raises
    ------
    UserError
        If the trained one was made for tokens of another space than the settings'.
    """
    if settings.chosen_by_user("backbones.projector"):
        return settings.backbones.projector
    state, _, record = stage_state(settings, "train-projector")
    if state != "done" or record is None:
        return settings.backbones.projector
    space = settings.semantics.token_space
    made_for = record["determined_by"]["extra"].get("token_space", STANDARD)
    folder = workdir_folder(settings) / "train-projector"
    if made_for != space:
        raise UserError(
            f"{folder} was trained on {made_for} tokens, and "
            f"semantics.token_space is '{space}': run `neuroclips train-projector` again, or name "
            "another projector in [backbones]"
        )
    return str(folder)


def reconstruct(
    settings: Settings,
    *,
    without: str | None = None,
    clips: str | None = None,
    variant: str = "",
) -> StageRequest:
    """Return what decides a reconstruction; ``variant`` is the name of a generated control."""
    if without not in (None, *WITHOUT):
        raise UserError(f"--without '{without}' is unknown: write keyframe or blurry.")
    require_captioner(settings)
    solver_of(settings)
    token_space = settings.semantics.token_space
    contrast_for(token_space, settings.reconstruct.keyframe_contrast)
    name = f"reconstruct-without-{without}" if without else "reconstruct"
    if without != "keyframe" and not variant and settings.reconstruct.captioner != "blip2":
        name += f"-captioner-{settings.reconstruct.captioner}"
    if variant:
        name += f"-control-{variant}"
    unread = ("train-pr",) if without == "blurry" else ()
    inputs = require_upstream(settings, "reconstruct", leave_out=unread)
    for trained in ("train-pr", "train-sr"):
        if trained in inputs:
            recorded_place(inputs[trained], settings.run.subject)
    parse_clips(clips, len(read_array(inputs["preprocess"] / "fmri_test.npy")))
    extra = {
        "without": without or "",
        "clips": clips or "",
        "token_space": token_space,
        "revisions": revisions(settings.backbones),
        "precision": settings.run.precision,
    }
    return StageRequest(name, inputs, extra | ({"instead": variant} if variant else {}))


def decode(
    settings: Settings,
    *,
    scans: Sequence[Path],
    timing: FilmTiming = WHOLE_RUN,
    confounds: Sequence[Path] = (),
    first_clip: int = 0,
    label: str = "",
) -> StageRequest:
    """Return what decides the clips of new scans.

    Raises
    ------
    UserError
        If there are no scans, a file is missing, the name is none, or a needed stage is not there.
    """
    _check_label(label)
    if not scans:
        raise UserError("there is nothing to decode: name a run, or a .npy of scans")
    rows = scan_rows(scans, settings.data.confounds, confounds)
    inputs = _decoding_inputs(settings, first_clip)
    for number, row in enumerate(rows, start=1):
        inputs |= files_of(row, number)
    extra = {**asdict(timing), "first_clip": first_clip, **_decoded_with(settings)}
    extra["keys"] = [row.key for row in rows]
    return StageRequest(f"decode-{label}" if label else "decode", inputs, extra)


def follow(settings: Settings, *, path: Path, options: FollowOptions, label: str) -> StageRequest:
    """Return what decides the clips of a run that is being recorded.

    Raises
    ------
    UserError
        If the name or an option is none, or a needed stage is not there.
    """
    _check_label(label)
    if options.idle_s <= 0 or (options.volumes is not None and options.volumes < 1):
        raise UserError("--idle should be above 0, and --volumes at least 1")
    require_cleaned(settings.data.confounds, removed=options.confounds_removed)
    inputs = _decoding_inputs(settings, options.first_clip)
    extra = {
        "follow": str(path),
        **asdict(options.timing),
        "first_clip": options.first_clip,
        "last": options.last,
        **_decoded_with(settings),
    }
    return StageRequest(f"decode-{label}" if label else "decode", inputs, extra)


def training_steps(preprocess: Path, settings: Settings) -> list[float]:
    """Return the times between volumes of the training runs, in s, ascending.

    Where ``preprocess`` did not note them, as of released scans, it is ``data.tr_s``.
    """
    known = read_json(preprocess / "manifest.json")["facts"].get("tr", {}).get("seconds")
    return sorted(known or [settings.data.tr_s])


def training_first_volumes(preprocess: Path) -> list[float]:
    """Return when the first volumes of the training runs were measured, in s after the scans began.

    0 where ``preprocess`` did not note it.
    """
    facts = read_json(preprocess / "manifest.json")["facts"]
    return list(facts.get("first_volume", {}).get("seconds") or [0.0])


def _check_label(label: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*|", label):
        raise UserError(f"--name '{label}' should be letters, digits and hyphens: correct it")


def _decoding_inputs(settings: Settings, first_clip: int) -> dict[str, Path | str]:
    """Return the stages that new scans are decoded with, or say what is missing."""
    if first_clip < 0:
        raise UserError(f"--first-clip {first_clip} should be at least 0")
    require_captioner(settings)
    solver_of(settings)
    contrast_for(settings.semantics.token_space, settings.reconstruct.keyframe_contrast)
    return {**require_upstream(settings, "decode")}


def _decoded_with(settings: Settings) -> dict[str, Any]:
    """Return what decides decoded clips beside scans and setting sections."""
    return {
        "token_space": settings.semantics.token_space,
        "revisions": revisions(settings.backbones),
        "precision": settings.run.precision,
    }


def fuse(settings: Settings, *, clips: str | None = None) -> StageRequest:
    """Return what decides fuse."""
    solver_of(settings)
    inputs = require_upstream(settings, "fuse")
    if not len(rows_to_fuse(inputs["reconstruct"], clips)):
        raise UserError(
            f"--clips '{clips}' names no clip that was reconstructed: run 'neuroclips reconstruct' "
            "for them first."
        )
    classifier = run_config(settings, inputs["preprocess"]).evaluators.image_classifier
    extra = {
        "clips": clips or "",
        "precision": settings.run.precision,
        "image_classifier": classifier,
    }
    return StageRequest("fuse", inputs, extra)


def rows_to_fuse(reconstruction: Path, clips: str | None) -> np.ndarray:
    """Return the rows, int (n,), of the reconstructed clips that ``--clips`` names."""
    index = read_array(reconstruction / "index.npy")
    return np.flatnonzero(np.isin(index, parse_clips(clips, int(index.max()) + 1)))


def evaluate(settings: Settings, *, run: str = "reconstruct") -> StageRequest:
    """Return what decides the evaluation of a run."""
    if run not in ("reconstruct", FUSED) and not run.startswith("reconstruct-"):
        raise UserError(
            f"'{run}' is not a reconstruction: --run takes reconstruct, fuse, "
            "reconstruct-without-<keyframe|blurry> or reconstruct-captioner-git"
        )
    name = f"evaluate-{FUSED}" if run == FUSED else "evaluate" + run.removeprefix("reconstruct")
    reconstruction = require_stage(settings, run, name)
    data = require_upstream(settings, name, leave_out=("reconstruct",))
    config = run_config(settings, data["preprocess"])
    extra = {
        **config.evaluator_names,
        "evaluators_at_hand": list(evaluators.find_evaluators(config).present),
        "protocol": config.protocol.name,
        "precision": settings.run.precision,
    }
    inputs = {run if run == FUSED else "reconstruct": reconstruction, **data}
    return StageRequest(name, inputs, extra)


def run_config(settings: Settings, preprocess: Path) -> EvaluationConfig:
    """Return how a run is evaluated; the synthetic data set has evaluators of its own."""
    facts = read_json(preprocess / "manifest.json")["facts"]
    synthetic = bool(facts.get("synthetic"))
    return evaluation_config(settings, synthetic=synthetic, scans=True)


def control(settings: Settings, *, name: str) -> StageRequest:
    """Return what decides the clips of a control."""
    folders = require_upstream(settings, "controls")
    if name in _control_names.GENERATED:
        record = read_json(folders["reconstruct"] / "manifest.json")
        clips = record["determined_by"]["extra"].get("clips") or None
        return reconstruct(settings, clips=clips, variant=name)
    extra = {"vae": settings.backbones.vae} if name == "vae" else {}
    inputs = {stage: folders[stage] for stage in ("preprocess", "reconstruct")}
    return StageRequest(_control_names.folder_of(name), inputs, extra, sections=())


REQUESTS: dict[str, Callable[..., StageRequest]] = {
    decide.__name__.replace("_", "-"): decide
    for decide in (train_pr, train_projector, train_sr, reconstruct, decode, fuse, evaluate)
}
"""Command to request, of the stages whose recipes import torch."""
