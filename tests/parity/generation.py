"""Records of what surrounds the generators: alpha guidance and the unCLIP sampler."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from neuroclips_cli.backbones.video import animatediff_scheduler
from neuroclips_cli.generation.alpha import eq5_coefficients, forward_diffuse, start_latents
from neuroclips_cli.generation.interpolation import interpolate_frames, interpolation_matrix
from neuroclips_cli.generation.keyframe import (
    CONTRASTS,
    OFFSET_NOISE,
    denoise_images,
    keyframe_scheduler,
    keyframe_timesteps,
    size_features,
)
from parity.records import Comparison, record, tensors
from parity.unclip import original_unet

_EXACT, _VALUES, _SAMPLED = 0.0, 1e-5, 5e-4


def compare_alpha() -> Comparison:
    """Compare everything in alpha_guidance: schedule, interpolation, starts, DDIM steps."""
    io = tensors("generate/alpha_guidance/arrays.safetensors")
    config = record("generate/alpha_guidance/config.json")
    found = Comparison("alpha_guidance", io)
    scheduler = animatediff_scheduler()
    scheduler.set_timesteps(config["num_inference_steps"])
    found.add("alphas_cumprod", scheduler.alphas_cumprod, 1e-6)
    found.add("timesteps_25", scheduler.timesteps, _EXACT)
    frames = [io[f"blurry_clip_{n}"].permute(0, 1, 3, 4, 2).numpy() for n in (6, 16)]
    few, many = frames[0].shape[1], frames[1].shape[1]
    smooth = torch.from_numpy(interpolate_frames(frames[0], many)).permute(0, 1, 4, 2, 3)
    found.add("blurry_clip_16", smooth, 1e-6)
    found.add("interpolation_matrix", interpolation_matrix(few, many), 1e-6)

    latents, noise = io["latents"], io["noise"]
    theta = config["low_strength"]
    started, steps = start_latents(latents, noise, scheduler, "released", theta)
    found.add("noised_latents_code", started, _VALUES)
    for array in [n for n in io if n.startswith("noised_latents_paper_")]:
        last, reached = config["coefficients"][array.removeprefix("noised_latents_")]["indices"]
        signal, spread = forward_diffuse(scheduler.alphas_cumprod, reached, last)
        found.add(array, signal * latents + spread * noise, _VALUES)
    for array, step in (("ddim_step_first", steps[0]), ("ddim_step_last", steps[-1])):
        made = scheduler.step(io["ddim_eps"], step, io["noised_latents_code"]).prev_sample
        found.add(array, made, _VALUES)
    return found


def compare_coefficients() -> Comparison:
    """Compare the signal and noise coefficients of config.json."""
    config = record("generate/alpha_guidance/config.json")
    recorded = {
        name: values.get("coefs") or [values["sqrt_abar"], values["sqrt_one_minus_abar"]]
        for name, values in config["coefficients"].items()
    }
    found = Comparison("alpha_guidance (coefficients)", recorded)
    scheduler = animatediff_scheduler()
    scheduler.set_timesteps(config["num_inference_steps"])
    table = scheduler.alphas_cumprod
    for name, values in config["coefficients"].items():
        if "indices" in values:
            last, reached = values["indices"]
            ours = forward_diffuse(table, reached, last)
        else:
            ours = forward_diffuse(table, None, values["timestep"])
        found.add(name, ours, 1e-6)
    first = next(n for n in recorded if n.startswith("paper_T999_"))
    theta = config["low_strength"]
    assert eq5_coefficients(table, theta) == forward_diffuse(table, round(theta * 1000) - 1, 999), (
        first
    )
    return found


def compare_schedule() -> Comparison:
    """Compare noise levels, visited steps and the size condition of the unCLIP sampler."""
    io = tensors("generate/unclip_sampling/schedule.safetensors")
    config = record("generate/unclip_sampling/config.json")
    found = Comparison("unclip_sampling/schedule", io)
    scheduler = keyframe_scheduler()
    table = scheduler.alphas_cumprod
    found.add("alphas_cumprod_float64", table, 1e-6)
    found.add("sigmas_1000_ascending", ((1 - table) / table).sqrt(), 1e-4)
    for array in [n for n in io if n.removeprefix("sigmas_").isdigit()]:
        scheduler.set_timesteps(timesteps=keyframe_timesteps(int(array.removeprefix("sigmas_"))))
        found.add(array, scheduler.sigmas, 1e-4)
    for array in [n for n in io if "timesteps_" in n]:
        found.add(array, keyframe_timesteps(int(array.rsplit("_", 1)[1])), _EXACT)
    sizes = torch.tensor([*config["original_size"], *config["crop"]], dtype=torch.float32)
    vector = size_features(sizes, io["vector_suffix"].shape[1])
    found.add("vector_suffix", vector[None], _VALUES)
    return found


class _Analytic:
    """The stand-in noise predictor of the record."""

    config = SimpleNamespace(class_embed_type=None)

    def __init__(self, gains: dict[str, float], vector: Tensor) -> None:
        self.gains, self.vector = gains, vector

    def __call__(self, latents: Tensor, step: Any, encoder_hidden_states: Tensor, **_: Any) -> Any:
        mean = encoder_hidden_states.mean((1, 2)) + self.vector.mean()
        shift = self.gains["b"] * mean + self.gains["d"] * step
        sample = self.gains["a"] * torch.tanh(latents) + shift[:, None, None, None]
        return SimpleNamespace(sample=sample)


class _WithVector:
    """The recorded network with the record's vector instead of the size condition."""

    config = SimpleNamespace(class_embed_type=None)

    def __init__(self, network: Any, vector: Tensor) -> None:
        self.network, self.vector = network, vector

    def __call__(self, latents: Tensor, step: Any, encoder_hidden_states: Tensor, **_: Any) -> Any:
        labels = self.vector.expand(len(latents), -1)
        return self.network(latents, step, encoder_hidden_states, class_labels=labels)


def compare_sampling(name: str) -> Comparison:
    """Compare a complete run of the unCLIP sampler: ``euler_analytic`` or ``euler_unet``."""
    io = tensors(f"generate/unclip_sampling/{name}.safetensors")
    config = record("generate/unclip_sampling/config.json")
    found = Comparison(f"unclip_sampling/{name}", io)
    scheduler = keyframe_scheduler()
    scheduler.set_timesteps(timesteps=keyframe_timesteps(config["num_steps"]))
    noise = io["noise"] + OFFSET_NOISE * io["offset"].reshape(-1, 1, 1, 1)
    start = io["z"] + scheduler.sigmas[0] * noise
    found.add("x_init", start, 1e-4)
    found.add("noised_z", start / (1 + scheduler.sigmas[0] ** 2).sqrt(), _VALUES)
    network: Any = (
        _Analytic(config["analytic_coefficients"], io["vector"])
        if name == "euler_analytic"
        else _WithVector(original_unet(), io["vector"])
    )
    states, clean = _followed(scheduler)
    condition = torch.cat([io["uncond_crossattn"], io["cond_crossattn"]])
    final = denoise_images(network, start, condition, scheduler, config["guidance_scale"])
    found.add("trajectory", torch.stack([*states, final]), _SAMPLED)
    found.add("denoised_cfg", torch.stack(clean), _SAMPLED)
    found.add("final_latent", final, _SAMPLED)
    # The record's stand-in decoder: three channels of the unscaled latent, a tenth as large.
    decoded = final[:, :3] * 0.1 / config["scale_factor"]
    found.add("final_image", contrast(decoded), _SAMPLED)
    return found


def _followed(scheduler: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Make a scheduler keep the state before each step and its estimate of the clean latent."""
    states: list[Tensor] = []
    clean: list[Tensor] = []
    step = scheduler.step

    def following(output: Tensor, time: Any, sample: Tensor, **options: Any) -> Any:
        result = step(output, time, sample, **options)
        states.append(sample)
        clean.append(result.pred_original_sample)
        return result

    scheduler.step = following
    return states, clean


def contrast(decoded: Tensor) -> Tensor:
    """Map decoder output to pixels 0..1 as ``keyframe_contrast = "released"`` does."""
    scale, shift = CONTRASTS["released"]
    return (scale * decoded + shift).clamp(0, 1)


def compare_postprocess() -> Comparison:
    """Compare the image mapping."""
    io = tensors("generate/unclip_sampling/postprocess.safetensors")
    found = Comparison("unclip_sampling/postprocess", io)
    return found.add("image", contrast(io["decoded"]), 1e-6)
