"""AnimateDiff v3's motion module, domain adapter and SparseCtrl from their original files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from neuroclips_cli.backbones.catalog import ADAPTER_FILE
from neuroclips_cli.backbones.conversion.parts import ConvertedNetwork, diffusers_part, need
from neuroclips_cli.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

HEADS = 8  # of image and motion attention, as AnimateDiff v3's configuration says
POSITIONS = re.compile(r"(.*)\.temporal_transformer(.*)\.attention_blocks\.\d+\.pos_encoder\.pe$")


def motion_part(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], source: str
) -> ConvertedNetwork:
    """Convert a motion module to a ``MotionAdapter``.

    Parameters
    ----------
    weights : mapping
        ``down_blocks.*.motion_modules.*`` and so on, as published: under the original code's
        names, or under diffusers', as one of AnimateDiff-Lightning's files has them.
    config : mapping
        Overrides what follows from the shapes; the number of heads (8) does not.
    source : str
        The file, for messages.
    """
    from diffusers import MotionAdapter

    for name in weights:
        if "motion_modules." not in name:
            raise UserError(f"{source} is not a motion module: it holds '{name}'; check which file")
    found = {
        "block_out_channels": _widths(weights, "motion_modules", source),
        "motion_layers_per_block": _count(weights, "down_blocks.0.motion_modules."),
        "motion_max_seq_length": _longest(weights, source),
        "motion_num_attention_heads": HEADS,
        "use_motion_mid_block": any(name.startswith("mid_block.") for name in weights),
    }
    return diffusers_part(MotionAdapter, {**found, **config}, renamed(weights), source)


def sparsectrl_part(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], source: str
) -> ConvertedNetwork:
    """Convert SparseCtrl RGB to a ``SparseControlNetModel``; as :func:`motion_part`."""
    from diffusers import SparseControlNetModel

    what = "SparseCtrl network with an RGB condition"
    condition = need(weights, "controlnet_cond_embedding.weight", source, what)
    widths = _widths(weights, "resnets", source)
    crossed = [
        any(n.startswith(f"down_blocks.{level}.attentions.") for n in weights)
        for level in range(len(widths))
    ]
    text = next(v for n, v in weights.items() if n.endswith("attn2.to_k.weight"))
    found = {
        "in_channels": need(weights, "conv_in.weight", source, what).shape[1],
        "conditioning_channels": condition.shape[1] - 1,  # the mask is joined to the condition
        "block_out_channels": widths,
        "down_block_types": [
            "CrossAttnDownBlockMotion" if has else "DownBlockMotion" for has in crossed
        ],
        "layers_per_block": _count(weights, "down_blocks.0.resnets."),
        "cross_attention_dim": text.shape[1],
        "attention_head_dim": HEADS,
        "num_attention_heads": HEADS,
        "motion_num_attention_heads": HEADS,
        "motion_max_seq_length": _longest(weights, source),
        "use_simplified_condition_embedding": True,
    }
    return diffusers_part(SparseControlNetModel, {**found, **config}, renamed(weights), source)


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename motion modules by diffusers' own table, and keep their position tables.

    diffusers drops the tables and builds its own, which are equal; a folder without them would
    load with a complaint about missing weights.
    """
    if _as_diffusers(weights):
        return dict(weights)
    from diffusers.loaders.single_file_utils import convert_animatediff_checkpoint_to_diffusers

    converted: dict[str, Tensor] = convert_animatediff_checkpoint_to_diffusers(dict(weights))
    for name, value in weights.items():
        match = POSITIONS.fullmatch(name)
        if match:
            converted[f"{match[1]}{match[2]}.pos_embed.pe"] = value
    return converted


def adapter_part(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], source: str
) -> ConvertedNetwork:
    """Convert the domain adapter: a low-rank addition to every attention matrix of the scene model.

    ``*.attn1.processor.to_q_lora.down.weight`` and ``.up.weight``, as published, become
    ``<module>.down`` (rank, in) and ``<module>.up`` (out, rank) of a ``UNet2DConditionModel``.
    """
    converted: dict[str, Tensor] = {}
    for name, value in weights.items():
        match = re.fullmatch(r"(.*)\.processor\.(to_[a-z]+)_lora\.(down|up)\.weight", name)
        if not match:
            raise UserError(
                f"{source} is not a domain adapter: it holds '{name}'; check which file"
            )
        module = "to_out.0" if match[2] == "to_out" else match[2]
        converted[f"{match[1]}.{module}.{match[3]}"] = value
    for name in converted:
        counterpart = name[:-4] + "up" if name.endswith("down") else name[:-2] + "down"
        if counterpart not in converted:
            raise UserError(
                f"{source} is not a whole domain adapter: it lacks the counterpart of '{name}'"
            )
    return ConvertedNetwork(converted, ADAPTER_FILE)


def lora_part(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], source: str
) -> ConvertedNetwork:
    """Convert a LoRA of the scene model, as AnimateLCM's and the LCM LoRAs are published.

    ``lora_unet_<layer>.lora_down.weight``, ``.lora_up.weight`` and ``.alpha``, the layer's dots
    being underscores, become ``<layer>.down`` and ``<layer>.up``, the latter times alpha / rank,
    where alpha is given.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        match = re.fullmatch(r"lora_unet_(\w+)\.(lora_down\.weight|lora_up\.weight|alpha)", name)
        if not match:
            raise UserError(
                f"{source} is no LoRA of a scene model alone: it holds '{name}'; take one whose "
                "names are lora_unet_<layer>.lora_down.weight, .lora_up.weight and .alpha"
            )
        layers.setdefault(match[1], {})[match[2].removesuffix(".weight")] = value.float()
    converted: dict[str, Tensor] = {}
    for layer, found in layers.items():
        down, up = found.get("lora_down"), found.get("lora_up")
        if down is None or up is None or up.ndim < 2 or up.shape[1] != len(down):
            raise UserError(
                f"{source} is no whole LoRA: '{layer}' lacks a matrix or their ranks differ"
            )
        scale = float(found["alpha"]) / len(down) if "alpha" in found else 1.0
        converted |= {f"{layer}.down": down, f"{layer}.up": scale * up}
    return ConvertedNetwork(converted, ADAPTER_FILE)


def _widths(weights: Mapping[str, Tensor], modules: str, source: str) -> list[int]:
    """Channels of every level."""
    tail = "conv1.weight"
    if modules == "motion_modules":
        tail = "norm.weight" if _as_diffusers(weights) else "temporal_transformer.norm.weight"
    widths: list[int] = []
    while f"down_blocks.{len(widths)}.{modules}.0.{tail}" in weights:
        widths.append(weights[f"down_blocks.{len(widths)}.{modules}.0.{tail}"].shape[0])
    if not widths:
        need(weights, f"down_blocks.0.{modules}.0.{tail}", source, "network of AnimateDiff")
    return widths


def _as_diffusers(weights: Mapping[str, Tensor]) -> bool:
    """Tell whether motion modules have diffusers' names already."""
    return not any(".temporal_transformer." in name for name in weights)


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    return len({n[len(prefix) :].split(".")[0] for n in weights if n.startswith(prefix)})


def _longest(weights: Mapping[str, Tensor], source: str) -> int:
    """Most frames that the position tables hold."""
    for name, value in weights.items():
        if name.endswith(("pos_encoder.pe", "pos_embed.pe")):
            return value.shape[1]
    raise UserError(f"{source} lacks 'pos_encoder.pe', the motion module's position table")
