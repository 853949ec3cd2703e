"""Guidance, samplers and video networks against records of the original code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from neuroclips_cli.backbones.video import (
    VideoModels,
    animatediff_scheduler,
    combine,
    normalise_per_frame,
)
from neuroclips_cli.generation.alpha import eq5_coefficients, start_latents
from neuroclips_cli.generation.interpolation import interpolate_frames, interpolation_matrix
from neuroclips_cli.generation.keyframe import (
    OFFSET_NOISE,
    denoise_images,
    keyframe_scheduler,
    keyframe_timesteps,
    size_vector,
)
from neuroclips_cli.generation.video import VideoOptions, denoise_clips

SHARED = Path(os.environ.get("NEUROCLIPS_SHARED", Path(__file__).parents[1].parent / "shared"))
FIXTURES = SHARED / "fixtures" / "generate"
pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no reference records at {FIXTURES}"),
]


def test_six_frames_become_sixteen_as_in_the_released_code():
    record = load_file(FIXTURES / "alpha_guidance" / "arrays.safetensors")
    matrix = record["interpolation_matrix"].numpy()
    assert np.abs(interpolation_matrix(6, 16) - matrix).max() < 1e-6
    six = record["blurry_clip_6"].permute(0, 1, 3, 4, 2).numpy()
    sixteen = record["blurry_clip_16"].permute(0, 1, 3, 4, 2).numpy()
    assert np.abs(interpolate_frames(six, 16) - sixteen).max() < 1e-6


def test_every_alpha_start_has_the_recorded_coefficients():
    record = load_file(FIXTURES / "alpha_guidance" / "arrays.safetensors")
    config = json.loads((FIXTURES / "alpha_guidance" / "config.json").read_text())
    scheduler = animatediff_scheduler()
    scheduler.set_timesteps(25)
    assert scheduler.timesteps.tolist() == record["timesteps_25"].tolist()
    expected = config["coefficients"]["paper_T999_thetaT299"]["coefs"]
    assert eq5_coefficients(scheduler.alphas_cumprod, 0.3) == pytest.approx(expected, abs=1e-6)

    latents, noise = record["latents"], record["noise"]
    released, steps = start_latents(latents, noise, scheduler, "released", 0.3)
    assert torch.allclose(released, record["noised_latents_code"], atol=1e-5)
    assert len(steps) == 25
    eq5, steps = start_latents(latents, noise, scheduler, "eq5", 0.3)
    assert torch.allclose(eq5, record["noised_latents_paper_T999_thetaT299"], atol=1e-5)
    assert len(steps) == 25
    image_to_image, steps = start_latents(latents, noise, scheduler, "strength:0.28", 0.3)
    recorded = config["coefficients"]["commented_out_img2img"]
    mixed = recorded["sqrt_abar"] * latents + recorded["sqrt_one_minus_abar"] * noise
    assert torch.allclose(image_to_image, mixed, atol=1e-5)
    assert steps.tolist() == [241, 201, 161, 121, 81, 41, 1]


def test_unclip_visits_the_released_steps_and_noise_levels():
    record = load_file(FIXTURES / "unclip_sampling" / "schedule.safetensors")
    steps = keyframe_timesteps(38)
    assert steps == record["timesteps_38"].tolist()
    scheduler = keyframe_scheduler()
    scheduler.set_timesteps(timesteps=steps)
    assert torch.allclose(scheduler.sigmas, record["sigmas_38"].float(), atol=1e-4)
    config = SimpleNamespace(
        class_embed_type="projection", projection_class_embeddings_input_dim=1024, sample_size=96
    )
    vector = size_vector(SimpleNamespace(config=config))
    assert torch.allclose(vector, record["vector_suffix"][0], atol=1e-5)


class AnalyticNetwork:
    """The stand-in noise predictor of the record, with its vector condition built in."""

    config = SimpleNamespace(class_embed_type=None)

    def __init__(self, vector: torch.Tensor) -> None:
        coefficients = json.loads((FIXTURES / "unclip_sampling" / "config.json").read_text())
        self.gains = coefficients["analytic_coefficients"]
        self.vector = vector

    def __call__(self, latents, step, encoder_hidden_states, class_labels=None):
        mean = encoder_hidden_states.mean((1, 2)) + self.vector.mean()
        shift = self.gains["b"] * mean + self.gains["d"] * step
        sample = self.gains["a"] * torch.tanh(latents) + shift[:, None, None, None]
        return SimpleNamespace(sample=sample)


def test_keyframe_sampler_follows_the_recorded_trajectory():
    record = load_file(FIXTURES / "unclip_sampling" / "euler_analytic.safetensors")
    scheduler = keyframe_scheduler()
    scheduler.set_timesteps(timesteps=keyframe_timesteps(38))
    noise = record["noise"] + OFFSET_NOISE * record["offset"].reshape(-1, 1, 1, 1)
    start = record["z"] + scheduler.sigmas[0] * noise
    assert torch.allclose(start, record["x_init"], atol=1e-4)
    condition = torch.cat([record["uncond_crossattn"], record["cond_crossattn"]])
    network = AnalyticNetwork(record["vector"])
    final = denoise_images(network, start, condition, scheduler, 5.0)
    assert torch.allclose(final, record["final_latent"], atol=5e-4)


def original_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
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


def load_checked(network: torch.nn.Module, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected
    assert all("pos_embed" in name for name in missing)
    return network.eval()


@pytest.fixture(scope="module")
def original_models() -> VideoModels:
    from diffusers import MotionAdapter, SparseControlNetModel, UNet2DConditionModel

    scene = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=8,
    )
    adapter = MotionAdapter(
        block_out_channels=(32, 64),
        motion_layers_per_block=1,
        use_motion_mid_block=False,
        motion_max_seq_length=32,
        motion_num_attention_heads=8,
    )
    unet = combine(scene, adapter)
    weights = load_file(FIXTURES / "motion_unet" / "state_dict.safetensors")
    control = SparseControlNetModel(
        conditioning_channels=4,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=8,
        num_attention_heads=8,
        motion_num_attention_heads=8,
        motion_max_seq_length=32,
        use_simplified_condition_embedding=True,
    )
    control_weights = load_file(FIXTURES / "sparsectrl" / "state_dict.safetensors")
    return VideoModels(
        unet=load_checked(unet, original_names(weights)),
        sparsectrl=load_checked(normalise_per_frame(control), original_names(control_weights)),
        vae=None,
        text_encoder=None,
        tokenizer=None,
        scheduler=animatediff_scheduler(),
    )


def test_video_denoiser_with_per_frame_normalisation_matches_the_original(original_models):
    record = load_file(FIXTURES / "motion_unet" / "io.safetensors")
    text = record["encoder_hidden_states"].repeat_interleave(8, dim=0)
    with torch.inference_mode():
        output = original_models.unet(record["sample"], record["timestep"], text).sample
    assert torch.allclose(output, record["output_no_control"], atol=2e-5)


@pytest.mark.parametrize("control", ["control", "nocontrol"])
def test_guided_sampling_loop_matches_the_original(original_models, control):
    record = load_file(FIXTURES / "neuroclips_pipeline" / "arrays.safetensors")
    scheduler = original_models.scheduler
    scheduler.set_timesteps(25)
    start, steps = start_latents(
        record["latents"], record["noise"], scheduler, "released", theta=0.3
    )
    keyframes = record["controlnet_image_latents"][:, :, 0] if control == "control" else None
    final = denoise_clips(
        original_models,
        start,
        steps,
        record["text_embeddings"],
        VideoOptions(guidance_scale=8.5, control_scale=1.0),
        keyframes,
    )
    assert torch.allclose(final, record[f"final_{control}"], atol=2e-3)
