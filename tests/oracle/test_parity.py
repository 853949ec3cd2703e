"""Every recorded array of the original code against ours (as a table: docs/results/parity.md).

The records are inputs (``in.``), outputs, intermediate values and gradients; each test also fails
if a recorded array that is not an input is left uncompared.
"""

from __future__ import annotations

import pytest
from parity import generation, losses, perception, prior, semantics, signal, unclip, video
from parity.records import FIXTURES, Comparison

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(
        not FIXTURES.is_dir(), reason=f"no recorded references at {FIXTURES} (NEUROCLIPS_FIXTURES)"
    ),
]

_DESCRIBED = ("x1", "x2", "signal_gain", "n_full_voxels")


def hold(found: Comparison, *given: str) -> None:
    """Fail naming the arrays that differ too much or were not compared."""
    beyond = [
        f"{row.array}: {row.difference:.2g} > {row.tolerance:.2g}"
        for row in found.rows
        if not row.holds
    ]
    assert found.rows
    assert not beyond, f"{found.fixture} differs: {', '.join(beyond)}"
    left = found.left_out(*given)
    assert not left, f"{found.fixture} has arrays that nothing compares: {left}"


@pytest.mark.parametrize("name", semantics.NAMES)
def test_semantics_backbone_and_projectors(name):
    hold(semantics.compare(name), "in.")


@pytest.mark.parametrize("name", prior.NAMES)
def test_diffusion_prior(name):
    noise = ("sample.init_noise", "sample.ddim_step_noise", "sample.ddpm_step_noise")
    hold(prior.compare(name), "in.", *noise)


@pytest.mark.parametrize("name", prior.NAMES)
def test_noise_schedule_of_the_prior(name):
    hold(prior.compare_schedule(name), "diffusion_prior.net.")


@pytest.mark.parametrize("name", perception.NAMES)
def test_perception_reconstructor(name):
    hold(perception.compare(name), "in.")


def test_losses_gradients_mixing_and_schedules():
    given = ("in.", "pearson.in_", "mixco_a.", "mixco_b.")
    hold(losses.compare(), *given)
    hold(losses.compare_scalars())


def test_alpha_guidance():
    hold(generation.compare_alpha(), "blurry_clip_6", "latents", "noise", "ddim_eps")
    hold(generation.compare_coefficients())


def test_unclip_network():
    hold(unclip.compare(), "timesteps", "context", "time_ids", "x", "y")


@pytest.mark.parametrize("name", ["euler_analytic", "euler_unet"])
def test_unclip_sampler(name):
    hold(generation.compare_sampling(name), "cond_", "uncond_", "noise", "offset", "vector", "z")


def test_unclip_schedule_and_image_mapping():
    hold(generation.compare_schedule())
    hold(generation.compare_postprocess(), "decoded")


def test_video_networks():
    given = ("sample", "timestep", "encoder_hidden_states", "motion_module_in")
    hold(video.compare_unet(), *given)
    hold(video.compare_control(), "condition_latents")


def test_guided_sampling_loop():
    given = ("latents", "noise", "text_embeddings", "controlnet_image_latents")
    hold(video.compare_loop(), *given)


def test_preprocessing():
    given = [f"{run}_{name}" for run in signal.runs(signal.load()) for name in _DESCRIBED]
    raw = ("seg_raw_", "seg_signal_gain")
    hold(signal.compare(), *given, *raw)
