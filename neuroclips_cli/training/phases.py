"""What each phase of training minimizes, as the settings ask for it.

The recipes train with these objectives, and the memory estimate takes a step of the same ones.
"""

from __future__ import annotations

from torch import nn

from neuroclips_cli.models.projector import TokenProjector
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.training.objectives import (
    AuxiliaryObjective,
    ContrastiveObjective,
    Objective,
    PerceptionObjective,
    PriorObjective,
)


def perception_objective(settings: Settings, model: nn.Module) -> Objective:
    """Return what train-pr minimizes: Eq. 1, or the released loss with a map of ConvNeXt's.

    Parameters
    ----------
    settings : Settings
        ``[train_pr]`` is read.
    model : torch.nn.Module
        The Perception Reconstructor.
    """
    options = settings.train_pr
    kind = AuxiliaryObjective if options.contrast == "convnext" else PerceptionObjective
    return kind(model, options.temperature, options.contrast_weight)


def contrastive_objective(
    settings: Settings,
    model: Semantics,
    projector: TokenProjector,
    *,
    ridge_solved: bool | None = None,
) -> Objective:
    """Return what train-sr minimizes in phase 1 (Eq. 8); what it does not train is frozen.

    Parameters
    ----------
    settings : Settings
        ``[train_sr]`` is read; ``closed_form_keeps`` says what does not learn.
    model : Semantics
        The Semantics Reconstructor; its diffusion prior is frozen.
    projector : TokenProjector
        Of Reftm, where ``contrastive_reftm_weight`` asks for it.
    ridge_solved : bool, optional
        Whether the scans are what the ridge layer makes of them; by default what
        ``ridge_closed_form`` says.
    """
    options = settings.train_sr
    solved = options.ridge_closed_form if ridge_solved is None else ridge_solved
    objective = ContrastiveObjective(
        model,
        model.decode if solved else model,
        options.temperature,
        options.mixco_beta,
        projector=projector if options.contrastive_reftm_weight else None,
        reftm_weight=options.contrastive_reftm_weight,
        reftm_temperature=options.reftm_temperature,
    )
    model.diffusion_prior.requires_grad_(False)
    if solved:
        _keep_closed_form(settings, model)
    return objective


def prior_objective(
    settings: Settings,
    model: Semantics,
    projector: TokenProjector,
    *,
    ridge_solved: bool | None = None,
) -> PriorObjective:
    """Return what train-sr minimizes in phase 2 (Eq. 4); what it does not train is frozen.

    Parameters
    ----------
    settings : Settings
        ``[train_sr]`` is read; ``prior_trains`` says what learns beside the prior.
    model : Semantics
        The Semantics Reconstructor.
    projector : TokenProjector
        Of Reftm.
    ridge_solved : bool, optional
        As for :func:`contrastive_objective`; the ridge layer does not learn then.
    """
    options = settings.train_sr
    solved = options.ridge_closed_form if ridge_solved is None else ridge_solved
    objective = PriorObjective(
        model,
        model.decode if solved else model,
        projector,
        temperature=options.temperature,
        mixco_beta=options.mixco_beta,
        prior_weight=options.prior_weight,
        reftm_weight=options.reftm_weight,
        reftm_temperature=options.reftm_temperature,
        softclip_epochs=options.prior_epochs if options.prior_contrast == "softclip" else 0,
    )
    everything = options.prior_trains == "all"
    model.requires_grad_(everything)
    model.ridge.requires_grad_(everything and not solved)
    model.diffusion_prior.requires_grad_(True)
    model.diffusion_prior.freeze_rotary()
    if solved:
        _keep_closed_form(settings, model)
    return objective


def _keep_closed_form(settings: Settings, model: Semantics) -> None:
    """Freeze the layers from scans to tokens where they are to stay what Eq. 3 made them."""
    if settings.train_sr.closed_form_keeps == "tokens":
        for layer in model.backbone.children():
            if layer is not model.backbone.clip_proj:
                layer.requires_grad_(False)
