"""The diffusion prior against numbers recorded from the released code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from neuroclips_cli.models.prior import DiffusionPrior

pytestmark = pytest.mark.oracle

FOLDER = (
    Path(os.environ.get("NEUROCLIPS_FIXTURES", Path(__file__).parents[2] / "shared/fixtures"))
    / "models"
)
PREFIX = "diffusion_prior."


@pytest.fixture(params=["diffusion_prior", "diffusion_prior_wide"])
def recorded(request):
    if not (FOLDER / f"{request.param}.json").exists():
        pytest.skip(f"recorded prior not found in {FOLDER}")
    config = json.loads((FOLDER / f"{request.param}.json").read_text())["config"]
    prior = DiffusionPrior(
        config["dim"],
        config["tokens"],
        depth=config["depth"],
        heads=config["heads"],
        head_dim=config["dim_head"],
        timesteps=config["timesteps"],
    )
    state = load_file(FOLDER / f"{request.param}.state.safetensors")
    prior.load_state_dict({k.removeprefix(PREFIX): v for k, v in state.items()}, strict=True)
    return prior.eval(), load_file(FOLDER / f"{request.param}.io.safetensors")


def _close(actual, expected, tolerance):
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def test_schedule_built_here_equals_the_recorded_buffers(recorded):
    prior, _ = recorded
    fresh = type(prior.noise_scheduler)(prior.timesteps)
    for name, values in prior.noise_scheduler.named_buffers():
        torch.testing.assert_close(getattr(fresh, name), values, rtol=1e-6, atol=1e-7)


def test_network_output_is_the_recorded_one(recorded):
    prior, io = recorded
    args = io["in.noisy_image_embed"], io["in.times"], io["in.text_embed"]
    with torch.no_grad():
        _close(prior.net(*args), io["out.net_forward"], 1e-5)
        drop = torch.zeros(len(args[0]), dtype=torch.bool)
        dropped = prior.net(*args, keep_brain=drop, keep_image=drop)
        _close(dropped, io["out.net_forward_all_dropped"], 1e-5)
        if "out.net_forward_cond_scale_2p5" in io:
            guided = prior.predict(*args, guidance=2.5)
            _close(guided, io["out.net_forward_cond_scale_2p5"], 2e-5)


def test_losses_and_gradients_are_the_recorded_ones(recorded):
    prior, io = recorded
    brain = io["in.text_embed"].clone().requires_grad_()
    given = {"times": io["in.times"], "noise": io["in.noise"]}
    loss, _ = prior(brain, io["in.image_embed_clean"], **given)
    _close(loss, io["out.loss_nodrop"], 1e-5)
    (gradient,) = torch.autograd.grad(loss, brain)
    _close(gradient, io["out.loss_nodrop_grad_text_embed"], 1e-5)
    masked, _ = prior(
        io["in.text_embed"],
        io["in.image_embed_clean"],
        **given,
        keep_brain=io["in.brain_keep_mask"],
        keep_image=io["in.image_keep_mask"],
    )
    _close(masked, io["out.loss_masked"], 1e-5)


def test_forward_process_is_the_recorded_one(recorded):
    prior, io = recorded
    if "out.q_sample" not in io:
        pytest.skip("only forward and losses are recorded for this configuration")
    clean, noisy, times = io["in.image_embed_clean"], io["in.noisy_image_embed"], io["in.times"]
    schedule = prior.noise_scheduler
    _close(schedule.add_noise(clean, times, io["in.noise"]), io["out.q_sample"], 1e-6)
    implied = schedule.implied_noise(noisy, times, clean)
    _close(implied, io["out.predict_noise_from_start"], 1e-4)
    mean, log_variance = schedule.posterior(clean, noisy, times)
    _close(mean, io["out.q_posterior_mean"], 1e-6)
    _close(log_variance, io["out.q_posterior_log_variance"], 1e-5)


@pytest.mark.parametrize("steps", [20, 100])
@pytest.mark.parametrize("kind", ["noisy", "zero"])
def test_sampling_replays_the_recorded_runs(recorded, steps, kind):
    prior, io = recorded
    name = "ddim" if steps == 20 else "ddpm"
    if f"sample.{name}_{kind}_final" not in io:
        pytest.skip("only forward and losses are recorded for this configuration")
    noise = io[f"sample.{name}_step_noise"]
    result = prior.sample(
        io["in.text_embed"],
        steps=steps,
        start=io["sample.init_noise"],
        step_noise=noise if kind == "noisy" else torch.zeros_like(noise),
    )
    _close(result, io[f"sample.{name}_{kind}_final"], 5e-4)
