"""Small random networks written under the names of the original code, to be converted back."""

from __future__ import annotations

import re

import torch
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
STEM = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "class_embedding.linear_1": "label_emb.0.0",
    "class_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def sgm_unet(network: torch.nn.Module) -> dict[str, Tensor]:
    """Name a UNet2DConditionModel as Stability's code does (fixtures' README, item 1)."""
    layers = network.config.layers_per_block
    renamed = {}
    for name, value in network.state_dict().items():
        renamed["model.diffusion_model." + _sgm_name(name, layers, network)] = value
    return renamed


def _sgm_name(name: str, layers: int, network: torch.nn.Module) -> str:
    for ours, theirs in STEM.items():
        if name.startswith(ours + "."):
            return theirs + name[len(ours) :]
    if name.startswith("mid_block"):
        _, kind, index, rest = name.split(".", 3)
        block = f"middle_block.{2 * int(index) if kind == 'resnets' else 1}"
        return f"{block}.{_inner(kind, rest)}"
    side, level, kind, index, rest = name.split(".", 4)
    if kind == "downsamplers":
        return f"input_blocks.{(layers + 1) * (int(level) + 1)}.0.op.{rest.split('.')[-1]}"
    if kind == "upsamplers":
        block = (layers + 1) * int(level) + layers
        crossed = "CrossAttn" in network.config.up_block_types[int(level)]
        return f"output_blocks.{block}.{2 if crossed else 1}.{rest}"
    start = 1 if side == "down_blocks" else 0
    block = start + (layers + 1) * int(level) + int(index)
    head = "input_blocks" if start else "output_blocks"
    return f"{head}.{block}.{0 if kind == 'resnets' else 1}.{_inner(kind, rest)}"


def _inner(kind: str, rest: str) -> str:
    if kind == "attentions":
        return rest
    part, _, end = rest.partition(".")
    return f"{RESNET[part]}.{end}"


def ldm_vae(network: torch.nn.Module, prefix: str = "first_stage_model.") -> dict[str, Tensor]:
    """Name an AutoencoderKL as CompVis' code does."""
    levels = len(network.config.block_out_channels)
    renamed = {}
    for name, value in network.state_dict().items():
        new = re.sub(r"(en|de)coder\.conv_norm_out", r"\1coder.norm_out", name)
        new = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", new)
        new = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", new)
        new = re.sub(
            r"up_blocks\.(\d+)\.resnets\.(\d+)",
            lambda m: f"up.{levels - 1 - int(m[1])}.block.{m[2]}",
            new,
        )
        new = re.sub(
            r"up_blocks\.(\d+)\.upsamplers\.0",
            lambda m: f"up.{levels - 1 - int(m[1])}.upsample",
            new,
        )
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        new = new.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
        new = new.replace("conv_shortcut", "nin_shortcut").replace("to_out.0", "proj_out")
        new = re.sub(r"to_([qkv])", r"\1", new)
        if ".attn_1." in new and value.ndim == 2:
            value = value[:, :, None, None]
        renamed[prefix + new] = value
    return renamed


def animatediff(network: torch.nn.Module) -> dict[str, Tensor]:
    """Name motion modules as AnimateDiff's own files do."""
    renamed = {}
    for name, value in network.state_dict().items():
        if "motion_modules" not in name:
            renamed[name] = value
            continue
        name = re.sub(r"(motion_modules\.\d+)\.", r"\1.temporal_transformer.", name)
        if name.endswith("pos_embed.pe"):
            head = name.removesuffix("pos_embed.pe")
            alone = not any(k.endswith("attn2.to_q.weight") for k in _motion(network))
            for index in (0,) if alone else (0, 1):
                renamed[f"{head}attention_blocks.{index}.pos_encoder.pe"] = value.clone()
            continue
        for ours, theirs in (
            (".attn1.", ".attention_blocks.0."),
            (".attn2.", ".attention_blocks.1."),
            (".norm1.", ".norms.0."),
            (".norm2.", ".norms.1."),
            (".norm3.", ".ff_norm."),
        ):
            name = name.replace(ours, theirs)
        renamed[name] = value
    return renamed


def _motion(network: torch.nn.Module) -> list[str]:
    return [name for name in network.state_dict() if "motion_modules" in name]
