"""Records of the video networks and of the guided sampling loop."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from neuroclips_cli.backbones.video import (
    VideoModels,
    animatediff_scheduler,
    combine,
    normalize_per_frame,
)
from neuroclips_cli.generation.alpha import start_latents
from neuroclips_cli.generation.video import (
    VideoOptions,
    denoise_clips,
    keyframe_condition,
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
        num_attention_heads=c["attention_head_dim"],
        motion_num_attention_heads=motion["num_attention_heads"],
        motion_max_seq_length=motion["temporal_position_encoding_max_len"],
        use_simplified_condition_embedding=c["use_simplified_condition_embedding"],
    )
    set_middle_heads(control, c["num_attention_heads"])
    control = _load(normalize_per_frame(control), "generate/sparsectrl/state_dict.safetensors")
    nothing: Any = None
    return VideoModels(unet, control, nothing, nothing, nothing, animatediff_scheduler())


def set_middle_heads(control: Any, heads: int | None) -> None:
    """Give the middle block a head count of its own, as the original's ``num_attention_heads``."""
    for module in control.mid_block.modules():
        is_image = module.__class__.__name__ == "Attention" and hasattr(module, "heads")
        if heads and is_image:
            module.scale = (module.to_q.out_features / heads) ** -0.5
            module.heads = heads


def _states(io: dict[str, Tensor]) -> Tensor:
    return io["encoder_hidden_states"].repeat_interleave(io["sample"].shape[2], dim=0)


@lru_cache(maxsize=1)
def exact_models() -> VideoModels:
    """Return the recorded networks in float64, to tell rounding from difference."""
    models = original_models()
    double: Any = [deepcopy(part).to(torch.float64) for part in (models.unet, models.sparsectrl)]
    return replace(models, unet=double[0], sparsectrl=double[1])


def _both(compute: Callable[[VideoModels, dict[str, Tensor]], Any], io: dict[str, Tensor]) -> Any:
    """Compute in float32 and in float64."""
    double = {k: v.double() if v.is_floating_point() else v for k, v in io.items()}
    return compute(original_models(), io), compute(exact_models(), double)


def _residuals(
    models: VideoModels, io: dict[str, Tensor], scale: float
) -> tuple[list[Tensor], Tensor]:
    """Residuals of the control branch for the record's sample, in diffusers' layout."""
    return models.sparsectrl(
        io["sample"],
        io["timestep"],
        encoder_hidden_states=_states(io),
        controlnet_cond=io["controlnet_cond"],
        conditioning_mask=io["conditioning_mask"],
        conditioning_scale=scale,
        return_dict=False,
    )


def _unet_outputs(models: VideoModels, io: dict[str, Tensor]) -> dict[str, Tensor]:
    """The denoiser's outputs and its first motion module's."""
    unet: Any = models.unet
    args = io["sample"], io["timestep"], _states(io)
    frames = io["motion_module_in"].transpose(1, 2).flatten(0, 1)
    alone = unet.down_blocks[0].motion_modules[0](frames, num_frames=io["sample"].shape[2])
    alone = alone[0] if isinstance(alone, tuple) else alone
    down, middle = _residuals(models, io, 1.0)
    controlled = unet(
        *args, down_block_additional_residuals=down, mid_block_additional_residual=middle
    )
    return {
        "output_no_control": unet(*args).sample,
        "motion_module_out": alone.unflatten(0, (len(io["sample"]), -1)).transpose(1, 2),
        "output_with_control": controlled.sample,
    }


def _given() -> dict[str, Tensor]:
    """Inputs of the denoiser and of the control branch."""
    return tensors("generate/motion_unet/io.safetensors") | tensors(
        "generate/sparsectrl/io.safetensors"
    )


@torch.inference_mode()
def compare_unet() -> Comparison:
    """Compare the video denoiser with and without control, and its first motion module."""
    found = Comparison("motion_unet", tensors("generate/motion_unet/io.safetensors"))
    ours, exact = _both(_unet_outputs, _given())
    for array, value in ours.items():
        tolerance = _MODULE if array == "motion_module_out" else _UNET
        found.add(array, value, tolerance, exact=exact[array])
    return found


def _control_outputs(models: VideoModels, io: dict[str, Tensor]) -> dict[str, Tensor]:
    """Residuals at both recorded scales, in the original's layout."""
    named: dict[str, Tensor] = {}
    for scale in (1.0, 0.4):
        down, middle = _residuals(models, io, scale)
        end = "" if scale == 1.0 else f"_scale_{scale}"
        named |= {f"down_residual_{i}{end}": value for i, value in enumerate(down)}
        named[f"mid_residual{end}"] = middle
    clips = len(io["sample"])
    return {k: v.unflatten(0, (clips, -1)).transpose(1, 2) for k, v in named.items()}


@torch.inference_mode()
def compare_control() -> Comparison:
    """Compare the control branch's condition and residuals."""
    given = tensors("generate/sparsectrl/io.safetensors")
    found = Comparison("sparsectrl", given)
    frames = given["controlnet_cond"].shape[2]
    places = record("generate/sparsectrl/config.json")["condition_frame_index"]
    condition, mask = keyframe_condition(given["condition_latents"], frames, places)
    shape = (len(given["controlnet_cond"]), -1, -1, -1, -1)
    condition, mask = condition.expand(shape), mask.expand(shape)
    found.add("controlnet_cond", condition, 0.0).add("conditioning_mask", mask, 0.0)
    ours, exact = _both(_control_outputs, _given())
    for array in ours.keys() & given.keys():
        found.add(array, ours[array], _RESIDUAL, exact=exact[array])
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
        keyframe_places=tuple(config["controlnet_image_index"]),
    )
    first = io["controlnet_image_latents"].expand(len(io["latents"]), -1, -1, -1, -1)
    given = {"start": start, "text": io["text_embeddings"], "keyframes": first}

    def with_control(networks: VideoModels, io: dict[str, Tensor]) -> list[Tensor]:
        return _run(networks, io["start"], steps, io["text"], options, io["keyframes"])

    def without(networks: VideoModels, io: dict[str, Tensor]) -> list[Tensor]:
        return _run(networks, io["start"], steps, io["text"], options, None)

    ours, exact = _both(with_control, given)
    found.add("trajectory_control", torch.stack(ours), _LOOP, exact=torch.stack(exact))
    found.add("final_control", ours[-1], _LOOP, exact=exact[-1])
    ours, exact = _both(without, given)
    found.add("step1_nocontrol", ours[0], _LOOP, exact=exact[0])
    return found.add("final_nocontrol", ours[-1], _LOOP, exact=exact[-1])


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

    def step(*args: Any, **more: Any) -> Any:
        result = models.scheduler.step(*args, **more)
        after.append(result.prev_sample)
        return result

    scale = models.scheduler.scale_model_input
    parts: Any = SimpleNamespace(
        unet=models.unet,
        sparsectrl=models.sparsectrl,
        scheduler=SimpleNamespace(step=step, scale_model_input=scale),
    )
    denoise_clips(parts, start, steps, text, options, keyframes)
    return after
