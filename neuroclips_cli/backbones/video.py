"""AnimateDiff's text-to-video networks with SparseCtrl, as diffusers builds them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    MotionAdapter,
    SparseControlNetModel,
    UNet2DConditionModel,
    UNetMotionModel,
)
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from neuroclips_cli.backbones.catalog import ADAPTER_FILE
from neuroclips_cli.backbones.loading import (
    channels_last,
    freeze,
    load_network,
    load_pretrained,
)
from neuroclips_cli.backbones.references import resolve
from neuroclips_cli.backbones.schedulers import load_scheduler
from neuroclips_cli.backbones.vae import load_vae
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.safetensors import read_tensors
from neuroclips_cli.runtime.precision import compute_in
from neuroclips_cli.settings.schema import BackboneSettings


@dataclass(frozen=True)
class VideoModels:
    """Everything the video sampler needs.

    Attributes
    ----------
    unet : diffusers.UNetMotionModel
        Scene model with the motion adapter in it.
    sparsectrl : diffusers.SparseControlNetModel
        Makes the keyframe the first frame.
    vae : diffusers.AutoencoderKL
        The scene model's latent space.
    text_encoder, tokenizer
        Prompt to text states.
    scheduler : diffusers.DDIMScheduler
        AnimateDiff v3's noise schedule, or another solver for it.
    """

    unet: UNetMotionModel
    sparsectrl: SparseControlNetModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler


class FrameGroupNorm(nn.GroupNorm):
    """GroupNorm over each frame of (batch, channels, frames, height, width) by itself."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Normalize ``hidden`` frame by frame; the shape stays."""
        batch = hidden.shape[0]
        frames = super().forward(hidden.transpose(1, 2).flatten(0, 1))
        return frames.unflatten(0, (batch, -1)).transpose(1, 2)


def normalize_per_frame(network: nn.Module) -> nn.Module:
    """Make AnimateDiff layers normalize every frame by itself, as the original code does.

    diffusers pools the statistics over all frames of a clip, which changes the output of
    published motion modules (fixtures/generate/README.md, item 4).

    Parameters
    ----------
    network : torch.nn.Module
        A UNetMotionModel, SparseControlNetModel or MotionAdapter; changed in place, weights
        keep their names.

    Returns
    -------
    torch.nn.Module
        The same network.
    """
    for layer in network.modules():
        if isinstance(layer, AnimateDiffTransformer3D) and type(layer.norm) is nn.GroupNorm:
            old = layer.norm
            layer.norm = FrameGroupNorm(old.num_groups, old.num_channels, old.eps)
            layer.norm.weight, layer.norm.bias = old.weight, old.bias
    return network


def animatediff_scheduler() -> DDIMScheduler:
    """Return the DDIM scheduler of AnimateDiff v3's inference configuration.

    Linear betas from 0.00085 to 0.012, offset 1, no clipping; 25 steps are
    961, 921, ..., 41, 1 (fixtures/generate/README.md, item 3).
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="linear",
        steps_offset=1,
        clip_sample=False,
    )


def combine(scene: UNet2DConditionModel, adapter: MotionAdapter) -> UNetMotionModel:
    """Put a motion adapter into a scene model, with per-frame normalization."""
    return normalize_per_frame(UNetMotionModel.from_unet2d(scene, adapter))


def add_low_rank(scene: nn.Module, ref: str, what: str, scale: float = 1.0) -> nn.Module:
    """Add a low-rank change to layers of a scene model: AnimateDiff's domain adapter, or a LoRA.

    Parameters
    ----------
    scene : diffusers.UNet2DConditionModel
        Changed in place.
    ref : str
        Folder with ``adapter.safetensors``, from ``neuroclips models convert``.
    what : str
        Its name in ``[backbones]``.
    scale : float
        Strength; 1 in the released configuration.

    Returns
    -------
    torch.nn.Module
        The same network.

    Raises
    ------
    UserError
        If the file is missing or of another scene model; the first difference is named.
    """
    path = Path(resolve(ref)) / ADAPTER_FILE
    if not path.is_file():
        raise UserError(
            f"{what} {path} does not exist: make it with 'neuroclips models convert' from the "
            f"published file, or correct {what} in [backbones]."
        )
    state = read_tensors(path)
    weights: dict[str, torch.Tensor] = {}
    for name, weight in scene.named_parameters():
        layer = name.removesuffix(".weight")
        # LoRAs write underscores for the dots of a layer's name.
        weights |= {layer: weight, layer.replace(".", "_"): weight}
    with torch.no_grad():
        for layer in (n.removesuffix(".down") for n in state if n.endswith(".down")):
            down, up = state[f"{layer}.down"].float(), state[f"{layer}.up"].float()
            change = (up.flatten(1) @ down.flatten(1)).unflatten(1, down.shape[1:])
            found = weights.get(layer)
            if found is None or _extent(found) != _extent(change):
                has = "none" if found is None else tuple(found.shape)
                raise UserError(
                    f"{what} {path} is for another scene model: it changes '{layer}' "
                    f"of shape {tuple(change.shape)}, the scene model has {has}"
                )
            found.add_(scale * change.view_as(found))
    return scene


def _extent(weight: torch.Tensor) -> list[int]:
    """Return a layer's shape; a filter of one pixel is a matrix."""
    shape = list(weight.shape)
    while len(shape) > 2 and shape[-1] == 1:
        shape.pop()
    return shape


def load_video_models(
    backbones: BackboneSettings,
    device: str = "cpu",
    precision: str = "float32",
    *,
    distilled_scale: float = 1.0,
) -> VideoModels:
    """Load the text-to-video networks.

    Parameters
    ----------
    backbones : BackboneSettings
        ``vae``, ``text_encoder``, ``tokenizer``, ``scene_unet``, ``domain_adapter``,
        ``distilled_lora``, ``motion_adapter`` and ``sparsectrl`` are read.
    device : str
        A torch device.
    precision : str
        ``float32`` or ``bfloat16``; the VAE is float32 always.
    distilled_scale : float
        Strength of ``distilled_lora``.

    Returns
    -------
    VideoModels

    Raises
    ------
    UserError
        If one cannot be found.
    """
    scene: Any = load_network(UNet2DConditionModel, backbones.scene_unet, "cpu")
    if backbones.domain_adapter:
        add_low_rank(scene, backbones.domain_adapter, "domain_adapter")
    if backbones.distilled_lora:
        add_low_rank(scene, backbones.distilled_lora, "distilled_lora", distilled_scale)
    adapter: Any = load_network(MotionAdapter, backbones.motion_adapter, "cpu")
    unet = freeze(combine(scene, adapter), device)
    sparsectrl = load_network(
        SparseControlNetModel, backbones.sparsectrl, device, precision=precision
    )
    return VideoModels(
        unet=channels_last(compute_in(precision, unet)),
        sparsectrl=channels_last(normalize_per_frame(sparsectrl)),
        vae=load_vae(backbones.vae, device),
        text_encoder=load_network(
            CLIPTextModel, backbones.text_encoder, device, precision=precision
        ),
        tokenizer=load_pretrained(CLIPTokenizer, backbones.tokenizer),
        scheduler=load_scheduler(backbones.scene_unet, animatediff_scheduler()),
    )
