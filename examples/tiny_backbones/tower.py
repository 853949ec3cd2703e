"""Start the captioner's vision transformer from CLIP's image tower.

Published BLIP-2 models start from trained vision transformers as well; here it saves most of
their training. The tower's layer norm before the first block has no counterpart in
the other architectures and is left out; their own training makes up for it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .clip import VISION

BLIP2 = {
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.class_embedding": "class_embedding",
    "embeddings.position_embedding": "positional_embedding",
    "post_layernorm": "ln_post",
    "encoder.layers.{i}.self_attn.qkv": "attn.in_proj",
    "encoder.layers.{i}.layer_norm1": "ln_1",
    "encoder.layers.{i}.layer_norm2": "ln_2",
    "encoder.layers.{i}.self_attn.projection": "attn.out_proj",
    "encoder.layers.{i}.mlp.fc1": "mlp.c_fc",
    "encoder.layers.{i}.mlp.fc2": "mlp.c_proj",
}


def start_from_clip(model: nn.Module, names: dict[str, str], clip_folder: Path) -> None:
    """Copy CLIP's image tower into a model.

    Parameters
    ----------
    model : torch.nn.Module
        Of the tower's width and depth, patches of 16; changed in place.
    names : dict
        The model's name -> the tower's name: of a tensor, or of a layer with weight and bias;
        ``{i}`` stands for the number of the block.
    clip_folder : Path
        Folder of the OpenCLIP model.
    """
    tower = _tower(clip_folder)
    own = model.state_dict()
    started: dict[str, Tensor] = {}
    for name, source in names.items():
        for i in range(VISION["layers"]) if "{i}" in name else [None]:
            block = "" if i is None else f"transformer.resblocks.{i}."
            target = name if i is None else name.format(i=i)
            found = (
                {target: block + source}
                if target in own
                else {f"{target}.{kind}": f"{block}{source}.{kind}" for kind in ("weight", "bias")}
            )
            for key, value in found.items():
                if key in own:
                    started[key] = _fit(tower[value], own[key])
    missing, unknown = model.load_state_dict(started, strict=False)
    if unknown or len(missing) == len(own):
        raise ValueError(f"CLIP's tower does not fit: {unknown}")


def _tower(folder: Path) -> dict[str, Tensor]:
    weights = load_file(folder / "open_clip_model.safetensors")
    tower = {k.removeprefix("visual."): v.float() for k, v in weights.items() if "visual." in k}
    for i in range(VISION["layers"]):
        for kind in ("weight", "bias"):
            block = f"transformer.resblocks.{i}.attn"
            # BLIP-2 keeps the three projections together, under the name of a layer.
            tower[f"{block}.in_proj.{kind}"] = tower[f"{block}.in_proj_{kind}"]
            parts = tower[f"{block}.in_proj_{kind}"].chunk(3)
            for letter, part in zip("qkv", parts, strict=True):
                tower[f"{block}.{letter}.{kind}"] = part
    return tower


def _fit(value: Tensor, own: Tensor) -> Tensor:
    if own.ndim == 5:  # patches of two frames: each frame gives half
        return (value[:, :, None] / own.shape[2]).expand_as(own).clone()
    return value.reshape(own.shape).clone()


def zero_patch_bias(model: nn.Module) -> None:
    """Zero the bias of patch embeddings, which CLIP's tower does not have."""
    for name, parameter in model.named_parameters():
        if "patch_embedding" in name and name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
