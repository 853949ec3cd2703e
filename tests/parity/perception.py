"""Records of the Perception Reconstructor."""

from __future__ import annotations

from typing import Any

import torch

from neuroclips_cli.models.released.perception import PublishedPerception
from neuroclips_cli.settings.schema import PerceptionSettings
from parity.records import Comparison, record, tensors

NAMES = ("pr_model",)
_LATENTS, _REST = 2e-3, 1e-5


def build(name: str = "pr_model") -> PublishedPerception:
    """Build the network of the record and load its weights strictly."""
    sizes = record(f"models/{name}.json")["config"]
    state = tensors(f"models/{name}.state.safetensors")
    side = round((len(state["backbone.blin1.bias"]) // len(state["backbone.bnorm.bias"])) ** 0.5)
    settings = PerceptionSettings(
        hidden=sizes["h"],
        inception_hidden=sizes["h_inception"],
        blocks=sizes["n_blocks"],
        dropout=0.15,
        start_size=side,
        decoder_channels=tuple(reversed(sizes["decoder_channels"])),
        layers_per_block=sizes["layers_per_block"],
        network="published",
        backbone="released",
        attention="clip",
    )
    latent_channels = len(state["backbone.bupsampler.conv_out.bias"])
    model = PublishedPerception(
        sizes["voxels"], sizes["expand"], settings, (side, side), latent_channels
    )
    model.load_state_dict(state)
    return model.eval()


def compare(name: str = "pr_model") -> Comparison:
    """Compare every output, intermediate value and gradient."""
    io = tensors(f"models/{name}.io.safetensors")
    sizes = record(f"models/{name}.json")["config"]
    model = build(name)
    found = Comparison(name, io)
    caught = _forward(model, io, found, sizes)
    for array in [n for n in io if n.startswith("tap.")]:
        found.add(array, _tap(array, caught, sizes), _REST if "bnorm" in array else _LATENTS)
    _gradients(model, io, found)
    with torch.no_grad():
        for block in (model.backbone.bupsampler.mid_block, *model.backbone.bupsampler.up_blocks):
            for weight in block.weights:
                weight.fill_(1.0)
        unmixed = model(io["in.voxels"].flatten(1)).flatten(0, 1)
    found.add("out.latents_mix_weight_1", unmixed, _LATENTS)
    return found


@torch.no_grad()
def _forward(
    model: PublishedPerception, io: dict[str, Any], found: Comparison, sizes: dict[str, Any]
) -> dict[str, Any]:
    caught: dict[str, Any] = {}
    decoder: Any = model.backbone.bupsampler
    modules = {"mid_block": decoder.mid_block, "bnorm": model.backbone.bnorm}
    modules |= {f"up_block{i}": block for i, block in enumerate(decoder.up_blocks)}
    modules["mid_temp_attn"] = decoder.mid_block.temp_attentions[0]

    def keep(key: str) -> Any:
        return lambda module, args, output: caught.__setitem__(key, (args[0], output))

    handles = [module.register_forward_hook(keep(key)) for key, module in modules.items()]
    extended = model.fmri(io["in.voxels"].flatten(1))
    rows = model.ridge1(extended).flatten(0, 1)
    latents, auxiliary = model.backbone(rows, sizes["time"])
    for handle in handles:
        handle.remove()
    found.add("out.extended_fmri", extended.flatten(0, 1), _REST)
    found.add("out.ridge_out", rows[:, None], _REST)
    found.add("out.latents", latents, _LATENTS)
    for array in [n for n in io if n.startswith("out.aux_map_frames_")]:
        chosen = [int(n) for n in array.removeprefix("out.aux_map_frames_").split("_")]
        found.add(array, auxiliary[chosen], _REST)
    for array in [n for n in io if n.startswith("out.latents_time_")]:
        word = array.removeprefix("out.latents_time_")
        span = len(rows) if word == "whole_batch" else int(word)
        found.add(array, model.backbone(rows, span)[0], _LATENTS)
    return caught


def _tap(array: str, caught: dict[str, Any], sizes: dict[str, Any]) -> Any:
    name = array.removeprefix("tap.")
    if name == "bnorm":
        return caught["bnorm"][1]
    if name.startswith("mid_temp_attn"):
        _, _, _, way, first = name.split("_")
        return caught["mid_temp_attn"][way == "out"][: int(first.removeprefix("first"))]
    block, row = name.rsplit("_frame_", 1)
    return caught[block][1][int(row)]


def _gradients(model: PublishedPerception, io: dict[str, Any], found: Comparison) -> None:
    decoder: Any = model.backbone.bupsampler
    extension: Any = model.fmri
    weights = {
        "conv_out_weight": decoder.conv_out.weight,
        "fmri_lin0_weight": extension.lin0[0].weight,
        "mid_mix_weight": decoder.mid_block.weights[0],
        "ridge1_weight": model.ridge1.linears[0].weight,
        "up0_mix_weight_0": decoder.up_blocks[0].weights[0],
    }
    latents = model(io["in.voxels"].flatten(1)).flatten(0, 1)
    loss = (latents - io["in.l1_target"]).abs().mean()
    found.add("out.l1_loss", loss, _LATENTS)
    for key, gradient in zip(
        weights, torch.autograd.grad(loss, list(weights.values())), strict=True
    ):
        found.add(f"grad.l1.{key}", gradient, _LATENTS)
