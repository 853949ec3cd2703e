"""Records of the video networks and of the guided sampling loop."""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from neuroclips_cli.backbones.video import (
    VideoModels,
    animatediff_scheduler,
    combine,
    normalise_per_frame,
)
from neuroclips_cli.generation.alpha import start_latents
from neuroclips_cli.generation.video import (
    VideoOptions,
    _first_frame_condition,
    denoise_clips,
)
from parity.records import Comparison, record, tensors

_UNET, _RESIDUAL, _MODULE, _LOOP = 2e-5, 2e-4, 1e-5, 2e-3


def _in_diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the original motion modules to diffusers' names; drop its position tables."""
    renamed = {}
    for name, value in state.items():
        if name.endswith("pos_encoder.pe"):
            continue
        name = name.replace(".temporal_transformer", "").replace("ff_norm", "norm3")
        for index in (0, 1):
            name = name.replace(f"attention_blocks.{index}", f"attn{index + 1}")
            if "motion_modules" in name:
                name = name.replace(f"norms.{index}", f"norm{index + 1}")
        renamed[name] = value
    return renamed


def _load(network: Any, path: str) -> Any:
    missing, unexpected = network.load_state_dict(_in_diffusers(tensors(path)), strict=False)
    wrong = [*unexpected, *(name for name in missing if "pos_embed" not in name)]
    if wrong:
        raise ValueError(f"{path} does not fit: {wrong[:3]}")
    return network.eval()


@lru_cache(maxsize=1)
def original_models() -> VideoModels:
    """Build the recorded denoiser and SparseCtrl branch with their weights."""
    from diffusers import MotionAdapter, SparseControlNetModel, UNet2DConditionModel

    u = record("generate/motion_unet/config.json")["unet"]
    scene = UNet2DConditionModel(
        sample_size=u["sample_size"],
        in_channels=u["in_channels"],
        out_channels=u["out_channels"],
        block_out_channels=u["block_out_channels"],
        down_block_types=[name.replace("3D", "2D") for name in u["down_block_types"]],
        up_block_types=[name.replace("3D", "2D") for name in u["up_block_types"]],
        layers_per_block=u["layers_per_block"],
        cross_attention_dim=u["cross_attention_dim"],
        attention_head_dim=u["attention_head_dim"],
    )
    motion = u["motion_module_kwargs"]
    adapter = MotionAdapter(
        block_out_channels=u["block_out_channels"],
        motion_layers_per_block=u["layers_per_block"],
        use_motion_mid_block=u["motion_module_mid_block"],
        motion_max_seq_length=motion["temporal_position_encoding_max_len"],
        motion_num_attention_heads=motion["num_attention_heads"],
    )
    unet = _load(combine(scene, adapter), "generate/motion_unet/state_dict.safetensors")
    c = record("generate/sparsectrl/config.json")["controlnet"]
    motion = c["motion_module_kwargs"]
    control = SparseControlNetModel(
        in_channels=c["in_channels"],
        conditioning_channels=c["conditioning_channels"],
        block_out_channels=c["block_out_channels"],
        down_block_types=[name.replace("3D", "Motion") for name in c["down_block_types"]],
        layers_per_block=c["layers_per_block"],
        cross_attention_dim=c["cross_attention_dim"],
        attention_head_dim=c["attention_head_dim"],
        num_attention_heads=c["num_attention_heads"],
        motion_num_attention_heads=motion["num_attention_heads"],
        motion_max_seq_length=motion["temporal_position_encoding_max_len"],
        use_simplified_condition_embedding=c["use_simplified_condition_embedding"],
    )
    control = _load(normalise_per_frame(control), "generate/sparsectrl/state_dict.safetensors")
    nothing: Any = None
    return VideoModels(unet, control, nothing, nothing, nothing, animatediff_scheduler())


def _states(io: dict[str, Tensor]) -> Tensor:
    return io["encoder_hidden_states"].repeat_interleave(io["sample"].shape[2], dim=0)


def _residuals(scale: float) -> tuple[list[Tensor], Tensor]:
    """Residuals of the control branch for the record's sample, in diffusers' layout."""
    io = tensors("generate/motion_unet/io.safetensors")
    given = tensors("generate/sparsectrl/io.safetensors")
    return original_models().sparsectrl(
        io["sample"],
        io["timestep"],
        encoder_hidden_states=_states(io),
        controlnet_cond=given["controlnet_cond"],
        conditioning_mask=given["conditioning_mask"],
        conditioning_scale=scale,
        return_dict=False,
    )


@torch.inference_mode()
def compare_unet() -> Comparison:
    """Compare the video denoiser with and without control, and its first motion module."""
    io = tensors("generate/motion_unet/io.safetensors")
    unet: Any = original_models().unet
    found = Comparison("motion_unet", io)
    args = io["sample"], io["timestep"], _states(io)
    first = unet.down_blocks[0].motion_modules[0]
    found.add("output_no_control", unet(*args).sample, _UNET)
    frames = io["motion_module_in"].transpose(1, 2).flatten(0, 1)
    alone = first(frames, num_frames=io["sample"].shape[2])
    alone = alone[0] if isinstance(alone, tuple) else alone
    shape = (len(io["sample"]), -1)
    found.add("motion_module_out", alone.unflatten(0, shape).transpose(1, 2), _MODULE)
    down, middle = _residuals(1.0)
    controlled = unet(
        *args, down_block_additional_residuals=down, mid_block_additional_residual=middle
    )
    return found.add("output_with_control", controlled.sample, _UNET)


@torch.inference_mode()
def compare_control() -> Comparison:
    """Compare the control branch's condition and residuals."""
    given = tensors("generate/sparsectrl/io.safetensors")
    found = Comparison("sparsectrl", given)
    frames = given["controlnet_cond"].shape[2]
    condition, mask = _first_frame_condition(given["condition_latents"][:, :, 0], frames)
    found.add("controlnet_cond", condition, 0.0).add("conditioning_mask", mask, 0.0)
    for scale in (1.0, 0.4):
        down, middle = _residuals(scale)
        end = "" if scale == 1.0 else f"_scale_{scale}"
        named = {f"down_residual_{i}{end}": value for i, value in enumerate(down)}
        named[f"mid_residual{end}"] = middle
        for array, value in named.items():
            if array in given:
                clips = value.unflatten(0, (len(condition), -1)).transpose(1, 2)
                found.add(array, clips, _RESIDUAL)
    return found


@torch.inference_mode()
def compare_loop() -> Comparison:
    """Compare the guided sampling loop step by step."""
    io = tensors("generate/neuroclips_pipeline/arrays.safetensors")
    config = record("generate/neuroclips_pipeline/config.json")
    found = Comparison("neuroclips_pipeline", io)
    models = original_models()
    scheduler = models.scheduler
    scheduler.set_timesteps(config["num_inference_steps"])
    theta = config["low_strength"]
    start, steps = start_latents(io["latents"], io["noise"], scheduler, "released", theta)
    found.add("start_latents", start, 1e-5).add("timesteps", steps, 0.0)
    options = VideoOptions(
        guidance_scale=config["guidance_scale"],
        control_scale=config["controlnet_conditioning_scale"],
    )
    first = io["controlnet_image_latents"][:, :, 0]
    after = _run(models, start, steps, io["text_embeddings"], options, first)
    found.add("trajectory_control", torch.stack(after), _LOOP)
    found.add("final_control", after[-1], _LOOP)
    after = _run(models, start, steps, io["text_embeddings"], options, None)
    found.add("step1_nocontrol", after[0], _LOOP)
    return found.add("final_nocontrol", after[-1], _LOOP)


def _run(
    models: VideoModels,
    start: Tensor,
    steps: Tensor,
    text: Tensor,
    options: VideoOptions,
    keyframes: Tensor | None,
) -> list[Tensor]:
    """Run the loop of ours and return the state after every step."""
    after: list[Tensor] = []

    def step(*args: Any) -> Any:
        result = models.scheduler.step(*args)
        after.append(result.prev_sample)
        return result

    parts: Any = SimpleNamespace(
        unet=models.unet, sparsectrl=models.sparsectrl, scheduler=SimpleNamespace(step=step)
    )
    denoise_clips(parts, start, steps, text, options, keyframes)
    return after
