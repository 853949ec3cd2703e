"""The Perception Reconstructor's losses: paper Eq. 1, and that of the released code."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from neuroclips_cli.losses.contrastive import frame_info_nce, soft_contrastive_loss
from neuroclips_cli.runtime.precision import in_float32


@in_float32
def latent_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error of latents of any equal shape, a scalar: the first half of Eq. 1."""
    return (predictions - targets).abs().mean()


@in_float32
def perception_loss(
    predictions: Tensor, targets: Tensor, temperature: float, contrast_weight: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean absolute error of the latents plus InfoNCE among the frames of each clip.

    Parameters
    ----------
    predictions, targets : Tensor
        ``(clips, frames, channels, height, width)``, VAE latents after the scaling factor.
    temperature : float
        Of the contrastive term.
    contrast_weight : float
        Factor of the contrastive term; the paper's Eq. 1 has 1.

    Returns
    -------
    tuple of Tensor
        Total, mean absolute error, contrastive term; scalars.
    """
    error = latent_error(predictions, targets)
    contrast = frame_info_nce(predictions, targets, temperature)
    return error + contrast_weight * contrast, error, contrast


@in_float32
def auxiliary_loss(
    predictions: Tensor,
    targets: Tensor,
    auxiliary: Tensor,
    maps: Tensor,
    temperature: float,
    contrast_weight: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean absolute error of the latents, and the auxiliary map against ConvNeXt maps.

    The contrast runs over all positions of all frames of the batch; its teacher is how similar
    the maps of the frames are to those of an augmented view. The released code halves the sum,
    which AdamW does not notice.

    Parameters
    ----------
    predictions, targets : Tensor
        As :func:`perception_loss`'s.
    auxiliary : Tensor
        ``(clips, frames, positions, width)``, predicted maps.
    maps : Tensor
        ``(clips, frames, 2, positions, width)``, those of the frames and of their views.
    temperature, contrast_weight : float
        As :func:`perception_loss`'s.

    Returns
    -------
    tuple of Tensor
        Total, mean absolute error, contrastive term; scalars.
    """
    error = latent_error(predictions, targets)
    plain, view = maps.unbind(2)
    rows = [F.normalize(x.flatten(0, -2), dim=-1) for x in (auxiliary, plain, view)]
    contrast = soft_contrastive_loss(rows[0], rows[1], rows[2], temperature)
    return error + contrast_weight * contrast, error, contrast
