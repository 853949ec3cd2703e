"""Trained reconstructors of a run to and from checkpoint files in the authors' layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from neuroclips_cli import console
from neuroclips_cli.backbones.conversion.files import find_weights
from neuroclips_cli.backbones.conversion.unwrap import Found, from_common_prefix
from neuroclips_cli.backbones.token_space import PUBLISHED, STANDARD
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import sha256
from neuroclips_cli.models.backbone import RidgeRegression
from neuroclips_cli.models.checkpoint import load_perception, load_semantics
from neuroclips_cli.models.perception import make_perception
from neuroclips_cli.models.released.checkpoints import (
    export_published,
    has_other_trunk,
    import_published,
    is_by_authors,
    published_names,
    write_last_pth,
)
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.models.subject_place import RIDGE
from neuroclips_cli.runs import model_card
from neuroclips_cli.runs.model_card import ModelCard, Parent
from neuroclips_cli.runs.stage import open_stage, read_array, read_json, require_stage
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.training.checkpoints import cpu_state_dict
from neuroclips_cli.training.samples import scan_size

STAGES = ("train-sr", "train-pr")
"""Stages whose networks the authors publish."""


def export_run(settings: Settings, stage: str, path: Path, *, overwrite: bool = False) -> Path:
    """Write a finished reconstructor as a ``last.pth`` with the published names; return its path.

    ``stage`` is ``train-sr`` or ``train-pr``; a file that is there is replaced with ``overwrite``.
    """
    _known(stage)
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists: give another name, or --overwrite")
    folder = require_stage(settings, stage, needed_by="the export")
    if stage == "train-pr":
        write_last_pth(path, export_published(load_perception(folder)))
    else:
        space = read_json(folder / "manifest.json")["settings"]["semantics"]["token_space"]
        write_last_pth(path, export_published(load_semantics(folder)), space)
    console.info(f"wrote {path} in the published layout; read it with weights_only=True")
    return path


def import_run(
    settings: Settings, stage: str, path: Path, *, entry: str = "", overwrite: bool = False
) -> Path:
    """Make a stage folder from a trained checkpoint instead of training; return the folder.

    Parameters
    ----------
    settings : Settings
        Sizes and wiring; ``--variant released`` for the authors' own checkpoints.
    stage : str
        ``train-sr`` or ``train-pr``.
    path : Path
        The file, recorded as the stage's input.
    entry : str
        Keys that lead to the weights, where the file's wrapping is unknown.
    overwrite : bool
        Replace a finished stage.
    """
    _known(stage)
    preprocess = require_stage(settings, "preprocess", needed_by=stage)
    inputs: dict[str, Path | str] = {"preprocess": preprocess, "checkpoint": path}
    found = find_trained(path, entry)
    if stage == "train-sr":
        require_token_space(settings, found, path)
    with open_stage(settings, stage, inputs=inputs, overwrite=overwrite) as folder:
        if not folder.up_to_date:
            model, sizes = _empty(settings, stage, preprocess, found.weights)
            weights = _bare(found, model)
            model.load_state_dict(
                import_published(weights, model, str(path)), assign=True, strict=True
            )
            folder.fact("model", sizes)
            folder.fact("imported", path.name)
            folder.write_safetensors("model.safetensors", cpu_state_dict(model))
            parent = Parent(path.name, sha256(path))
            card = ModelCard(stage, model_card.IMPORTED, (), parent=parent)
            folder.write_json(model_card.NAME, card.as_json())
            folder.fact("protocol", card.protocol)
            console.info(f"{stage} of subject {settings.run.subject} is taken from {path.name}")
        return folder.folder


def load_pretrained_weights(
    model: nn.Module, path: Path, settings: Settings, *, ridge: bool = True
) -> None:
    """Put a published checkpoint's weights into a network that is about to be trained.

    The authors begin from MindEye2's ``last.pth`` of another subject, whose ridge layer is of
    another width: it is left out, and what is above it is taken. A trunk that mixes channels
    (``semantics.backbone = "mixing"``) leaves the file's trunk out as well, which is wired
    otherwise; the layer to the tokens, the contrastive projector and the prior are the same.

    Of MindEye2's multi-subject checkpoint, which has a ridge layer for each of its subjects, none
    is taken; with ``ridge=False`` that of no file is.

    Raises
    ------
    UserError
        If the file is unreadable, of another kind or size above the ridge layer, or of another
        or unknown token space.
    """
    found = find_trained(path)
    if isinstance(model, Semantics):
        require_token_space(settings, found, path)
    weights = _bare(found, model)
    # a window of volumes has several layers in this place
    own = cast(RidgeRegression, model.ridge).linears[0].state_dict().get("weight")
    name = f"{RIDGE[not isinstance(model, Semantics)]}.linears.0.weight"
    of_many = name.replace("linears.0", "linears.1") in weights
    one = own is not None and name in weights and weights[name].shape == own.shape
    same = ridge and not of_many and one
    trunk = not (isinstance(model, Semantics) and has_other_trunk(weights, model))
    model.load_state_dict(import_published(weights, model, str(path), ridge=same, trunk=trunk))
    others = "another subject's" if not ridge else "several subjects'" if of_many else "other scans"
    left = [] if same else [f"its ridge layer ({others})"]
    left += [] if trunk else ['its trunk (semantics.backbone = "mixing" is wired otherwise)']
    console.info(
        f"initialized from {path.name}" + (f" without {' and '.join(left)}" if left else "")
    )


def require_token_space(settings: Settings, found: Found, path: Path) -> None:
    """Refuse a checkpoint of tokens that are not, or not known to be, the settings' tokens.

    A file that ``models export`` wrote says its space; MindEye2's and NeuroClips' code made
    ``published`` ones, and their files are recognized by what they keep beside the networks. For
    any other the user has to say it.

    Raises
    ------
    UserError
        If the spaces differ, or the user did not choose ``semantics.token_space`` for a file that
        does not tell.
    """
    known = found.notes.get("token_space", PUBLISHED if is_by_authors(found.weights) else "")
    own = settings.semantics.token_space
    if known and known != own:
        raise UserError(
            f"{path} was trained on {known} tokens, and semantics.token_space is '{own}': add "
            f"--set semantics.token_space={known}"
        )
    if not known and not settings.chosen_by_user("semantics.token_space"):
        raise UserError(
            f"{path} does not say which tokens it was trained on: add --set "
            f"semantics.token_space={PUBLISHED} for a checkpoint of MindEye2's or NeuroClips' "
            f"code, or {STANDARD} if CLIP saw ordinary frames"
        )


def _bare(found: Found, model: nn.Module) -> Mapping[str, Tensor]:
    """Return the weights without an attribute that a trainer put in front of all names."""
    names = set(published_names(model).values())
    return from_common_prefix(found.weights, lambda inner: not names.isdisjoint(inner))


def _known(stage: str) -> None:
    if stage not in STAGES:
        raise UserError(f"there are no published checkpoints of {stage}: take {', '.join(STAGES)}")


def _empty(
    settings: Settings, stage: str, preprocess: Path, weights: dict[str, Tensor]
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the run's network without numbers, and the sizes that its manifest keeps."""
    voxels, window = scan_size(read_array(preprocess / "fmri_train.npy"))
    if window > 1:
        raise UserError(
            f"published checkpoints read one volume per clip, and the data has {window}: "
            "preprocess with data.window=1"
        )
    with torch.device("meta"):
        if stage == "train-sr":
            backbones = settings.backbones
            sizes: dict[str, Any] = {
                "voxels": voxels,
                "tokens": backbones.tokens,
                "token_dim": backbones.token_dim,
            }
            return Semantics(settings=settings.semantics, **sizes), sizes
        data, chosen = settings.data, settings.perception
        # Every VAE of the published system reduces by 8; the last layer says its channels.
        side = (chosen.frame_size or data.frame_size) // 8
        last = weights.get("backbone.bupsampler.conv_out.bias")
        latent = (4 if last is None else len(last), side, side)
        frames = data.frames_per_clip
        model: nn.Module = make_perception(voxels, frames, chosen, latent)
        return model, {"voxels": voxels, "frames": frames, "latent_shape": list(latent)}


def find_trained(path: Path, entry: str = "") -> Found:
    """Read a checkpoint's weights, and say from which of its entries where that was a choice."""
    found = find_weights(path, entry)
    if found.averaged:
        console.info(
            f"{path.name}: weights averaged over the training steps (EMA) are taken"
            + (f", from its entry '{found.entry}'" if found.entry else "")
        )
    elif found.entry:
        console.detail(f"{path.name}: weights are taken from its entry '{found.entry}'")
    return found
