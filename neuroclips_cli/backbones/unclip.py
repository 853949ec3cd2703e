"""The image generator conditioned on CLIP image tokens (SDXL unCLIP's place in the paper)."""

from __future__ import annotations

from diffusers import UNet2DConditionModel

from neuroclips_cli.backbones.loading import channels_last, load_network


def load_unclip(ref: str, device: str = "cpu", precision: str = "float32") -> UNet2DConditionModel:
    """Load the unCLIP denoiser.

    Parameters
    ----------
    ref : str
        ``assets:<name>``, a folder or a hub id.
    device : str
        A torch device.
    precision : str
        ``float32`` or ``bfloat16``.

    Returns
    -------
    diffusers.UNet2DConditionModel
        Predicts noise; cross-attends to image tokens (batch, tokens, dim). Where the
        configuration has ``class_embed_type="projection"`` it also takes the size vector
        of ``generation.keyframe``.

    Raises
    ------
    UserError
        If it cannot be found.
    """
    return channels_last(load_network(UNet2DConditionModel, ref, device, precision=precision))
