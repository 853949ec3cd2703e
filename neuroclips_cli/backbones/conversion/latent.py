"""VAEs and text encoders as published, in diffusers' and transformers' layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from neuroclips_cli.backbones.conversion.parts import (
    ConvertedNetwork,
    as_json,
    diffusers_part,
    need,
    require_layout,
)

if TYPE_CHECKING:
    from torch import Tensor

FIRST_STAGE = "first_stage_model."
TEXT_STAGE = "cond_stage_model.transformer."
SDXL_SCALING = 0.13025
BESIDE_TEXT = ("position_ids", "text_projection", "text_projection.weight", "logit_scale")
"""What merged scene models keep of CLIP beside the text encoder; Stable Diffusion never uses it."""
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of the VAE's attention in diffusers before 0.18."""


def vae_part(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], source: str
) -> ConvertedNetwork:
    """Convert a VAE in diffusers' names (``sd_image_var_autoenc.pth``) or the original ones.

    Parameters
    ----------
    weights : mapping
        The VAE alone, or a checkpoint that holds it under ``first_stage_model.``.
    config : mapping
        Overrides what follows from the shapes, such as ``scaling_factor`` (0.18215).
    source : str
        The file, for messages.
    """
    from diffusers import AutoencoderKL

    inner = {
        name.removeprefix(FIRST_STAGE): value
        for name, value in weights.items()
        if name.startswith(FIRST_STAGE)
    } or dict(weights)
    inner = {name: v for name, v in inner.items() if not name.startswith(("loss.", "model_ema."))}
    converted = _current_names(inner) if _is_diffusers(inner) else _from_ldm(inner, source)
    return diffusers_part(
        AutoencoderKL, {**_vae_config(converted, source), **config}, converted, source
    )


def _is_diffusers(weights: Mapping[str, Tensor]) -> bool:
    return any(name.startswith("encoder.down_blocks.") for name in weights)


def _current_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the attention of old diffusers files."""
    converted = {}
    for name, value in weights.items():
        head, _, last = name.rpartition(".")
        stem, _, old = head.rpartition(".")
        is_old = ".attentions." in name and old in OLD_ATTENTION
        converted[f"{stem}.{OLD_ATTENTION[old]}.{last}" if is_old else name] = value
    return converted


def _from_ldm(weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    need(weights, "encoder.down.0.block.0.conv1.weight", source, "VAE of Stable Diffusion")
    levels = {name.split(".")[2] for name in weights if name.startswith("encoder.down.")}
    converted: dict[str, Tensor] = convert_ldm_vae_checkpoint(
        dict(weights),
        {"down_block_types": list(levels), "up_block_types": list(levels)},
    )
    return converted


def _vae_config(weights: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    widths: list[int] = []
    while (name := f"encoder.down_blocks.{len(widths)}.resnets.0.conv1.weight") in weights:
        widths.append(weights[name].shape[0])
    start = "encoder.down_blocks.0.resnets."
    layers = {n[len(start) :].split(".")[0] for n in weights if n.startswith(start)}
    quant = need(weights, "post_quant_conv.weight", source, "VAE of Stable Diffusion")
    return {
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        "layers_per_block": len(layers),
        "latent_channels": quant.shape[0],
    }


def text_part(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], source: str
) -> ConvertedNetwork:
    """Convert the CLIP text encoder inside a Stable Diffusion 1.5 checkpoint.

    Parameters
    ----------
    weights : mapping
        A checkpoint with ``cond_stage_model.transformer.text_model.*``.
    config : mapping
        Overrides what follows from the shapes; heads are 64 wide.
    source : str
        The file, for messages.
    """
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    state = {
        name.removeprefix(TEXT_STAGE): value
        for name, value in weights.items()
        if name.startswith(TEXT_STAGE) and not name.endswith(BESIDE_TEXT)
    }
    words = need(state, "text_model.embeddings.token_embedding.weight", source, "CLIP text encoder")
    layers = {n.split(".")[3] for n in state if n.startswith("text_model.encoder.layers.")}
    found = {
        "vocab_size": words.shape[0],
        "hidden_size": words.shape[1],
        "intermediate_size": state["text_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(words.shape[1] // 64, 1),
        "projection_dim": words.shape[1],
        "max_position_embeddings": state["text_model.embeddings.position_embedding.weight"].shape[
            0
        ],
    }
    settled = CLIPTextConfig(**{**found, **config})
    with torch.device("meta"):
        network = CLIPTextModel(settled)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    # transformers 5 leaves the outer name out of its own names; it reads both
    outer = any(name.startswith("text_model.") for name in expected)
    expected = {name if outer else f"text_model.{name}": s for name, s in expected.items()}
    require_layout(expected, state, source, "CLIP text encoder")
    text = as_json({**settled.to_diff_dict(), "architectures": ["CLIPTextModel"]})
    return ConvertedNetwork(state, "model.safetensors", {"config.json": text})
