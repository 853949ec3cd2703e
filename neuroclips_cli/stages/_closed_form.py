"""adapt --mode closed-form: the new subject's first layer is solved, all else is the parent's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from neuroclips_cli import console
from neuroclips_cli.backbones.loading import choose_device
from neuroclips_cli.errors import UserError
from neuroclips_cli.models.checkpoint import load_perception, load_semantics
from neuroclips_cli.models.perception import PUBLISHED, Perception, make_perception
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.runs import disk_usage, manifest, model_card
from neuroclips_cli.runs.model_card import FRAMES, TrainedOn
from neuroclips_cli.runs.stage import Stage, read_array, read_json, require_stage
from neuroclips_cli.runtime.precision import choose_precision
from neuroclips_cli.settings.load import Settings, replace_settings
from neuroclips_cli.stages import _requests
from neuroclips_cli.stages._adaptation import Adaptation
from neuroclips_cli.stages._start import Start
from neuroclips_cli.stages._training_data import TrainingClips
from neuroclips_cli.stages._training_scans import TrainingScans, training_scans
from neuroclips_cli.training.checkpoints import cpu_state_dict, seed_torch
from neuroclips_cli.training.closed_form_adaptation import (
    AdaptedLayer,
    fit_first_layer,
    shared_latents,
)
from neuroclips_cli.training.cross_fitted_ridge import load_into_ridge
from neuroclips_cli.training.samples import derived_seed, flat_scans, repetition_mean
from neuroclips_cli.training.target_cache import clip_digests

MODE = "closed-form"
_BATCH = 64


def fit(settings: Settings, stage: str, adaptation: Adaptation, overwrite: bool) -> Path:
    """Solve a decoder's first layers for the subject ``run.subject``; return the stage's folder.

    Refused: a parent that is a checkpoint file, scans of its subjects that are not here any more, a
    subject that saw no film that they saw, and the published perception network.
    """
    parent = adaptation.parent_of(stage)
    if parent is None or parent.is_file():
        raise UserError(
            f"--mode {MODE} needs the scans of the subjects that the parent was trained on, and "
            f"{adaptation.parent} holds none: give --from a decoder's folder, or take another mode"
        )
    if stage == "train-pr" and settings.perception.network == PUBLISHED:
        raise UserError(
            f'--mode {MODE} cannot solve the first layers of perception.network = "published", '
            "which are not linear: give --only train-sr, or take another mode"
        )
    decide = _requests.train_pr if stage == "train-pr" else _requests.train_sr
    request = decide(settings, adaptation=adaptation)
    with request.open(settings, overwrite=overwrite) as opened:
        if not opened.up_to_date:
            folders = _requests.preprocess_folders(settings, request)
            _solve(settings, stage, folders, adaptation, parent, opened)
        return opened.folder


def _solve(
    settings: Settings,
    stage: str,
    folders: dict[int, Path],
    adaptation: Adaptation,
    parent: Path,
    opened: Stage,
) -> None:
    """Read from top to bottom: scans, latents of shared films, the layer, weights."""
    opened.fact("precision", choose_precision(settings.run.precision, choose_device("cpu")))
    scans = training_scans(settings, folders, stage, adaptation)
    clips = scans.clips[0]
    given = np.sort(np.concatenate([clips.train, clips.validation]))
    rows, latents = _shared(settings, stage, parent, clips, given)
    used = given[rows]
    layer = fit_first_layer(flat_scans(clips.fmri[used]), clips.segments[used], latents)

    sizes = {**read_json(parent / "manifest.json")["facts"]["model"], **scans.sizes}
    sizes = {name: value for name, value in sizes.items() if name not in ("subjects", "average")}
    seed_torch(derived_seed(settings.run.seed, stage, "weights"))
    model = _network(settings, stage, scans, sizes)
    opened.need_space(disk_usage.of_training(model))
    start = Start(stage, adaptation=adaptation)
    entry = start.begin(model, settings)
    _put_in(layer, model)
    start.freeze(model)
    opened.fact("model", sizes)
    solved = {"penalty": layer.penalty, "r2": round(layer.r2, 6), "clips": layer.clips}
    opened.fact("closed_form", solved)
    console.info(
        f"{stage}: the first layer is solved from {layer.clips} clips of films in common; it "
        f"predicts {layer.r2:.1%} of the shared latents' variance on segments left out"
    )
    opened.write_safetensors("model.safetensors", cpu_state_dict(model))
    card = scans.card(settings, stage, model, entry, adaptation)
    opened.write_json(model_card.NAME, card.as_json())
    opened.fact("protocol", card.protocol)


def _shared(
    settings: Settings, stage: str, parent: Path, clips: TrainingClips, given: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return which of the given clips the parent's subjects saw, and their mean latents of them."""
    card = model_card.read(parent)
    if card is None or not card.subjects:
        raise UserError(
            f"{parent} has no card that says whose scans it was trained on: train it again, or "
            "take another mode than closed-form"
        )
    same = all(one.frames == clips.frames_digest for one in card.subjects)
    outputs, names = [], []
    for one in card.subjects:
        place = {"run.subject": one.subject, "run.workdir": str(parent.parents[1])}
        own = replace_settings(settings, {**place, "run.decoder": ""})
        folder = require_stage(own, "preprocess", "adapt")
        _refuse_other_scans(folder, one, parent)
        scans = read_array(folder / "fmri_train.npy")
        outputs.append(_first_layers(stage, parent, one.subject, scans))
        frames = read_array(folder / FRAMES)
        names.append(_names(frames, np.arange(len(frames)), numbers=same))
    wanted = _names(clips.frames, given, numbers=same)
    return shared_latents(outputs, names, wanted)


def _names(frames: np.ndarray, rows: np.ndarray, *, numbers: bool) -> list[str]:
    """Name clips by what they show; by their numbers where all subjects saw the same films."""
    return [str(row) for row in rows] if numbers else clip_digests(frames[rows])


def _refuse_other_scans(folder: Path, trained: TrainedOn, parent: Path) -> None:
    if manifest.input_digest(folder) != trained.scans:
        raise UserError(
            f"{folder} is not what {parent} was trained on: its card names other scans; "
            f"preprocess subject {trained.subject} as then, or train the parent again"
        )


@torch.no_grad()
def _first_layers(stage: str, parent: Path, subject: int, scans: np.ndarray) -> np.ndarray:
    """Return what a training subject's first layers make of its scans, (clips, width).

    Of the Perception Reconstructor's frames it is the mean.
    """
    parts = np.array_split(np.arange(len(scans)), max(len(scans) // _BATCH, 1))
    if stage == "train-sr":
        ridge = load_semantics(parent, subject).ridge
        made = [ridge(repetition_mean(scans, rows)) for rows in parts]
    else:
        model = load_perception(parent, subject)
        extended = (model.fmri(repetition_mean(scans, rows)) for rows in parts)
        made = [model.ridge(part).mean(dim=1) for part in extended]
    return torch.cat(made).numpy()


def _network(
    settings: Settings, stage: str, scans: TrainingScans, sizes: dict[str, Any]
) -> Perception | Semantics:
    if stage == "train-sr":
        shape = (sizes["tokens"], sizes["token_dim"])
        return Semantics(scans.voxels, settings.semantics, *shape, **scans.inputs)
    channels, height, width = sizes["latent_shape"]
    made = make_perception(
        scans.voxels,
        sizes["frames"],
        settings.perception,
        (channels, height, width),
        **scans.inputs,
    )
    assert isinstance(made, Perception)
    return made


def _put_in(layer: AdaptedLayer, model: Perception | Semantics) -> None:
    """Put the layer in; the Perception Reconstructor's frames begin as the measured scan."""
    load_into_ridge(layer, model.ridge)
    if isinstance(model, Perception):
        for parameter in model.fmri.get_submodule("lin1").parameters():
            nn.init.zeros_(parameter)
