"""The frozen networks at true size without their weights: on the meta device nothing is made.

A backbone whose folder is on this machine is built from its own configuration; one that still has
to be fetched, from the published sizes below.
"""

from __future__ import annotations

import json
from importlib.resources import files
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

PUBLISHED: dict[str, dict[str, Any]] = json.loads(
    files("neuroclips_cli").joinpath("assets/published_networks.json").read_text("utf-8")
)
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
