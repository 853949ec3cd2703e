"""The Perception Reconstructor's loss (paper Eq. 1)."""

from __future__ import annotations

from torch import Tensor

from neuroclips_cli.losses.contrastive import frame_info_nce


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
    error = (predictions - targets).abs().mean()
    contrast = frame_info_nce(predictions, targets, temperature)
    return error + contrast_weight * contrast, error, contrast
