"""Miniatures of the weight files that authors publish outside of the hub's own formats.

Names, nesting, number formats and what trainers pickle beside the weights are those of the real
files. Widths are the smallest that the published numbers of heads (64 wide, or 8 of them) and of
norm groups (32) allow, since no shape tells those.
"""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import published_names as names
import random_backbones as tiny
import torch
from convnext_weights import convnext_state
from safetensors.torch import save_file
from torch import Tensor

GROUPS = 32
WIDTHS = (GROUPS, GROUPS)
"""Channels of the scene model's two levels, of its motion modules and of SparseCtrl."""
HEADS = 8
TEXT_DIM = 32
VECTOR = 4 * 8
"""Width of unCLIP's size condition: four numbers as sines and cosines."""
CONVNEXT_WIDTH = 4


def save_unclip(path: Path) -> None:
    """Write ``unclip6_epoch0_step110000.ckpt``: Lightning's checkpoint of Stability's code."""
    state = {
        **names.sgm_unet(unclip_unet()),
        # One level: unCLIP works at 96 x 96 latents whatever the widths, and these are its pixels.
        **names.ldm_vae(vae(levels=1)),
        "conditioner.embedders.0.open_clip.model.logit_scale": torch.tensor(4.6),
        "denoiser.sigmas": torch.linspace(0.03, 14.6, 1000),
    }
    with omegaconf_stand_in() as config:
        content = {
            "epoch": 0,
            "global_step": 110000,
            "pytorch-lightning_version": "2.0.1",
            "state_dict": state,
            "loops": {"fit_loop": {"state_dict": {}}},
            "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_path": ""}},
            "optimizer_states": [{"state": {}, "param_groups": [{"lr": 1e-5}]}],
            "lr_schedulers": [],
            "hparams_name": "kwargs",
            "hyper_parameters": config({"network_config": {"target": "sgm.modules.UNetModel"}}),
        }
        torch.save(content, path)


def unclip_unet() -> torch.nn.Module:
    """Return a denoiser shaped as SDXL-unCLIP: attention at the two coarsest levels.

    There is one fine level more than in the real network, since attention among 48 x 48 positions
    would take most of the rehearsal's time.
    """
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=96,
        block_out_channels=(32, 32, 64, 64),
        down_block_types=("DownBlock2D",) * 2 + ("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",) * 2,
        transformer_layers_per_block=(1, 1, 1, 2),
        layers_per_block=1,
        cross_attention_dim=tiny.TOKEN_DIM,
        attention_head_dim=(1, 1, 1, 1),
        use_linear_projection=True,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=VECTOR,
    )


def vae(levels: int) -> torch.nn.Module:
    """Return an AutoencoderKL that halves height and width ``levels - 1`` times."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(GROUPS,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=4,
    )


@contextmanager
def omegaconf_stand_in() -> Iterator[Any]:
    """Give a class that pickles as omegaconf's configuration, which is not installed here."""
    module = types.ModuleType("omegaconf.dictconfig")
    kind = type("DictConfig", (), {"__module__": module.__name__})
    module.DictConfig = kind  # type: ignore[attr-defined]

    def make(content: dict[str, Any]) -> Any:
        made = kind()
        made.__dict__.update({"_metadata": {"ref_type": "Any"}, "_content": content})
        return made

    modules = {"omegaconf": types.ModuleType("omegaconf"), module.__name__: module}
    with patch.dict(sys.modules, modules):
        yield make


def save_git_tokens(path: Path) -> None:
    """Write ``bigG_to_L_epoch8.pth``: GIT's map of image tokens."""
    layers = {
        "linear1": torch.nn.Linear(tiny.TOKENS, tiny.GIT_STATES),
        "linear2": torch.nn.Linear(tiny.TOKEN_DIM, tiny.GIT_WIDTH),
    }
    state = {f"{n}.{k}": v for n, layer in layers.items() for k, v in layer.state_dict().items()}
    torch.save({"model_state_dict": state, "epoch": 8}, path)


def save_image_vae(path: Path) -> None:
    """Write ``sd_image_var_autoenc.pth``: a VAE under the attention's names of old diffusers."""
    old = (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn"))
    state = {}
    for name, value in vae(levels=4).state_dict().items():
        for now, then in old:
            name = name.replace(f".{now}.", f".{then}.")
        state[name] = value
    torch.save(state, path)


def save_convnext(path: Path) -> None:
    """Write VICRegL's full checkpoint, with its options and its optimizer as objects."""
    state = convnext_state(CONVNEXT_WIDTH)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))])
    options = argparse.Namespace(arch="convnext_xlarge", alpha=0.75, epochs=300)
    torch.save({"epoch": 299, "model": state, "optimizer": optimizer, "args": options}, path)


def scene_unet() -> torch.nn.Module:
    """Return the denoiser of a Stable Diffusion 1.5 model."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=64,
        block_out_channels=WIDTHS,
        down_block_types=tiny.DOWN,
        up_block_types=tiny.UP,
        layers_per_block=1,
        cross_attention_dim=TEXT_DIM,
        attention_head_dim=HEADS,
    )


def save_scene(path: Path, tokenizer: Path) -> None:
    """Write ``Realistic_Vision_V6.0_NV_B1.safetensors``: one file, half precision, no VAE.

    As merged models do, it keeps CLIP's projection and position numbers beside the text encoder.
    """
    stage = "cond_stage_model.transformer."
    text = {
        f"{stage}text_model.{name.removeprefix('text_model.')}": value
        for name, value in text_encoder(tiny.vocabulary(tokenizer)).state_dict().items()
    }
    state = {**names.sgm_unet(scene_unet()), **text}
    state[f"{stage}text_projection.weight"] = torch.ones(TEXT_DIM, TEXT_DIM)
    half = {name: value.half().contiguous() for name, value in state.items()}
    half[f"{stage}text_model.embeddings.position_ids"] = torch.arange(tiny.CONTEXT)[None]
    save_file(half, path)


def text_encoder(words: int) -> torch.nn.Module:
    """Return the CLIP text model of a scene model."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=TEXT_DIM,
        intermediate_size=16,
        projection_dim=TEXT_DIM,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=tiny.CONTEXT,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
    )
    return CLIPTextModel(config)


def motion_adapter() -> torch.nn.Module:
    """Return AnimateDiff v3's motion modules; their output layers are not zero."""
    from diffusers import MotionAdapter

    adapter = MotionAdapter(
        block_out_channels=WIDTHS,
        motion_layers_per_block=1,
        motion_num_attention_heads=HEADS,
        motion_norm_num_groups=GROUPS,
        motion_max_seq_length=16,
        use_motion_mid_block=False,
    )
    return tiny.randomize(adapter)


def sparsectrl() -> torch.nn.Module:
    """Return SparseCtrl with an RGB condition; its zero convolutions are not zero."""
    from diffusers import SparseControlNetModel

    network = SparseControlNetModel(
        in_channels=4,
        conditioning_channels=4,
        block_out_channels=WIDTHS,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        layers_per_block=1,
        cross_attention_dim=TEXT_DIM,
        attention_head_dim=HEADS,
        num_attention_heads=HEADS,
        transformer_layers_per_block=1,
        motion_num_attention_heads=HEADS,
        motion_max_seq_length=16,
        use_simplified_condition_embedding=True,
    )
    return tiny.randomize(network)


def save_motion(path: Path) -> None:
    """Write ``v3_sd15_mm.ckpt``."""
    _save_animatediff(path, names.animatediff(motion_adapter()))


def save_sparsectrl(path: Path) -> None:
    """Write ``v3_sd15_sparsectrl_rgb.ckpt``."""
    state = names.animatediff(sparsectrl())
    torch.save({"controlnet": {f"module.{k}": v for k, v in state.items()}}, path)


def save_domain_adapter(path: Path) -> None:
    """Write ``v3_sd15_adapter.ckpt``: a low-rank change of every attention of the scene model."""
    state: dict[str, Tensor] = {}
    for name, value in scene_unet().state_dict().items():
        parts = name.removesuffix(".weight").split(".")
        place = next((i for i, part in enumerate(parts) if part in ("attn1", "attn2")), None)
        if place is None or value.ndim != 2 or not name.endswith(".weight"):
            continue
        stem = f"{'.'.join(parts[: place + 1])}.processor.{parts[place + 1]}_lora"
        state[f"{stem}.down.weight"] = torch.randn(2, value.shape[1]) * 0.02
        state[f"{stem}.up.weight"] = torch.randn(value.shape[0], 2) * 0.02
    _save_animatediff(path, state)


def _save_animatediff(path: Path, state: dict[str, Tensor]) -> None:
    """Write weights of a distributed training, and the configuration that is kept beside them."""
    wrapped = {f"module.{name}": value for name, value in state.items()}
    torch.save({"state_dict": wrapped, "animatediff_config": {"global_step": 500000}}, path)
