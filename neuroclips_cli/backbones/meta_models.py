"""The frozen networks at true size without their weights: on the meta device nothing is made.

A backbone whose folder is on this machine is built from its own configuration; one that still has
to be fetched, from the published sizes below.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuroclips_cli.backbones.catalog import NEEDED
from neuroclips_cli.backbones.loading import quiet_libraries
from neuroclips_cli.backbones.local_files import folder_of
from neuroclips_cli.backbones.references import locate
from neuroclips_cli.errors import UserError
from neuroclips_cli.protocols import EvaluatorReferences
from neuroclips_cli.settings.schema import BackboneSettings

_STABLE_VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
_CROSSED = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
PUBLISHED: dict[str, dict[str, Any]] = {
    "vae": _STABLE_VAE,
    "keyframe_vae": {**_STABLE_VAE, "scaling_factor": 0.13025},
    "unclip": {
        "sample_size": 96,
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "cross_attention_dim": 1664,
        "attention_head_dim": [5, 10, 20],
        "use_linear_projection": True,
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": 1024,
    },
    "scene_unet": {
        "sample_size": 64,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": _CROSSED,
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    },
    "motion_adapter": {
        "block_out_channels": [320, 640, 1280, 1280],
        "motion_layers_per_block": 2,
        "motion_num_attention_heads": 8,
        "motion_max_seq_length": 32,
        "use_motion_mid_block": False,
    },
    "sparsectrl": {
        "in_channels": 4,
        "conditioning_channels": 4,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": ["CrossAttnDownBlockMotion"] * 3 + ["DownBlockMotion"],
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "num_attention_heads": 8,
        "motion_num_attention_heads": 8,
        "motion_max_seq_length": 32,
        "use_simplified_condition_embedding": True,
    },
    "text_encoder": {
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 77,
        "projection_dim": 768,
    },
    "captioner": {
        "vision_config": {
            "hidden_size": 1408,
            "intermediate_size": 6144,
            "num_hidden_layers": 39,
            "num_attention_heads": 16,
            "image_size": 224,
            "patch_size": 14,
        },
        "qformer_config": {"vocab_size": 30523, "encoder_hidden_size": 1408},
        "text_config": {
            "model_type": "opt",
            "vocab_size": 50304,
            "hidden_size": 2560,
            "word_embed_proj_dim": 2560,
            "ffn_dim": 10240,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
        },
        "num_query_tokens": 32,
    },
    "image_classifier": {"num_labels": 1000},
    "video_classifier": {"num_labels": 400, "use_mean_pooling": True},
}
"""Sizes of the published networks, as their repositories' configurations state them; what is left
out has the library's default."""

CLIP_NAME = "ViT-bigG-14"
"""OpenCLIP's own name of the published CLIP model (paper 3.2)."""
CLIP_NAMES = {
    "timm/vit_large_patch14_clip_224.openai": "ViT-L-14",
    "timm/vit_base_patch32_clip_224.openai": "ViT-B-32",
}
"""OpenCLIP's own names of the models that evaluate."""


def build(
    name: str, backbones: BackboneSettings | EvaluatorReferences, device: str = "meta"
) -> nn.Module:
    """Build one frozen network, on the meta device or with random weights on another.

    Parameters
    ----------
    name : str
        A key of ``[backbones]`` that names a network, or an evaluator.
    backbones : BackboneSettings or EvaluatorReferences
        Where it is.
    device : str
        A torch device; its own generator draws the weights, which takes a GPU seconds.

    Returns
    -------
    torch.nn.Module
        In evaluation mode, without gradients.

    Raises
    ------
    UserError
        If its configuration describes no network of its kind.
    """
    quiet_libraries()
    config = own_config(name, backbones)
    try:
        with torch.device(device):
            network = _clip(config, backbones.clip) if name == "clip" else _network(name, config)
    except (KeyError, TypeError, ValueError) as problem:
        raise UserError(
            f"the configuration of {name} ({getattr(backbones, name)}) describes no such network "
            f"({type(problem).__name__}: {problem}): correct {name} in [backbones]"
        ) from problem
    return network.to(device).eval().requires_grad_(False)


def own_config(
    name: str, backbones: BackboneSettings | EvaluatorReferences
) -> dict[str, Any] | None:
    """Return the configuration that lies on this machine, or None where none does."""
    try:
        folder = folder_of(*locate(getattr(backbones, name)))
    except UserError:
        return None
    path = (folder or Path()) / NEEDED[name]
    if folder is None or not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise UserError(f"{path} is not valid JSON ({problem}): fetch {name} again") from problem
    return content


def _clip(config: dict[str, Any] | None, reference: str) -> nn.Module:
    import open_clip
    from open_clip.model import CLIP

    name = CLIP_NAMES.get(reference, CLIP_NAME)
    chosen = config["model_cfg"] if config else open_clip.get_model_config(name)
    sizes = {key: chosen[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}
    network: Any = CLIP(**sizes, output_dict=False)
    network.visual.output_tokens = True
    made: nn.Module = network
    return made


def _network(name: str, config: dict[str, Any] | None) -> nn.Module:
    """Build a network of diffusers or transformers."""
    import diffusers
    import transformers

    chosen = dict(PUBLISHED[name] if config is None else config)
    of_diffusers: dict[str, Any] = {
        "vae": diffusers.AutoencoderKL,
        "keyframe_vae": diffusers.AutoencoderKL,
        "unclip": diffusers.UNet2DConditionModel,
        "scene_unet": diffusers.UNet2DConditionModel,
        "motion_adapter": diffusers.MotionAdapter,
        "sparsectrl": diffusers.SparseControlNetModel,
    }
    if name in of_diffusers:
        made: nn.Module = of_diffusers[name].from_config(chosen)
        return made
    of_transformers: dict[str, tuple[Any, Any]] = {
        "text_encoder": (transformers.CLIPTextConfig, transformers.CLIPTextModel),
        "captioner": (transformers.Blip2Config, transformers.Blip2ForConditionalGeneration),
        "image_classifier": (transformers.ViTConfig, transformers.ViTForImageClassification),
        "video_classifier": (
            transformers.VideoMAEConfig,
            transformers.VideoMAEForVideoClassification,
        ),
    }
    kind, network = of_transformers[name]
    made = network(kind.from_dict(chosen))
    return made
