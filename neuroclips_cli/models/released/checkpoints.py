"""Trained reconstructors to and from the authors' checkpoints.

A network here that is built like the authors' has their key names already. The paper's trunk and
its Temporal Upsampling have names of their own, so that a run says what it is; here they take the
published name of the layer they stand for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic
from neuroclips_cli.models.backbone import ResidualMLP
from neuroclips_cli.models.perception import Perception
from neuroclips_cli.models.prior import NoiseSchedule
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.models.subject_place import RIDGE

VOXELS = {13447: 1, 14828: 2, 9114: 3}
"""Selected voxels of cc2017 to the subject whose checkpoints have as many (paper 4.1)."""

_TRUNK = (
    (r"^backbone\.blocks\.(\d+)\.0\.", r"backbone.mixer_blocks1.\1.0."),
    (r"^backbone\.blocks\.(\d+)\.1\.", r"backbone.mixer_blocks1.\1.1.0."),
    (r"^backbone\.blocks\.(\d+)\.4\.", r"backbone.mixer_blocks1.\1.1.3."),
)
_BLOCK = r"backbone.bupsampler.up_blocks.\1."
_UPSAMPLING = (
    (r"^ridge\.", "ridge1."),
    (r"^fmri\.lin1\.(weight|bias)$", r"fmri.lin1.0.\1"),
    (r"^to_grid\.", "backbone.blin1."),
    (r"^to_latents\.", "backbone.bupsampler.conv_out."),
    (r"^upsampling\.(\d+)\.spatial\.(\d+)\.layers\.0\.", _BLOCK + r"resnets.\2.norm1."),
    (r"^upsampling\.(\d+)\.spatial\.(\d+)\.layers\.2\.", _BLOCK + r"resnets.\2.conv1."),
    (r"^upsampling\.(\d+)\.spatial\.(\d+)\.layers\.3\.", _BLOCK + r"resnets.\2.norm2."),
    (r"^upsampling\.(\d+)\.spatial\.(\d+)\.layers\.5\.", _BLOCK + r"resnets.\2.conv2."),
    (r"^upsampling\.(\d+)\.spatial\.\d+\.norm\.", _BLOCK + "attentions.0.group_norm."),
    (r"^upsampling\.(\d+)\.spatial\.\d+\.to_qkv\.", _BLOCK + "attentions.0.to_qkv."),
    (r"^upsampling\.(\d+)\.spatial\.\d+\.to_out\.", _BLOCK + "attentions.0.to_out.0."),
    (r"^upsampling\.(\d+)\.temporal\.", _BLOCK + "temp_attentions.0."),
    (r"^upsampling\.(\d+)\.eta1$", _BLOCK + "spatial_weights.0"),
    (r"^upsampling\.(\d+)\.eta2$", _BLOCK + "weights.0"),
    (r"^upsampling\.(\d+)\.upsampling\.0\.", _BLOCK + "upsamplers.0.conv."),
)
_SCHEDULE = "diffusion_prior.noise_scheduler."
_SEQUENCE = "backbone.mixer_blocks2."
_RIDGES = tuple(f"{name}." for name in RIDGE)
_TRUNKS = ("backbone.mixer_blocks1.", _SEQUENCE)
# What checkpoints hold beside the networks of ours: the frozen projector, MindEye2's low-level
# branch, and whatever becomes of either.
_BESIDE = (
    "clipproj.",
    "backbone.blin1.",
    "backbone.bnorm.",
    "backbone.bupsampler.",
    "backbone.b_maps_projector.",
)


def is_by_authors(weights: Mapping[str, Tensor]) -> bool:
    """Tell a checkpoint of MindEye2's or NeuroClips' code by what it keeps beside the networks."""
    return any(name.startswith(_BESIDE) for name in weights)


def has_other_trunk(weights: Mapping[str, Tensor], model: nn.Module) -> bool:
    """Tell whether a checkpoint's trunk is the released one and the model's mixes channels."""
    values = [value for name, value in weights.items() if name.startswith(_SEQUENCE)]
    return isinstance(model.backbone, ResidualMLP) and any(bool(value.any()) for value in values)


def published_names(model: nn.Module) -> dict[str, str]:
    """Return the published name of every entry of a reconstructor's state.

    Parameters
    ----------
    model : Semantics, Perception or PublishedPerception
        Meta tensors suffice.
    """
    rules = _TRUNK + (_UPSAMPLING if isinstance(model, Perception) else ())
    return {name: _renamed(name, rules) for name in model.state_dict()}


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        changed, found = re.subn(pattern, replacement, name)
        if found:
            return changed
    return name


def export_published(model: nn.Module) -> dict[str, Tensor]:
    """Return a reconstructor's weights under the published names.

    A trunk that mixes channels comes out as the channel half of the authors' mixer
    (``mixer_blocks1``) beside a sequence half of zeros, which an honest mixer of one token would
    add nothing with. The authors' own code alternates two residual streams and therefore ignores
    the channel half: there such weights load strictly and compute something else.

    Parameters
    ----------
    model : Semantics, Perception or PublishedPerception
        What is exported.

    Returns
    -------
    dict
        Published name to tensor on the CPU, each with memory of its own.
    """
    names = published_names(model)
    state = {
        names[name]: value.detach().to("cpu", copy=True)
        for name, value in model.state_dict().items()
    }
    if isinstance(model.backbone, ResidualMLP):
        state |= _sequence_half(len(model.backbone.blocks))
    return state


def _sequence_half(blocks: int) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {"0.weight": (1,), "0.bias": (1,)}
    for layer in ("1.0", "1.3"):
        shapes |= {f"{layer}.weight": (1, 1), f"{layer}.bias": (1,)}
    return {
        f"{_SEQUENCE}{block}.{name}": torch.zeros(shape)
        for block in range(blocks)
        for name, shape in shapes.items()
    }


def import_published(
    weights: Mapping[str, Tensor],
    model: nn.Module,
    source: str,
    *,
    ridge: bool = True,
    trunk: bool = True,
) -> dict[str, Tensor]:
    """Return a checkpoint's weights under the names of one of our reconstructors.

    Parameters
    ----------
    weights : mapping
        Published name to tensor, ``model_state_dict`` of a ``last.pth``.
    model : Semantics, Perception or PublishedPerception
        Built for the run that is to take the weights; meta tensors suffice.
    source : str
        The file, for messages.
    ridge : bool
        False leaves the ridge layer as it is in ``model``: a checkpoint of another subject as
        the start of a training, which is how the authors use MindEye2's.
    trunk : bool
        False leaves the residual blocks as they are in ``model``: a checkpoint whose trunk is
        wired otherwise, as the start of a training.

    Returns
    -------
    dict
        For ``model.load_state_dict``, float32.

    Raises
    ------
    UserError
        If the checkpoint is of another kind, size or subject; the first name or shape that
        differs is in the message.
    """
    names = published_names(model)
    if trunk:
        _refuse_other_trunk(weights, model, source)
    left = (() if ridge else _RIDGES) + (() if trunk else _TRUNKS)
    wanted = model.state_dict()
    taken: dict[str, Tensor] = {}
    used = set()
    for name, published in names.items():
        used.add(published)
        if published.startswith(left):
            taken[name] = wanted[name]
            continue
        _check(published, weights, tuple(wanted[name].shape), source)
        value = weights[published]
        taken[name] = value.float() if value.is_floating_point() else value
    for name in weights:
        beside = name.startswith((*_BESIDE, *left))
        ours = isinstance(model.backbone, ResidualMLP) and name.startswith(_SEQUENCE)
        if name not in used and not ours and not (beside and isinstance(model, Semantics)):
            raise UserError(
                f"{source} does not fit {_kind(model)}: it holds '{name}', which the network "
                "lacks; check which file it is, or the sizes in the settings"
            )
    return taken | _exact_schedule(weights, used)


def _exact_schedule(weights: Mapping[str, Tensor], used: set[str]) -> dict[str, Tensor]:
    """Return the prior's noise schedule in float32 where a file holds its rounding only.

    It is computed, not learned; checkpoints in half precision keep three digits of it, and round
    its smallest values to zero. A schedule that is not ours rounded stays as it is in the file.
    """
    rounded = {
        name.removeprefix(_SCHEDULE): weights[name]
        for name in used
        if name.startswith(_SCHEDULE) and weights[name].dtype in (torch.float16, torch.bfloat16)
    }
    if not rounded:
        return {}
    own = NoiseSchedule(len(next(iter(rounded.values())))).state_dict()
    if any(not torch.equal(own[name].to(value.dtype), value) for name, value in rounded.items()):
        return {}
    return {_SCHEDULE + name: own[name] for name in rounded}


def _kind(model: nn.Module) -> str:
    semantics = isinstance(model, Semantics)
    return "the Semantics Reconstructor" if semantics else "the Perception Reconstructor"


def _check(name: str, weights: Mapping[str, Tensor], shape: tuple[int, ...], source: str) -> None:
    """Refuse a checkpoint that lacks an entry or has it in another shape."""
    if name not in weights:
        first = next(iter(weights), "nothing")
        raise UserError(
            f"{source} does not fit: it lacks '{name}' {shape} (its first entry is '{first}'); "
            "check which file it is: train-sr takes MindEye2's and NeuroClips' semantic "
            "checkpoints, train-pr NeuroClips' perceptual ones"
        )
    found = tuple(weights[name].shape)
    if found == shape:
        return
    if name in [f"{ridge}.linears.0.weight" for ridge in RIDGE] and found[0] == shape[0]:
        whose = f" (subject {VOXELS[found[1]]} of cc2017)" if found[1] in VOXELS else ""
        raise UserError(
            f"{source} was trained on {found[1]} voxels{whose}, this run has {shape[1]}: "
            f"'{name}' is {found}; take the subject's own checkpoint"
        )
    raise UserError(
        f"{source} does not fit: '{name}' is {found} where the settings ask for {shape}; check "
        "which file it is, or the sizes in the settings"
    )


def _refuse_other_trunk(weights: Mapping[str, Tensor], model: nn.Module, source: str) -> None:
    """Tell the two trunks, which share names and shapes, by the sequence half: refuse the other."""
    values = [value for name, value in weights.items() if name.startswith(_SEQUENCE)]
    if not values:
        return
    silent = not any(bool(value.any()) for value in values)
    section = "semantics" if isinstance(model, Semantics) else "perception"
    if isinstance(model.backbone, ResidualMLP) and not silent:
        raise UserError(
            f"the trunk of {source} is the released one, whose '{_SEQUENCE}0.0.weight' is not "
            f'zero: set {section}.backbone = "released"'
            + (' and perception.network = "published"' if section == "perception" else "")
        )
    if silent and not isinstance(model.backbone, ResidualMLP):
        raise UserError(
            f"the trunk of {source} mixes channels ('{_SEQUENCE}0.0.weight' is zero): set "
            f'{section}.backbone = "mixing"'
        )


def write_last_pth(path: Path, state: Mapping[str, Tensor], token_space: str = "") -> None:
    """Write weights as the ``last.pth`` that the authors' scripts read, whole or not at all.

    Parameters
    ----------
    path : Path
        The file.
    state : mapping
        Published name to tensor.
    token_space : str
        Of the tokens that a Semantics Reconstructor was trained on; kept beside the weights.
    """
    notes = {"token_space": token_space} if token_space else {}
    with atomic.atomic_path(path) as temporary:
        torch.save({"model_state_dict": dict(state), **notes}, temporary)
