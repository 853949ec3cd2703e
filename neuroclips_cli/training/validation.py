"""Validation on the held-out segments, with the mean over each clip's repetitions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from neuroclips_cli.losses import info_nce, latent_error, perception_loss, reftm_loss
from neuroclips_cli.models.projector import TokenProjector
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.runtime.precision import in_float32
from neuroclips_cli.training.objectives import flat_unit

_BATCH = 64


def _in_batches(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    return torch.cat([function(part) for part in rows.split(_BATCH)])


@torch.no_grad()
def perception_figures(
    model: nn.Module, fmri: Tensor, latents: Tensor, temperature: float, contrast_weight: float
) -> dict[str, float]:
    """Compute Eq. 1 on held-out clips, and its error with the scans given to other clips.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.
    fmri : Tensor
        ``(clips, voxels)``.
    latents : Tensor
        ``(clips, frames, channels, height, width)``.
    temperature, contrast_weight : float
        Of the contrastive term.

    Returns
    -------
    dict
        ``loss``, ``error``, ``contrast``, ``shuffled_error``.

    See Also
    --------
    neuroclips_cli.losses.perception.perception_loss : The loss itself.
    """
    predicted = _in_batches(lambda x: model(x).float(), fmri)
    loss, error, contrast = perception_loss(predicted, latents, temperature, contrast_weight)
    shuffled = latent_error(predicted.roll(len(fmri) // 2, 0), latents)
    named = {"loss": loss, "error": error, "contrast": contrast, "shuffled_error": shuffled}
    return {name: value.item() for name, value in named.items()}


@torch.no_grad()
def contrastive_figures(
    model: Semantics, fmri: Tensor, tokens: Tensor, temperature: float
) -> dict[str, float]:
    """Compute InfoNCE and top-1 retrieval both ways among the held-out clips' keyframes.

    Parameters
    ----------
    model : Semantics
        In evaluation mode.
    fmri : Tensor
        ``(clips, voxels)``.
    tokens : Tensor
        ``(clips, tokens, dim)`` of one frame per clip.
    temperature : float
        Of the loss.

    Returns
    -------
    dict
        ``loss``, ``fmri_to_image``, ``image_to_fmri`` (0..1).

    See Also
    --------
    prior_figures : All of Eq. 4.
    neuroclips_cli.metrics.retrieval.retrieve : Retrieval as it is reported.
    """
    predicted = flat_unit(_in_batches(lambda x: model(x)[1], fmri))
    targets = flat_unit(tokens)
    similarity = _similarity(predicted, targets)
    own = torch.arange(len(fmri), device=fmri.device)
    return {
        "loss": info_nce(predicted, targets, temperature).item(),
        "fmri_to_image": (similarity.argmax(1) == own).float().mean().item(),
        "image_to_fmri": (similarity.argmax(0) == own).float().mean().item(),
    }


@in_float32
def _similarity(predicted: Tensor, targets: Tensor) -> Tensor:
    return predicted @ targets.T


@torch.no_grad()
def prior_figures(
    model: Semantics,
    projector: TokenProjector,
    fmri: Tensor,
    tokens: Tensor,
    text: Tensor,
    *,
    temperature: float,
    prior_weight: float,
    reftm_weight: float,
    reftm_temperature: float = 0.0,
) -> dict[str, float]:
    """Compute Eq. 4 on held-out clips, every clip at fixed, evenly spread noise steps.

    Parameters
    ----------
    model : Semantics
        In evaluation mode.
    projector : TokenProjector
        Frozen.
    fmri : Tensor
        ``(clips, voxels)``.
    tokens : Tensor
        ``(clips, tokens, dim)`` of one frame per clip.
    text : Tensor
        ``(clips, embed_dim)``, caption embeddings.
    temperature : float
        Of BiMixCo's place, InfoNCE, > 0.
    prior_weight, reftm_weight : float
        delta and mu of Eq. 4.
    reftm_temperature : float
        Of Reftm; 0 takes ``temperature``.

    Returns
    -------
    dict
        Those of :func:`contrastive_figures` with ``loss`` the whole of Eq. 4, and ``contrast``,
        ``prior``, ``reftm``.

    See Also
    --------
    contrastive_figures : The contrastive part.
    """
    figures = contrastive_figures(model, fmri, tokens, temperature)
    steps = model.diffusion_prior.timesteps
    times = torch.linspace(0, steps - 1, len(fmri)).long()
    times = times[torch.randperm(len(fmri), generator=torch.Generator().manual_seed(0))]
    noise = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1))
    errors, predicted = [], []
    for part in torch.arange(len(fmri)).split(_BATCH):
        brain, _ = model(fmri[part])
        given = {"times": times[part].to(fmri.device), "noise": noise[part].to(fmri.device)}
        error, clean = model.diffusion_prior(brain, tokens[part], **given)
        errors.append(error * len(part))
        predicted.append(clean)
    prior = (sum(errors) / len(fmri)).item()
    image = projector(torch.cat(predicted))
    reftm = reftm_loss(image, text, reftm_temperature or temperature).item()
    contrast = figures["loss"]
    total = contrast + prior_weight * prior + reftm_weight * reftm
    return figures | {"loss": total, "contrast": contrast, "prior": prior, "reftm": reftm}
