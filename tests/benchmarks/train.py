"""A training step with cached targets, against one that recomputes the frozen networks' targets.

Profile tiny is measured; profile paper, too large for two cores, is counted in floating-point
operations on the meta device.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from neuroclips_cli.backbones.clip import load_clip
from neuroclips_cli.backbones.meta_models import build
from neuroclips_cli.backbones.vae import encode_frames, load_vae
from neuroclips_cli.memory_estimate import live, training
from neuroclips_cli.memory_estimate.needs import meta_tensor
from neuroclips_cli.memory_estimate.training import build_perception, build_semantics
from neuroclips_cli.models.perception import make_perception
from neuroclips_cli.models.projector import TokenProjector
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.settings.load import Settings, load_settings
from neuroclips_cli.training.objectives import PerceptionObjective
from neuroclips_cli.training.optimizer import make_optimizer
from neuroclips_cli.training.phases import contrastive_objective, prior_objective
from neuroclips_cli.training.samples import ClipSamples

VOXELS, CLIPS, STEPS = 13447, 120, 5
PHASES = ("train-sr, contrastive", "train-sr, prior", "train-pr")
MATRIX = ("mm", "bmm", "conv", "dot_product", "linear", "einsum", "matmul")
"""Parts of the names of operations that the matrix units do."""

Rows = list[tuple[str, float, str]]


def main(folder: Path) -> Rows:
    """Measure the tiny profile, and count the paper's."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows: Rows = []
    for phase in PHASES:
        rows += _measured(phase)
    for phase in PHASES:
        rows += _counted(phase)
    return rows


def _batch_size(settings: Settings, phase: str) -> int:
    sizes = (
        settings.train_sr.contrastive_batch_size,
        settings.train_sr.prior_batch_size,
        settings.train_pr.batch_size,
    )
    return min(dict(zip(PHASES, sizes, strict=True))[phase], 2 * CLIPS)


def _width(settings: Settings, phase: str, voxels: int) -> int:
    """Numbers of a scan as a phase gets it; a ridge solved in closed form lies before train-sr."""
    solved = phase != "train-pr" and settings.train_sr.ridge_closed_form
    return settings.semantics.hidden if solved else voxels


def _objective(settings: Settings, phase: str, voxels: int, *, meta: bool) -> nn.Module:
    """Build what a phase minimizes, on the CPU or on the meta device."""
    data, backbones, options = settings.data, settings.backbones, settings.train_pr
    if phase == "train-pr":
        side = data.frame_size // 8
        shape = (4, side, side)
        model: nn.Module = (
            build_perception(settings, voxels, shape)
            if meta
            else make_perception(voxels, data.frames_per_clip, settings.perception, shape)
        )
        return PerceptionObjective(model, options.temperature, options.contrast_weight)
    semantics = (
        build_semantics(settings, voxels)
        if meta
        else Semantics(voxels, settings.semantics, backbones.tokens, backbones.token_dim)
    )
    sizes = (backbones.token_dim, backbones.embed_dim)
    projector = TokenProjector(meta_tensor(*sizes) if meta else torch.randn(sizes))
    first = phase.endswith("contrastive")
    return (contrastive_objective if first else prior_objective)(settings, semantics, projector)


def _measured(phase: str) -> Rows:
    """Time steps of profile tiny in turn, with and without the frozen network."""
    settings = load_settings({"run.profile": "tiny"}, environ={})
    data, draw = settings.data, np.random.default_rng(0)
    size = (data.frame_size, data.frame_size, 3)
    frames = draw.integers(0, 256, (CLIPS, data.frames_per_clip, *size), np.uint8)
    voxels = 2000
    width = _width(settings, phase, voxels)
    scans = draw.standard_normal((CLIPS, 2, width), np.float32)
    encode = _encoder(settings, phase)
    objective = _objective(settings, phase, voxels, meta=False)
    optimizer = make_optimizer(objective, 1e-4, 0.01, 0.01)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "targets.npy"
        np.save(path, np.stack([encode(clip) for clip in frames]).astype(np.float16))
        name = "latents" if phase == "train-pr" else "tokens"
        text = draw.standard_normal((CLIPS, settings.backbones.embed_dim), np.float32)
        cached = ClipSamples(
            scans,
            np.arange(CLIPS),
            {name: np.load(path, mmap_mode="r"), "text": text},
            frame_targets=("tokens",),
        )
        many = _batch_size(settings, phase)

        def step(recompute: bool) -> None:
            chosen = torch.randperm(len(cached))[:many].tolist()
            batch = cached.__getitems__(chosen)
            if recompute:
                shown = frames[cached.clips_of(chosen)]
                batch[name] = _again(encode, shown, phase)
            loss: Tensor = objective(batch)["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        times: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(STEPS):
            for recompute, spent in times.items():
                spent.append(_timed(lambda again=recompute: step(again)))  # type: ignore[misc]
        share = statistics.median(_share_not_matrix(lambda: step(False)) for _ in range(3 * STEPS))
    short, long = (statistics.median(times[recompute]) for recompute in (False, True))
    return [
        (f"{phase}, tiny, step of {many} with cached targets, s", short, ""),
        ("... with recomputed targets, s", long, f"{long / short:.1f} x"),
        ("... share of a cached step that is not matrix work", share, ""),
    ]


def _encoder(settings: Settings, phase: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return the frozen network: frames ``(n, h, w, 3)`` to targets."""
    if phase == "train-pr":
        vae = load_vae(settings.backbones.vae, "cpu")
        return lambda frames: encode_frames(vae, frames)
    return load_clip(settings.backbones.clip, "cpu").tokens


def _again(encode: Callable[[np.ndarray], np.ndarray], clips: np.ndarray, phase: str) -> Tensor:
    """Encode what the released code does in a step: one frame of each clip, or all of them."""
    if phase != "train-pr":
        return torch.from_numpy(encode(np.ascontiguousarray(clips[:, 0]))).float()
    made = encode(clips.reshape(-1, *clips.shape[2:]))
    return torch.from_numpy(made).float().unflatten(0, clips.shape[:2])


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _share_not_matrix(work: Callable[[], None]) -> float:
    """Return the share of the operations' own time that no matrix product or filter takes."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        work()
    times = {event.key: event.self_cpu_time_total for event in seen.key_averages()}
    matrix = sum(t for name, t in times.items() if any(part in name.lower() for part in MATRIX))
    return float(1 - matrix / sum(times.values()))


def _counted(phase: str) -> Rows:
    """Count the operations of a full-width step, and of the frozen network in the released one."""
    settings = load_settings({"run.profile": "paper"}, environ={})
    data, backbones = settings.data, settings.backbones
    many = _batch_size(settings, phase)
    objective = _objective(settings, phase, VOXELS, meta=True)
    side = data.frame_size // 8
    batch = {
        "fmri": meta_tensor(many, _width(settings, phase, VOXELS)),
        "latents": meta_tensor(many, data.frames_per_clip, 4, side, side),
        "tokens": meta_tensor(many, backbones.tokens, backbones.token_dim),
        "text": meta_tensor(many, backbones.embed_dim),
    }
    # MixCo leaves half of a batch unmixed on average; the estimate of memory counts more.
    with mock.patch.object(training, "UNMIXED", 0.5), live.MemoryTracker():
        learned = _operations(lambda: objective(batch)["loss"].backward()) / many
    frozen = _frozen_operations(settings, phase)
    return [
        (f"{phase}, paper, COUNTED: a step, 10^9 operations per clip", learned / 1e9, ""),
        (
            "... of the frozen network beside it, when recomputed",
            frozen / 1e9,
            f"{(learned + frozen) / learned:.1f} x",
        ),
    ]


def _frozen_operations(settings: Settings, phase: str) -> float:
    """Operations for one clip: CLIP's image tower on a keyframe, or the VAE's encoder on all."""
    torch.backends.mha.set_fastpath_enabled(False)
    data = settings.data
    with torch.no_grad():
        if phase != "train-pr":
            clip = build("clip", settings.backbones)
            return _operations(lambda: clip.visual(meta_tensor(1, 3, 224, 224)))  # type: ignore[operator]
        vae = build("vae", settings.backbones)
        frames = meta_tensor(data.frames_per_clip, 3, data.frame_size, data.frame_size)
        return _operations(lambda: vae.encode(frames))  # type: ignore[operator]


def _operations(work: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())
