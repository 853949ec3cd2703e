"""A second set of records of the same layout, with other seeds and sizes.

    python -m parity.second_set FOLDER        (in tests/)
    NEUROCLIPS_FIXTURES=FOLDER pytest -m oracle tests/oracle/test_parity.py ...

What was recorded from the original code is copied; the records below are replaced by ones of other
sizes, computed by loops and library calls of their own where these suffice (retrieval, N-way
accuracy), and by our modules where not (the Semantics Reconstructor; in float64 the video
networks): the second set shows that no test depends on the first one's sizes and numbers, not that
our modules are right.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from neuroclips_cli.generation.video import keyframe_condition
from neuroclips_cli.models.backbone import RidgeRegression
from neuroclips_cli.models.semantics import PublishedSemanticsBackbone
from parity import records
from parity import video as parity_video
from parity.records import FIXTURES

CLIPS, WIDTH, PART = 420, 24, 70
IMAGES, CLASSES, WAYS = 23, 311, (3, 20)
SEED = 4711


def write(folder: Path) -> None:
    """Write the whole set into an empty folder."""
    shutil.copytree(FIXTURES, folder, dirs_exist_ok=True)
    rng = np.random.default_rng(SEED)
    np.savez(folder / "retrieval_reference.npz", **retrieval(rng))
    np.savez(folder / "nway_reference.npz", **nway(rng))
    video(folder)
    for name, sequence in (("sr_backbone", 1), ("sr_backbone_seq3", 5)):
        semantics(folder / "models", name, sequence)


def retrieval(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Ranks by a loop over clips."""
    image = rng.standard_normal((CLIPS, WIDTH)).astype(np.float32)
    fmri = image + 2.5 * rng.standard_normal((CLIPS, WIDTH)).astype(np.float32)
    order = rng.permutation(CLIPS)
    parts = order.reshape(-1, PART)
    unit = [
        x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1)[:, None]
        for x in (fmri, image)
    ]
    made: dict[str, np.ndarray] = {
        "fmri_emb": fmri,
        "image_emb": image,
        "permutation": order,
        "parts": parts,
    }
    for direction, (asked, searched) in (("fmri_to_image", unit), ("image_to_fmri", unit[::-1])):
        ranks = np.array([[_rank(asked, searched, i, part) for i in part] for part in parts])
        made[f"rank_{direction}"] = ranks
        made[f"top1_{direction}"] = (ranks == 0).mean(axis=1)
        every = [_rank(asked, searched, i, np.arange(CLIPS)) for i in range(CLIPS)]
        made[f"all{CLIPS}_top1_{direction}"] = np.mean(np.array(every) == 0)
    return made


def _rank(asked: np.ndarray, searched: np.ndarray, clip: int, among: np.ndarray) -> int:
    """How many others are nearer to a clip than its own partner."""
    near = [float(asked[clip] @ searched[other]) for other in among]
    own = float(asked[clip] @ searched[clip])
    return sum(value > own for value in near)


def nway(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """N-way accuracy by drawing distractors many times, and by counting all draws."""
    logits = 2 * rng.standard_normal((IMAGES, CLASSES))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    top3 = np.array([rng.choice(np.argsort(-row)[:40], 3, replace=False) for row in logits])
    made: dict[str, np.ndarray] = {
        "pred_probs": scores.astype(np.float32),
        "gt_top1": top3[:, 0],
        "gt_top3": top3,
        "n_way_values": np.array(WAYS),
    }
    for top, classes in (("top1", top3[:, :1]), ("top3", top3)):
        for ways in WAYS:
            drawn, exact = zip(
                *(_accuracy(made["pred_probs"][i], classes[i], ways, rng) for i in range(IMAGES)),
                strict=True,
            )
            made[f"{top}_n{ways}_mc_acc"] = np.array(drawn)
            made[f"{top}_n{ways}_exact"] = value = np.array(exact)
            made[f"{top}_n{ways}_exact_mc_sd"] = np.sqrt(value * (1 - value) / TRIALS)
    return made


TRIALS = 2000


def _accuracy(
    scores: np.ndarray, classes: np.ndarray, ways: int, rng: np.random.Generator
) -> tuple[float, float]:
    others = np.delete(scores, classes)
    best = scores[classes].max()
    above = int((others > best).sum())
    won = [not (rng.choice(others, ways - 1, replace=False) > best).any() for _ in range(TRIALS)]
    exact = 1.0
    for place in range(ways - 1):  # no draw of those above, one after the other
        exact *= (len(others) - above - place) / (len(others) - place)
    return float(np.mean(won)), max(exact, 0.0)


@torch.no_grad()
def semantics(folder: Path, name: str, sequence: int) -> None:
    """Ridge layer, backbone and projectors of other sizes."""
    torch.manual_seed(SEED + sequence)
    record = json.loads((folder / f"{name}.json").read_text("utf-8"))
    sizes = record["config"] | {
        "voxels": 37,
        "h": 40,
        "n_blocks": 3,
        "tokens": 5,
        "clip_dim": 24,
        "seq_len": sequence,
    }
    ridge = RidgeRegression(sizes["voxels"], sizes["h"])
    backbone = PublishedSemanticsBackbone(40, 3, 0.15, 5, 24, sequence).eval()
    matrix = torch.randn(24, 18) / 5
    state = {f"ridge.{k}": v for k, v in ridge.state_dict().items()}
    state |= {f"backbone.{k}": v for k, v in backbone.state_dict().items()}
    voxels = torch.randn(7, sequence, 37)
    rows = ridge(voxels)
    tokens, contrastive = backbone(rows)
    arrays = {
        "in.voxels": voxels,
        "out.ridge_out": rows,
        "out.trunk_out": super(PublishedSemanticsBackbone, backbone).forward(rows),
        "out.backbone_out": tokens,
        "out.clip_voxels": contrastive,
        "out.clip_voxels_flat_normed": torch.nn.functional.normalize(contrastive.flatten(1), dim=1),
        "out.clipproj_out": contrastive.mean(dim=1) @ matrix,
        "out.clipproj_out_of_backbone": tokens.mean(dim=1) @ matrix,
        "out.blurry_placeholder": torch.zeros(2, 1),
    }
    save_file({k: v.contiguous() for k, v in arrays.items()}, folder / f"{name}.io.safetensors")
    save_file({**state, "clipproj.proj": matrix}, folder / f"{name}.state.safetensors")
    (folder / f"{name}.json").write_text(json.dumps({**record, "config": sizes}))


HEADS, PLACES, BATCH, FRAMES, STEPS = 4, (0, 5), 2, 7, 25


@torch.no_grad()
def video(folder: Path) -> None:
    """Video networks with 4 image heads and 8 motion heads, two clips, conditions on two frames.

    The weights are the first set's: no shape depends on the number of heads.
    """
    generate = folder / "generate"
    for name, section in (("motion_unet", "unet"), ("sparsectrl", "controlnet")):
        config = json.loads((generate / name / "config.json").read_text())
        config[section]["attention_head_dim"] = HEADS
        if name == "sparsectrl":
            config[section]["num_attention_heads"] = HEADS
            config["condition_frame_index"] = list(PLACES)
        (generate / name / "config.json").write_text(json.dumps(config))
    pipeline = generate / "neuroclips_pipeline" / "config.json"
    loop = json.loads(pipeline.read_text()) | {"controlnet_image_index": list(PLACES)}
    pipeline.write_text(json.dumps(loop | {"video_length": FRAMES}))
    with _reading(folder):
        _record_video(generate, loop)


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Let the comparisons' builders read from the folder that is being written."""
    before = records.FIXTURES
    records.FIXTURES = folder
    _forget()
    try:
        yield
    finally:
        records.FIXTURES = before
        _forget()


def _forget() -> None:
    parity_video.original_models.cache_clear()
    parity_video.exact_models.cache_clear()


def _record_video(generate: Path, loop: dict[str, Any]) -> None:
    exact = parity_video.exact_models()
    torch.manual_seed(SEED)
    io: dict[str, torch.Tensor] = {
        "sample": torch.randn(BATCH, 4, FRAMES, 8, 8).double(),
        "timestep": torch.tensor(481),
        "encoder_hidden_states": torch.randn(BATCH, 7, 16).double(),
    }
    keyframes = torch.randn(BATCH, 4, len(PLACES), 8, 8).double()
    condition, mask = keyframe_condition(keyframes, FRAMES, PLACES)
    control: dict[str, torch.Tensor] = {
        "condition_latents": keyframes,
        "controlnet_cond": condition,
        "conditioning_mask": mask,
    }
    states = io["encoder_hidden_states"].repeat_interleave(FRAMES, dim=0)
    given: dict[str, Any] = {"controlnet_cond": condition, "conditioning_mask": mask}
    for scale in (1.0, 0.4):
        down, middle = exact.sparsectrl(
            io["sample"],
            io["timestep"],
            states,
            **given,
            conditioning_scale=scale,
            return_dict=False,
        )
        end = "" if scale == 1.0 else f"_scale_{scale}"
        named = {f"down_residual_{i}{end}": value for i, value in enumerate(down)}
        named = {k: v for k, v in named.items() if not end or k.startswith("down_residual_0")}
        named[f"mid_residual{end}"] = middle
        control |= {k: _by_clip(v, BATCH) for k, v in named.items()}
        if not end:
            whole = {
                "down_block_additional_residuals": tuple(down),
                "mid_block_additional_residual": middle,
            }
            plain = exact.unet(io["sample"], io["timestep"], states).sample
            controlled = exact.unet(io["sample"], io["timestep"], states, **whole).sample
            io |= {"output_no_control": plain, "output_with_control": controlled}
    io["motion_module_in"] = torch.randn(BATCH, 32, FRAMES, 4, 4).double()
    flat = io["motion_module_in"].transpose(1, 2).flatten(0, 1)
    alone = exact.unet.down_blocks[0].motion_modules[0](flat, num_frames=FRAMES)
    alone = alone[0] if isinstance(alone, tuple) else alone
    io["motion_module_out"] = _by_clip(alone, BATCH)
    _save(io, generate / "motion_unet" / "io.safetensors")
    _save(control, generate / "sparsectrl" / "io.safetensors")
    _save(_loop(exact, loop), generate / "neuroclips_pipeline" / "arrays.safetensors")


def _by_clip(value: torch.Tensor, clips: int) -> torch.Tensor:
    return value.unflatten(0, (clips, -1)).transpose(1, 2)


def _loop(models: Any, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The guided loop written out, in float64: both halves with the control's residuals."""
    latents = torch.randn(BATCH, 4, FRAMES, 8, 8).double()
    noise, text = torch.randn_like(latents), torch.randn(2 * BATCH, 7, 16).double()
    keyframes = torch.randn(BATCH, 4, len(PLACES), 8, 8).double()
    kept = models.scheduler.alphas_cumprod.double()
    models.scheduler.set_timesteps(STEPS)
    steps = models.scheduler.timesteps
    first = kept[steps[0]]
    start = first.sqrt() * latents + (1 - first).sqrt() * noise
    made = {
        "latents": latents,
        "noise": noise,
        "text_embeddings": text,
        "controlnet_image_latents": keyframes,
        "timesteps": steps,
        "start_latents": start,
    }
    condition, mask = (
        value.repeat(2, 1, 1, 1, 1) for value in keyframe_condition(keyframes, FRAMES, PLACES)
    )
    states = text.repeat_interleave(FRAMES, dim=0)
    for name in ("control", "nocontrol"):
        now, after = start, []
        for step in steps:
            doubled, more = torch.cat([now, now]), {}
            if name == "control":
                down, middle = models.sparsectrl(
                    doubled,
                    step,
                    states,
                    controlnet_cond=condition,
                    conditioning_mask=mask,
                    return_dict=False,
                )
                more = {
                    "down_block_additional_residuals": tuple(down),
                    "mid_block_additional_residual": middle,
                }
            without, with_text = models.unet(doubled, step, states, **more).sample.chunk(2)
            predicted = without + config["guidance_scale"] * (with_text - without)
            before = step - 1000 // STEPS
            at, to = kept[step], kept[before] if before >= 0 else torch.tensor(1.0).double()
            clean = (now - (1 - at).sqrt() * predicted) / at.sqrt()
            now = to.sqrt() * clean + (1 - to).sqrt() * predicted
            after.append(now)
        made[f"final_{name}"] = now
        if name == "control":
            made["trajectory_control"] = torch.stack(after)
        else:
            made["step1_nocontrol"] = after[0]
    return made


def _save(arrays: dict[str, torch.Tensor], path: Path) -> None:
    ready = {k: v.float() if v.is_floating_point() else v for k, v in arrays.items()}
    save_file({k: v.contiguous().clone() for k, v in ready.items()}, path)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
