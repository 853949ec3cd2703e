"""Converted checkpoints against outputs recorded from the original code."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from parity.records import ROUNDINGS
from parity.video import set_middle_heads
from safetensors.torch import load_file, save_file

from neuroclips_cli.backbones.conversion.files import read_weights
from neuroclips_cli.backbones.conversion.kinds import convert
from neuroclips_cli.backbones.conversion.parts import ConvertedNetwork
from neuroclips_cli.backbones.loading import load_network

SHARED = Path(os.environ.get("NEUROCLIPS_SHARED", Path(__file__).parents[2].parent / "shared"))
FIXTURES = Path(os.environ.get("NEUROCLIPS_FIXTURES", SHARED / "fixtures")) / "generate"
pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no reference records at {FIXTURES}"),
]


def record(name: str) -> tuple[dict[str, Any], dict[str, torch.Tensor], Path]:
    folder = FIXTURES / name
    config = json.loads((folder / "config.json").read_text())
    return config, load_file(folder / "io.safetensors"), folder / "state_dict.safetensors"


def written(part: ConvertedNetwork, folder: Path) -> str:
    folder.mkdir()
    save_file({k: v.contiguous() for k, v in part.weights.items()}, folder / part.weights_name)
    for name, text in part.texts.items():
        (folder / name).write_text(text)
    return str(folder)


def largest(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


@torch.inference_mode()
def test_unclip_converted_from_sgm_gives_the_recorded_noise(tmp_path):
    from neuroclips_cli.backbones.unclip import load_unclip

    config, io, path = record("unclip_unet")
    original = config["unet"]
    widths = [original["model_channels"] * factor for factor in original["channel_mult"]]
    heads = [width // original["num_head_channels"] for width in widths]
    parts = convert(read_weights(path), "", {"attention_head_dim": heads}, str(path))
    unet = load_unclip(written(parts[""], tmp_path / "unclip"))
    for vector, output in (("y", "output"), ("y_from_time_ids", "output_from_time_ids")):
        made = unet(io["x"], io["timesteps"], io["context"], class_labels=io[vector]).sample
        assert largest(made, io[output]) < 1e-5


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Any:
    """The video denoiser and SparseCtrl, each converted, written and loaded as ours are."""
    from diffusers import MotionAdapter, SparseControlNetModel, UNet2DConditionModel

    from neuroclips_cli.backbones.conversion.parts import diffusers_part
    from neuroclips_cli.backbones.video import combine, normalize_per_frame

    root = tmp_path_factory.mktemp("video")
    config, _, path = record("motion_unet")
    weights = read_weights(path)
    motion = {name: value for name, value in weights.items() if "motion_modules" in name}
    image = {name: value for name, value in weights.items() if name not in motion}
    u = config["unet"]
    part = diffusers_part(
        UNet2DConditionModel,
        {
            "sample_size": u["sample_size"],
            "block_out_channels": u["block_out_channels"],
            "down_block_types": [n.replace("3D", "2D") for n in u["down_block_types"]],
            "up_block_types": [n.replace("3D", "2D") for n in u["up_block_types"]],
            "layers_per_block": u["layers_per_block"],
            "cross_attention_dim": u["cross_attention_dim"],
            "attention_head_dim": u["attention_head_dim"],
        },
        image,
        str(path),
    )
    scene = load_network(UNet2DConditionModel, written(part, root / "scene"), "cpu")
    options = {"motion_num_attention_heads": u["motion_module_kwargs"]["num_attention_heads"]}
    part = convert(motion, "", options, str(path))[""]
    adapter = load_network(MotionAdapter, written(part, root / "motion"), "cpu")

    config, _, path = record("sparsectrl")
    c = config["controlnet"]
    options = {
        "attention_head_dim": c["attention_head_dim"],
        "num_attention_heads": c["attention_head_dim"],
        "motion_num_attention_heads": c["motion_module_kwargs"]["num_attention_heads"],
    }
    part = convert(read_weights(path), "", options, str(path))[""]
    control = load_network(SparseControlNetModel, written(part, root / "sparsectrl"), "cpu")
    set_middle_heads(control, c["num_attention_heads"])
    return combine(scene, adapter).eval(), normalize_per_frame(control)


@torch.inference_mode()
def test_the_motion_module_and_sparsectrl_converted_from_ckpt_give_the_records(video):
    unet, control = video
    _, io, _ = record("motion_unet")
    _, cio, _ = record("sparsectrl")
    frames = io["sample"].shape[2]
    text = io["encoder_hidden_states"].repeat_interleave(frames, dim=0)
    plain = unet(io["sample"], io["timestep"], text).sample
    assert largest(plain, io["output_no_control"]) < 2e-5

    for scale, suffix in ((1.0, ""), (0.4, "_scale_0.4")):
        down, mid = control(
            io["sample"],
            io["timestep"],
            text,
            controlnet_cond=cio["controlnet_cond"],
            conditioning_mask=cio["conditioning_mask"],
            conditioning_scale=scale,
            return_dict=False,
        )
        recorded = [cio[f"mid_residual{suffix}"]]
        made = [mid]
        index = 0
        while f"down_residual_{index}{suffix}" in cio:
            recorded.append(cio[f"down_residual_{index}{suffix}"])
            made.append(down[index])
            index += 1
        # In float64, to know how far float32 alone leads away with these head counts.
        down64, mid64 = deepcopy(control).to(torch.float64)(
            io["sample"].double(),
            io["timestep"],
            text.double(),
            controlnet_cond=cio["controlnet_cond"].double(),
            conditioning_mask=cio["conditioning_mask"].double(),
            conditioning_scale=scale,
            return_dict=False,
        )
        exact = [mid64, *down64[: len(made) - 1]]
        for ours, theirs, true in zip(made, recorded, exact, strict=True):
            five = ours.unflatten(0, (-1, frames)).transpose(1, 2)
            assert largest(five, theirs) < max(2e-4, ROUNDINGS * largest(ours, true))
        if not suffix:
            controlled = unet(
                io["sample"],
                io["timestep"],
                text,
                down_block_additional_residuals=tuple(down),
                mid_block_additional_residual=mid,
            ).sample
            exact64 = (
                deepcopy(unet)
                .to(torch.float64)(
                    io["sample"].double(),
                    io["timestep"],
                    text.double(),
                    down_block_additional_residuals=tuple(down64),
                    mid_block_additional_residual=mid64,
                )
                .sample
            )
            rounding = largest(controlled, exact64)
            assert largest(controlled, io["output_with_control"]) < max(2e-5, ROUNDINGS * rounding)


@torch.inference_mode()
def test_one_converted_motion_module_gives_its_record(video):
    _, io, _ = record("motion_unet")
    hidden = io["motion_module_in"]
    batch, _, frames = hidden.shape[:3]
    module = video[0].down_blocks[0].motion_modules[0]
    flat = hidden.transpose(1, 2).flatten(0, 1)
    made = module(flat, num_frames=frames)
    five = made.unflatten(0, (batch, frames)).transpose(1, 2)
    assert largest(five, io["motion_module_out"]) < 1e-5
