"""The record of the unCLIP network."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from neuroclips_cli.generation.keyframe import size_features
from parity.records import Comparison, part, record, tensors

_FOLDER = "generate/unclip_unet"
_TOLERANCE = 1e-5


@lru_cache(maxsize=1)
def original_unet() -> Any:
    """Build the recorded network in diffusers, its weights renamed by diffusers' own function."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    original = record(f"{_FOLDER}/config.json")["unet"]
    widths = [original["model_channels"] * factor for factor in original["channel_mult"]]
    attended = [2**level in original["attention_resolutions"] for level in range(len(widths))]
    network = UNet2DConditionModel(
        in_channels=original["in_channels"],
        out_channels=original["out_channels"],
        block_out_channels=widths,
        layers_per_block=original["num_res_blocks"],
        down_block_types=["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attended],
        up_block_types=["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attended[::-1]],
        transformer_layers_per_block=original["transformer_depth"],
        attention_head_dim=[width // original["num_head_channels"] for width in widths],
        cross_attention_dim=original["context_dim"],
        use_linear_projection=original["use_linear_in_transformer"],
        class_embed_type="projection",
        projection_class_embeddings_input_dim=original["adm_in_channels"],
    )
    state = part(tensors(f"{_FOLDER}/state_dict.safetensors"), "model.diffusion_model.")
    renamed = convert_ldm_unet_checkpoint(
        {f"model.diffusion_model.{k}": v for k, v in state.items()}, dict(network.config)
    )
    network.load_state_dict(renamed)
    return network.eval()


@torch.no_grad()
def compare() -> Comparison:
    """Compare outputs and intermediate values."""
    io = tensors(f"{_FOLDER}/io.safetensors")
    network = original_unet()
    found = Comparison("unclip_unet", io)
    caught: dict[str, Any] = {}
    modules = {
        "input_block_0": network.conv_in,
        "input_block_last": network.down_blocks[-1],
        "middle_block": network.mid_block,
        "time_embed": network.time_embedding,
        "label_embed": network.class_embedding,
    }

    def keep(key: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            caught[key] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [module.register_forward_hook(keep(key)) for key, module in modules.items()]
    args = io["x"], io["timesteps"], io["context"]
    found.add("output", network(*args, class_labels=io["y"]).sample, _TOLERANCE)
    for handle in handles:
        handle.remove()
    for key, value in caught.items():
        # Inner states reach 15, where float32 itself steps by 1e-6.
        found.add(key, value, _TOLERANCE, relative=2e-6)
    vectors = torch.stack([size_features(ids, io["y"].shape[1]) for ids in io["time_ids"]])
    found.add("y_from_time_ids", vectors, _TOLERANCE)
    made = network(*args, class_labels=vectors).sample
    return found.add("output_from_time_ids", made, _TOLERANCE)
