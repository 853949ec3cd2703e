"""Both reconstructors at true size: one step of every phase, as train-pr and train-sr take it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from neuroclips_cli.losses import Mix
from neuroclips_cli.memory_estimate.live import checkpoint_contexts
from neuroclips_cli.memory_estimate.needs import (
    MemoryEstimate,
    meta_tensor,
    named_stage,
    require_shape,
    training_step,
)
from neuroclips_cli.models.perception import make_perception
from neuroclips_cli.models.projector import TokenProjector
from neuroclips_cli.models.released.perception import AUXILIARY_CHANNELS
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.models.subject_scans import Scans, SubjectScans
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.settings.schema import TrainingSettings
from neuroclips_cli.training.activation_checkpointing import checkpoint_as_set
from neuroclips_cli.training.grad_cache import num_micro_batches
from neuroclips_cli.training.objectives import Objective, PriorObjective
from neuroclips_cli.training.optimizer import ADAFACTOR, make_optimizer
from neuroclips_cli.training.phases import (
    contrastive_objective,
    perception_objective,
    prior_objective,
)
from neuroclips_cli.training.pool import part_sizes

UNMIXED = 0.75
"""Share of the rows that learns from the prior: MixCo leaves half of a batch unmixed, and more than
three quarters of 64 rows once in 30 000 batches."""
Voxels = int | Sequence[int]
"""Length of a scan, of each subject where there are several."""


def build_perception(
    settings: Settings, voxels: Voxels, latent_shape: tuple[int, int, int]
) -> nn.Module:
    """Build the Perception Reconstructor on the meta device."""
    with torch.device("meta"):
        model = make_perception(
            voxels, settings.data.frames_per_clip, settings.perception, latent_shape
        )
    return model.to("meta")


def build_semantics(settings: Settings, voxels: Voxels) -> Semantics:
    """Build the Semantics Reconstructor on the meta device."""
    backbones = settings.backbones
    with torch.device("meta"):
        model = Semantics(voxels, settings.semantics, backbones.tokens, backbones.token_dim)
    # Small tables can end up on the CPU all the same, after other libraries moved the default.
    return model.to("meta")


def train_perception(
    settings: Settings,
    voxels: Voxels,
    latent_shape: tuple[int, int, int],
    *,
    device: str,
    mixed: bool,
) -> MemoryEstimate:
    """Take one step of train-pr.

    Parameters
    ----------
    settings : Settings
        Sizes, batch and optimizer.
    voxels : int or sequence of int
        Length of a scan, of each subject where there are several.
    latent_shape : tuple of int
        ``(channels, height, width)`` of one frame's VAE latents.
    device : str
        Whose optimizer is counted: on CUDA AdamW is one kernel that makes no temporaries.
    mixed : bool
        Whether the device computes in bfloat16 under autocast.

    Raises
    ------
    UserError
        If a shape does not fit.
    """
    options, stage = settings.train_pr, "train-pr"
    batch, frames = options.batch_size, settings.data.frames_per_clip
    with named_stage(stage, "the Perception Reconstructor"):
        model = build_perception(settings, voxels, latent_shape)
        checkpoint_as_set(model, options, context_fn=checkpoint_contexts(mixed))
        objective = perception_objective(settings, model)

        def given() -> dict[str, Any]:
            made: dict[str, Any] = {
                "fmri": _scans(batch, voxels),
                "latents": meta_tensor(batch, frames, *latent_shape),
            }
            if options.contrast == "convnext":
                positions = settings.perception.start_size**2
                made["maps"] = meta_tensor(batch, frames, 2, positions, AUXILIARY_CHANNELS)
            return made

        subjects = 1 if isinstance(voxels, int) else len(voxels)
        with torch.no_grad():
            found = model(_scans(subjects, voxels))[:1]
        require_shape(
            stage,
            "what the Perception Reconstructor decodes",
            found.shape,
            (1, frames, *latent_shape),
            "check perception.start_size and perception.decoder_channels",
        )
        return training_step(
            stage,
            objective,
            given,
            _optimizer(options),
            mixed=mixed,
            fused=_fused(options, voxels, device),
            pieces=num_micro_batches(batch, options.micro_batch_size),
        )


def train_semantics(
    settings: Settings, voxels: Voxels, *, device: str, mixed: bool
) -> Iterator[MemoryEstimate]:
    """Take one step of either phase of train-sr; parameters as :func:`train_perception`'s."""
    options, backbones = settings.train_sr, settings.backbones
    weight = meta_tensor(backbones.token_dim, backbones.embed_dim)
    projector = TokenProjector(weight)
    length = settings.semantics.hidden if options.ridge_closed_form else voxels

    def given(batch: int) -> dict[str, Any]:
        return {
            "fmri": _scans(batch, length),
            "tokens": meta_tensor(batch, backbones.tokens, backbones.token_dim),
            "text": meta_tensor(batch, backbones.embed_dim),
        }

    phases: tuple[tuple[str, Callable[..., Objective], int], ...] = (
        ("train-sr, contrastive phase", contrastive_objective, options.contrastive_batch_size),
        ("train-sr, prior phase", prior_objective, options.prior_batch_size),
    )
    for stage, build, batch in phases:
        with named_stage(stage, "the Semantics Reconstructor"):
            model = build_semantics(settings, voxels)
            checkpoint_as_set(model, options, context_fn=checkpoint_contexts(mixed))
            objective = build(settings, model, projector)
            if isinstance(objective, PriorObjective):
                objective.draw_mix = _largest_mix
            yield training_step(
                stage,
                objective,
                lambda batch=batch: given(batch),  # type: ignore[misc]
                _optimizer(options),
                mixed=mixed,
                fused=_fused(options, voxels, device),
                pieces=num_micro_batches(batch, options.micro_batch_size),
            )


def _scans(batch: int, voxels: Voxels) -> Scans:
    """Return a batch of scans, with a part for each of several subjects."""
    if isinstance(voxels, int):
        return meta_tensor(batch, voxels)
    sizes = zip(part_sizes(batch, len(voxels)), voxels, strict=True)
    return SubjectScans(tuple(meta_tensor(rows, length) for rows, length in sizes))


def _largest_mix(batch: int, beta: float, device: torch.device, *, share: float = 0.5) -> Mix:
    """Return a draw that leaves more rows unmixed than any to be expected."""
    mixed = batch - math.ceil(batch * (UNMIXED if share else 1))
    selected = torch.arange(batch) < mixed
    return Mix(torch.arange(batch), torch.ones(batch), selected)


def _optimizer(options: TrainingSettings) -> Callable[[nn.Module], Optimizer]:
    """Return what makes the optimizer of ``options``."""

    def make(objective: nn.Module) -> Optimizer:
        return make_optimizer(
            objective,
            options.learning_rate,
            options.weight_decay,
            options.ridge_weight_decay,
            options.optimizer,
            of_subjects=options.subject_optimizer,
        )

    return make


def _fused(options: TrainingSettings, voxels: Voxels, device: str) -> bool:
    """Tell whether ``training.loop`` takes AdamW's one kernel for all weights."""
    used = {options.optimizer} | (set() if isinstance(voxels, int) else {options.subject_optimizer})
    return device.startswith("cuda") and ADAFACTOR not in used
