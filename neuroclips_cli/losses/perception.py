"""The Perception Reconstructor's losses: paper Eq. 1, and that of the released code."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from neuroclips_cli.losses.contrastive import frame_info_nce, soft_contrastive_loss
from neuroclips_cli.runtime.precision import in_float32


@in_float32
def latent_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean absolute error of latents, the first half of Eq. 1.

    Parameters
    ----------
    predictions, targets : Tensor
        Latents of any equal shape, after the scaling factor.

    Returns
    -------
    Tensor
        Scalar, at least 0, in latent units.

    Examples
    --------
    >>> import torch
    >>> from neuroclips_cli.losses import latent_error
    >>> latent_error(torch.zeros(4), torch.tensor([1.0, -1.0, 2.0, 0.0])).item()
    1.0
    """
    return (predictions - targets).abs().mean()


@in_float32
def perception_loss(
    predictions: Tensor, targets: Tensor, temperature: float, contrast_weight: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute Eq. 1: mean absolute error of the latents plus InfoNCE among the frames of each clip.

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

    See Also
    --------
    auxiliary_loss : The loss of the released code.
    neuroclips_cli.losses.contrastive.frame_info_nce : The contrastive term.

    Notes
    -----
    ``L_PR = mean(abs(x - y)) + contrast_weight frame_info_nce(y, x)`` (paper 3.1).

    Examples
    --------
    >>> import torch
    >>> from neuroclips_cli.losses import perception_loss
    >>> latents = torch.eye(4).reshape(1, 4, 1, 2, 2)
    >>> total, error, contrast = perception_loss(latents + 0.5, latents, 0.05)
    >>> error.item(), torch.equal(total, error + contrast)
    (0.5, True)
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
    """Compute the released loss: latent error, and the auxiliary map against ConvNeXt maps.

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

    See Also
    --------
    perception_loss : The paper's Eq. 1.
    neuroclips_cli.losses.contrastive.soft_contrastive_loss : The contrastive term.
    """
    error = latent_error(predictions, targets)
    plain, view = maps.unbind(2)
    rows = [F.normalize(x.flatten(0, -2), dim=-1) for x in (auxiliary, plain, view)]
    contrast = soft_contrastive_loss(rows[0], rows[1], rows[2], temperature)
    return error + contrast_weight * contrast, error, contrast
