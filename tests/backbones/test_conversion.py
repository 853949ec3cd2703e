"""models convert: small checkpoints under the published names come back as they were."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import published_names as names
import pytest
import random_backbones as tiny
import torch
from safetensors.torch import load_file, save_file

from neuroclips_cli.backbones.conversion.files import read_weights
from neuroclips_cli.backbones.conversion.kinds import convert as convert_weights
from neuroclips_cli.backbones.conversion.kinds import guess
from neuroclips_cli.backbones.loading import load_network
from neuroclips_cli.cli import main as cli
from neuroclips_cli.cli import models_convert
from neuroclips_cli.errors import UserError


@pytest.fixture(scope="module")
def nets(tmp_path_factory) -> dict[str, object]:
    return tiny.save_all(tmp_path_factory.mktemp("nets"))


def load(kind, folder):
    return load_network(kind, str(folder), "cpu")


def overrides(path: Path, content: dict[str, object]) -> Path:
    path.write_text(json.dumps(content))
    return path


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    assert list(left) == list(right)
    return all(torch.equal(left[name], right[name]) for name in left)


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_unclip_and_its_vae_come_out_of_one_sgm_checkpoint(nets, tmp_path):
    from diffusers import AutoencoderKL, UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(8, 16, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 3),
        layers_per_block=2,
        cross_attention_dim=12,
        attention_head_dim=(1, 2, 2),
        use_linear_projection=True,
        norm_num_groups=4,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=16,
    )
    vae = load(AutoencoderKL, nets["vae"])
    other = {"conditioner.embedders.0.weight": torch.ones(2), "denoiser.sigmas": torch.ones(3)}
    state = {**names.sgm_unet(unet), **names.ldm_vae(vae), **other}
    path = save(tmp_path / "unclip6.ckpt", {"state_dict": state, "global_step": 110000})
    groups = {"norm_num_groups": 4, "vae": {"norm_num_groups": 2}}
    config = overrides(tmp_path / "c.json", {"attention_head_dim": [1, 2, 2], **groups})
    folder = models_convert.run(path, config=config)
    assert folder == Path("models/unclip")
    found = load(UNet2DConditionModel, folder)
    assert same(found, unet)
    assert found.config.transformer_layers_per_block == [1, 1, 3]
    assert found.config.class_embed_type == "projection" and found.config.sample_size == 96
    inside = load(AutoencoderKL, folder / "vae")
    assert same(inside, vae) and inside.config.scaling_factor == 0.13025


def test_the_published_sizes_follow_from_the_shapes_alone():
    from diffusers import UNet2DConditionModel

    unclip = {  # fixtures/generate/README.md, item 1
        "sample_size": 96,
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2],
        "up_block_types": [*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "cross_attention_dim": 1664,
        "attention_head_dim": [5, 10, 20],
        "use_linear_projection": True,
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": 1024,
    }
    scene = {"cross_attention_dim": 768, "sample_size": 64}  # Stable Diffusion 1.5
    cases = (("unclip", "", unclip, 1680), ("scene", "unet", scene, 686))
    for kind, folder, settings, tensors in cases:
        with torch.device("meta"):
            network = UNet2DConditionModel(**settings)
        state = names.sgm_unet(network)
        assert len(state) == tensors and guess(state, "file") == kind
        text = convert_weights(state, kind, {}, "file")[folder].texts["config.json"]
        found, config = json.loads(text), json.loads(network.to_json_string())
        for name in settings | {"block_out_channels": 0, "layers_per_block": 0}:
            assert found[name] == config[name], name


def test_a_scene_model_of_one_file_becomes_unet_vae_and_text_encoder(nets, tmp_path):
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    unet = load(UNet2DConditionModel, nets["scene_unet"])
    vae = load(AutoencoderKL, nets["vae"])
    text = load(CLIPTextModel, nets["text_encoder"])
    state = {**names.sgm_unet(unet), **names.ldm_vae(vae)}
    prefix = "cond_stage_model.transformer.text_model."
    state |= {prefix + k.removeprefix("text_model."): v for k, v in text.state_dict().items()}
    # Some merged models keep CLIP's projection, which Stable Diffusion does not use.
    state["cond_stage_model.transformer.text_projection.weight"] = torch.ones(2, 2)
    path = tmp_path / "scene.safetensors"
    save_file({k: v.contiguous() for k, v in state.items()}, path)
    config = overrides(
        tmp_path / "c.json",
        {
            "unet": {"attention_head_dim": 2, "norm_num_groups": 4},
            "vae": {"norm_num_groups": 2},
            "text_encoder": {"num_attention_heads": 2},
        },
    )
    folder = models_convert.run(path, out=tmp_path / "scene", config=config)
    assert same(load(UNet2DConditionModel, folder / "unet"), unet)
    assert same(load(AutoencoderKL, folder / "vae"), vae)
    assert same(load(CLIPTextModel, folder / "text_encoder"), text)


def test_the_sd_vae_file_is_taken_with_old_and_new_attention_names(nets, tmp_path):
    from diffusers import AutoencoderKL

    vae = load(AutoencoderKL, nets["vae"])
    new = vae.state_dict()
    old = {}
    for name, value in new.items():
        for now, then in (("to_q", "query"), ("to_k", "key"), ("to_v", "value")):
            name = name.replace(f".{now}.", f".{then}.")
        old[name.replace(".to_out.0.", ".proj_attn.")] = value
    config = overrides(tmp_path / "c.json", {"norm_num_groups": 2})
    for index, state in enumerate((new, old)):
        path = save(tmp_path / f"sd_image_var_autoenc{index}.pth", state)
        folder = models_convert.run(path, out=tmp_path / str(index), config=config)
        found = load(AutoencoderKL, folder)
        assert same(found, vae) and found.config.scaling_factor == 0.18215


def test_animatediffs_files_come_back(nets, tmp_path):
    from diffusers import MotionAdapter, SparseControlNetModel

    adapter = load(MotionAdapter, nets["motion_adapter"])
    control = load(SparseControlNetModel, nets["sparsectrl"])
    settings = {"motion_num_attention_heads": 2, "motion_norm_num_groups": 4}
    motion = {f"module.{k}": v for k, v in names.animatediff(adapter).items()}
    config = overrides(tmp_path / "m.json", settings)
    path = save(tmp_path / "v3_sd15_mm.ckpt", {"state_dict": motion, "animatediff_config": "x"})
    assert same(load(MotionAdapter, models_convert.run(path, config=config)), adapter)
    # AnimateDiff-Lightning has diffusers' names
    path = save(tmp_path / "lightning_4step_diffusers.safetensors", adapter.state_dict())
    again = models_convert.run(path, config=config, out=tmp_path / "lightning")
    assert same(load(MotionAdapter, again), adapter)

    heads = {"attention_head_dim": 2, "num_attention_heads": 2, "norm_num_groups": 4}
    config = overrides(
        tmp_path / "s.json",
        {**heads, "motion_num_attention_heads": 2, "conditioning_embedding_out_channels": [4, 8]},
    )
    path = save(
        tmp_path / "v3_sd15_sparsectrl_rgb.ckpt", {"controlnet": names.animatediff(control)}
    )
    assert same(load(SparseControlNetModel, models_convert.run(path, config=config)), control)


def test_the_domain_adapter_is_added_to_the_scene_models_attention(nets, tmp_path):
    from diffusers import UNet2DConditionModel

    from neuroclips_cli.backbones.video import add_low_rank

    unet = load(UNet2DConditionModel, nets["scene_unet"])
    before = {k: v.clone() for k, v in unet.state_dict().items()}
    stem = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    state, expected = {}, {}
    for part, module in (("to_q", "to_q"), ("to_out", "to_out.0")):
        matrix = before[f"{stem}.{module}.weight"]
        down, up = torch.randn(2, matrix.shape[1]), torch.randn(matrix.shape[0], 2)
        state[f"{stem}.processor.{part}_lora.down.weight"] = down
        state[f"{stem}.processor.{part}_lora.up.weight"] = up
        expected[f"{stem}.{module}.weight"] = matrix + up @ down
    folder = models_convert.run(save(tmp_path / "v3_sd15_adapter.ckpt", state))
    add_low_rank(unet, str(folder), "domain_adapter")
    for name, value in unet.state_dict().items():
        assert torch.allclose(value, expected.get(name, before[name]), atol=1e-6), name

    larger = {k: torch.randn(v.shape[0], 5) if ".down." in k else v for k, v in state.items()}
    other = models_convert.run(save(tmp_path / "other.ckpt", larger), out=tmp_path / "other")
    with pytest.raises(UserError, match=r"scene model: it changes"):
        add_low_rank(unet, str(other), "domain_adapter")


def test_a_lora_is_added_to_every_kind_of_layer_under_its_published_names(nets, tmp_path):
    from diffusers import UNet2DConditionModel

    from neuroclips_cli.backbones.video import add_low_rank

    unet = load(UNet2DConditionModel, nets["scene_unet"])
    before = {k: v.clone() for k, v in unet.state_dict().items()}
    attention = "down_blocks.0.attentions.0"
    layers = {
        f"{attention}.transformer_blocks.0.attn2.to_out.0": 2.0,  # alpha
        f"{attention}.transformer_blocks.0.ff.net.0.proj": 1.0,
        f"{attention}.proj_in": 4.0,  # a filter of one pixel
        "mid_block.resnets.0.conv1": 1.0,  # a filter of 3 x 3
        "mid_block.resnets.0.time_emb_proj": None,
    }
    state, expected = {}, {}
    for layer, alpha in layers.items():
        weight = before[f"{layer}.weight"]
        down = torch.randn(2, *weight.shape[1:])
        up = torch.randn(len(weight), 2, *[1] * (weight.ndim - 2))
        flat = f"lora_unet_{layer.replace('.', '_')}"
        state |= {f"{flat}.lora_down.weight": down.half(), f"{flat}.lora_up.weight": up.half()}
        if alpha is not None:
            state[f"{flat}.alpha"] = torch.tensor(alpha)
        change = torch.einsum("or...,ri...->oi...", up.half().float(), down.half().float())
        expected[f"{layer}.weight"] = weight + 0.8 * (alpha or 2.0) / 2 * change
    path = save(tmp_path / "AnimateLCM_sd15_t2v_lora.safetensors", state)
    folder = models_convert.run(path)
    assert folder == Path("models/distilled_lora")
    add_low_rank(unet, str(folder), "distilled_lora", 0.8)
    for name, value in unet.state_dict().items():
        assert torch.allclose(value, expected.get(name, before[name]), atol=1e-5), name


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("lora_te_text_model_encoder_layers_0_mlp_fc1.alpha", (), "no LoRA of a scene model"),
        ("lora_unet_conv_in.lora_down.weight", (2, 4, 3, 3), "no whole LoRA: 'conv_in'"),
        ("lora_unet_input_blocks_1_1_proj_in", (8, 8), "it changes 'input_blocks_1_1_proj_in'"),
        ("lora_unet_time_embedding_linear_1", (3, 3), "it changes 'time_embedding_linear_1'"),
    ],
)
def test_a_lora_that_does_not_fit_is_refused(nets, tmp_path, name, shape, told):
    from diffusers import UNet2DConditionModel

    from neuroclips_cli.backbones.video import add_low_rank

    state = {"lora_unet_conv_out.alpha": torch.ones(())} if "text_model" in name else {}
    if "." in name:
        state[name] = torch.ones(shape)
    else:
        state[f"{name}.lora_down.weight"] = torch.ones(1, shape[1])
        state[f"{name}.lora_up.weight"] = torch.ones(shape[0], 1)
    with pytest.raises(UserError, match=told):
        folder = models_convert.run(save(tmp_path / "lora.safetensors", state))
        add_low_rank(load(UNet2DConditionModel, nets["scene_unet"]), str(folder), "distilled_lora")


def test_the_small_maps_come_back(tmp_path):
    from neuroclips_cli.backbones.captioner_git import load_converter
    from neuroclips_cli.backbones.clip import load_projector

    matrix = torch.randn(6, 4)
    path = save(tmp_path / "coco_tokens_avg_proj.pth", {"proj": matrix})
    assert cli.run(["models", "convert", str(path)]) == 0
    assert torch.equal(load_projector("./models/projector"), matrix)
    assert cli.run(["models", "convert", str(path), "--kind", "vae", "--out", "x"]) == 2

    first, second = torch.nn.Linear(6, 5), torch.nn.Linear(8, 3)
    state = {f"linear1.{k}": v for k, v in first.state_dict().items()}
    state |= {f"linear2.{k}": v for k, v in second.state_dict().items()}
    path = save(tmp_path / "bigG_to_L_epoch8.pth", {"model_state_dict": state, "epoch": 8})
    tokens = torch.randn(2, 6, 8)
    made = load_converter(str(models_convert.run(path)))(tokens)
    assert torch.allclose(made, second(first(tokens.mT).mT))


class Bomb:
    """Pickles to a call that writes a file."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_a_file_that_wants_to_run_code_is_refused_and_nothing_runs(tmp_path):
    path = save(tmp_path / "v3_sd15_mm.ckpt", {"state_dict": {"a": torch.ones(1)}, "x": Bomb()})
    for legacy in (False, True):
        if legacy:
            torch.save({"x": Bomb()}, path, _use_new_zipfile_serialization=False)
        with pytest.raises(UserError, match="refused, nothing in it was run.*mkdir") as problem:
            models_convert.run(path)
        assert "\n" not in str(problem.value)
        assert not Path("exploded").exists() and not Path("models").exists()


@pytest.mark.parametrize("name", ["whole.ckpt", "whole.safetensors", "old.ckpt"])
def test_a_truncated_download_is_named(tmp_path, name):
    state = {"proj": torch.randn(64, 64)}
    path = tmp_path / name
    if name.endswith("safetensors"):
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=not name.startswith("old"))
    content = path.read_bytes()
    for share in (0.9, 0.3, 0.0):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(UserError, match=f"{name} .* is not a whole weight file") as problem:
            models_convert.run(path)
        assert "\n" not in str(problem.value)


def test_another_kind_or_size_names_the_first_difference(nets, tmp_path):
    from diffusers import MotionAdapter

    path = save(
        tmp_path / "last.pth", {"model_state_dict": {"ridge.linears.0.weight": torch.ones(1)}}
    )
    with pytest.raises(UserError, match="ridge.linears.0.weight"):
        models_convert.run(path)
    motion = names.animatediff(load(MotionAdapter, nets["motion_adapter"]))
    path = save(tmp_path / "mm.ckpt", motion)
    with pytest.raises(UserError, match="lacks '.*controlnet_cond_embedding.weight'"):
        models_convert.run(path, kind="sparsectrl")
    with pytest.raises(UserError, match="--kind 'film' is unknown"):
        models_convert.run(path, kind="film")
    wide = "up_blocks.1.motion_modules.1.temporal_transformer.proj_in.weight"
    path = save(tmp_path / "mm.ckpt", {**motion, wide: torch.ones(3, 3)})
    config = overrides(tmp_path / "c.json", {"motion_norm_num_groups": 4})
    with pytest.raises(
        UserError, match=r"up_blocks.1.motion_modules.1.proj_in.weight' is \(3, 3\)"
    ):
        models_convert.run(path, config=config)
    short = {k: v for k, v in motion.items() if k != wide}
    path = save(tmp_path / "mm.ckpt", short)
    with pytest.raises(UserError, match="lacks 'up_blocks.1.motion_modules.1.proj_in.weight'"):
        models_convert.run(path, config=config)


def test_a_finished_folder_is_not_overwritten_by_chance(tmp_path):
    path = save(tmp_path / "coco_tokens_avg_proj.pth", {"proj": torch.ones(2, 2)})
    folder = models_convert.run(path)
    with pytest.raises(UserError, match="exists already"):
        models_convert.run(path)
    save(path, {"proj": torch.zeros(2, 2)})
    models_convert.run(path, overwrite=True)
    assert not np.any(load_file(folder / "projector.safetensors")["weight"].numpy())
    assert not read_weights(path)["proj"].any()
