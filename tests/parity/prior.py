"""Records of the diffusion prior: network, losses, schedule, sampling."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from neuroclips_cli.models.prior import DiffusionPrior
from parity.records import Comparison, part, record, tensors

NAMES = ("diffusion_prior", "diffusion_prior_wide")
_FORWARD, _SAMPLED = 1e-5, 5e-4


def build(name: str) -> DiffusionPrior:
    """Build the prior of a record and load its weights strictly."""
    sizes = record(f"models/{name}.json")["config"]
    prior = DiffusionPrior(
        sizes["dim"],
        sizes["tokens"],
        depth=sizes["depth"],
        heads=sizes["heads"],
        head_dim=sizes["dim_head"],
        timesteps=sizes["timesteps"],
    )
    prior.load_state_dict(part(tensors(f"models/{name}.state.safetensors"), "diffusion_prior."))
    return prior.eval()


def compare(name: str) -> Comparison:
    """Compare everything recorded of ``diffusion_prior`` or ``diffusion_prior_wide``."""
    io = tensors(f"models/{name}.io.safetensors")
    found = Comparison(name, io)
    prior = build(name)
    _network(prior, io, found)
    _losses(prior, io, found)
    if "out.q_sample" in io:
        _forward_process(prior, io, found)
    about = record(f"models/{name}.json")
    for method, steps in (("ddim", about["config"].get("ddim_steps")), ("ddpm", prior.timesteps)):
        for kind in ("noisy", "zero"):
            if f"sample.{method}_{kind}_final" in io:
                _sampling(prior, io, found, method, kind, steps, about["info"])
    return found


def compare_schedule(name: str) -> Comparison:
    """Compare the noise schedule built here with the checkpoint's buffers."""
    state = tensors(f"models/{name}.state.safetensors")
    prefix = "diffusion_prior.noise_scheduler."
    found = Comparison(f"{name} (state)", state)
    schedule = type(build(name).noise_scheduler)(len(state[f"{prefix}betas"]))
    for array, values in schedule.named_buffers():
        found.add(prefix + array, values, 1e-6, relative=1e-6)
    return found


@torch.no_grad()
def _network(prior: DiffusionPrior, io: dict[str, Tensor], found: Comparison) -> None:
    args = io["in.noisy_image_embed"], io["in.times"], io["in.text_embed"]
    with _taps(prior) as taps:
        found.add("out.net_forward", prior.net(*args), _FORWARD)
    for array, value in taps.items():
        if array in io:
            found.add(array, value, _FORWARD)
    drop = torch.zeros(len(args[0]), dtype=torch.bool)
    dropped = prior.net(*args, keep_brain=drop, keep_image=drop)
    found.add("out.net_forward_all_dropped", dropped, _FORWARD)
    if "out.net_forward_cond_scale_2p5" in io:
        guided = prior.predict(*args, guidance=2.5)
        found.add("out.net_forward_cond_scale_2p5", guided, _FORWARD)


@contextmanager
def _taps(prior: DiffusionPrior) -> Iterator[dict[str, Tensor]]:
    """Catch the intermediate values that the record names."""
    caught: dict[str, Tensor] = {}
    transformer = prior.net.causal_transformer

    def keep(name: str) -> Any:
        return lambda module, args, output: caught.__setitem__(name, output)

    def entering(module: Any, args: tuple[Tensor, ...]) -> None:
        caught["tap.tokens_in"] = args[0]

    handles = [
        transformer.register_forward_pre_hook(entering),
        transformer.rel_pos_bias.register_forward_hook(keep("tap.rel_pos_bias")),
        transformer.norm.register_forward_hook(keep("tap.final_norm")),
        prior.net.to_time_embeds.register_forward_hook(keep("tap.time_embed")),
    ]
    for index, (attention, feed_forward) in enumerate(transformer.layers):
        handles.append(attention.register_forward_hook(keep(f"tap.layer{index}_attn")))
        handles.append(feed_forward.register_forward_hook(keep(f"tap.layer{index}_ff")))
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()
        if "tap.time_embed" in caught:
            caught["tap.time_embed"] = caught["tap.time_embed"][:, None]


def _losses(prior: DiffusionPrior, io: dict[str, Tensor], found: Comparison) -> None:
    given = {"times": io["in.times"], "noise": io["in.noise"]}
    brain = io["in.text_embed"].clone().requires_grad_()
    first: Any = prior.net.causal_transformer.layers[0]
    weights: dict[str, Tensor] = {
        "text_embed": brain,
        "learned_query": prior.net.learned_query,
        "layer0_to_q": first[0].to_q.weight,
    }
    _one_loss(prior, io, found, "nodrop", brain, weights, given)
    masks = {"keep_brain": io["in.brain_keep_mask"], "keep_image": io["in.image_keep_mask"]}
    weights = {
        "null_brain_embeds": prior.net.null_brain_embeds,
        "null_image_embed": prior.net.null_image_embed,
    }
    _one_loss(prior, io, found, "masked", io["in.text_embed"], weights, given | masks)


def _one_loss(
    prior: DiffusionPrior,
    io: dict[str, Tensor],
    found: Comparison,
    kind: str,
    brain: Tensor,
    weights: dict[str, Tensor],
    given: dict[str, Tensor],
) -> None:
    loss, predicted = prior(brain, io["in.image_embed_clean"], **given)
    found.add(f"out.loss_{kind}", loss, _FORWARD)
    if f"out.loss_{kind}_pred" in io:
        found.add(f"out.loss_{kind}_pred", predicted, _FORWARD)
    named = {k: v for k, v in weights.items() if f"out.loss_{kind}_grad_{k}" in io}
    if named:
        gradients = torch.autograd.grad(loss, list(named.values()))
        for key, gradient in zip(named, gradients, strict=True):
            found.add(f"out.loss_{kind}_grad_{key}", gradient, _FORWARD)


def _forward_process(prior: DiffusionPrior, io: dict[str, Tensor], found: Comparison) -> None:
    clean, noisy, times = io["in.image_embed_clean"], io["in.noisy_image_embed"], io["in.times"]
    schedule = prior.noise_scheduler
    mean, log_variance = schedule.posterior(clean, noisy, times)
    found.add("out.q_sample", schedule.add_noise(clean, times, io["in.noise"]), _FORWARD)
    found.add("out.q_posterior_mean", mean, _FORWARD)
    found.add("out.q_posterior_variance", schedule.at("posterior_variance", times), _FORWARD)
    found.add("out.q_posterior_log_variance", log_variance, _FORWARD)
    implied = schedule.implied_noise(noisy, times, clean)
    found.add("out.predict_noise_from_start", implied, _FORWARD)


def _sampling(
    prior: DiffusionPrior,
    io: dict[str, Tensor],
    found: Comparison,
    method: str,
    kind: str,
    steps: int,
    info: dict[str, Any],
) -> None:
    calls: list[tuple[Tensor, Tensor]] = []

    def remember(module: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((args[0], output))

    noise = io[f"sample.{method}_step_noise"]
    handle = prior.net.register_forward_hook(remember)
    final = prior.sample(
        io["in.text_embed"],
        steps=steps,
        start=io["sample.init_noise"],
        step_noise=noise if kind == "noisy" else torch.zeros_like(noise),
    )
    handle.remove()
    found.add(f"sample.{method}_{kind}_final", final, _SAMPLED)
    kept = info["ddpm_recorded_call_index"] if method == "ddpm" else range(len(calls))
    end = "_some" if method == "ddpm" else ""
    for index, what in enumerate(("net_in", "x0_pred")):
        ours = torch.stack([calls[call][index] for call in kept])
        found.add(f"sample.{method}_{kind}_{what}{end}", ours, _SAMPLED)
