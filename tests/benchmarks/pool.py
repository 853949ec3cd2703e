"""Training of three subjects together beside one alone: processor time and memory of a step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

Build = Callable[[int | list[int], Any, int], tuple[Any, dict[str, Any]]]

SUBJECTS = (13447, 14828, 9114)
"""Voxels of cc2017's subjects."""
TOKENS, DIM, STEPS = 128, 1664, 2


def _semantics(voxels: int | list[int], sizes: Any, batch: int) -> tuple[Any, dict[str, Any]]:
    """Return the objective of the contrastive phase, compact's width, and its targets."""
    import torch

    from neuroclips_cli.models.semantics import Semantics
    from neuroclips_cli.training.objectives import ContrastiveObjective

    narrow = replace(sizes.semantics, prior_depth=1, prior_heads=2, head_rank=128)
    model = Semantics(voxels, narrow, TOKENS, DIM)
    model.diffusion_prior.requires_grad_(False)
    return ContrastiveObjective(model, model, 0.1, 0.15), {
        "tokens": torch.randn(batch, TOKENS, DIM)
    }


def _perception(voxels: int | list[int], sizes: Any, batch: int) -> tuple[Any, dict[str, Any]]:
    """Return the objective of train-pr, compact's width, and its targets."""
    import torch

    from neuroclips_cli.models.perception import Perception
    from neuroclips_cli.training.objectives import PerceptionObjective

    frames, shape = sizes.data.frames_per_clip, (4, *(2 * [sizes.data.frame_size // 8]))
    model = Perception(voxels, frames, sizes.perception, shape)
    return PerceptionObjective(model, 1.0, 0.1), {"latents": torch.randn(batch, frames, *shape)}


def _step_s(build: Build, batch: int, voxels: list[int], of_subjects: str) -> float:
    """Return the processor time of a step of a phase."""
    import torch

    from neuroclips_cli.models.subject_scans import SubjectScans
    from neuroclips_cli.settings.load import load_settings
    from neuroclips_cli.training.optimizer import make_optimizer
    from neuroclips_cli.training.pool import part_sizes

    torch.manual_seed(0)
    pooled = len(voxels) > 1
    settings = load_settings({"run.profile": "compact"}, folder=None, environ={})
    objective, targets = build(voxels if pooled else voxels[0], settings, batch)
    optimizer = make_optimizer(objective, 1e-4, 0.01, 0.01, of_subjects=of_subjects)
    counts = part_sizes(batch, len(voxels))
    parts = tuple(torch.randn(n, v) for n, v in zip(counts, voxels, strict=True))
    given = {"fmri": SubjectScans(parts) if pooled else parts[0], **targets}
    spent = []
    for _ in range(STEPS + 1):
        began = time.process_time()
        objective(given)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        spent.append(time.process_time() - began)
    return min(spent[1:])


def _peaks(profile: str, voxels: int | list[int]) -> dict[str, int]:
    """Return the computed peaks of the trainings at full size."""
    from neuroclips_cli.memory_estimate.training import train_perception, train_semantics
    from neuroclips_cli.settings.load import load_settings

    settings = load_settings({"run.profile": profile}, folder=None, environ={})
    side = settings.data.frame_size // 8
    how: dict[str, Any] = {"device": "cuda", "mixed": True}
    needs = [train_perception(settings, voxels, (4, side, side), **how)]
    needs += list(train_semantics(settings, voxels, **how))
    return {need.stage: need.peak for need in needs}


def main(folder: Path) -> list[tuple[str, float, str]]:
    """Time a step of three subjects and of each alone; compute the memory at full size."""
    rows = []
    phases: tuple[tuple[str, Build, int, tuple[str, ...]], ...] = (
        ("train-sr, contrastive", _semantics, 24, ("adamw",)),
        ("train-pr", _perception, 40, ("adafactor",)),
        ("train-pr", _perception, 24, ("adamw", "adafactor")),
    )
    for phase, build, batch, optimizers in phases:
        each = [_step_s(build, batch, [voxels], "adamw") for voxels in SUBJECTS]
        alone = sum(each) / len(each)
        rows.append((f"{phase}: step of one subject, batch {batch}, processor s", alone, ""))
        for kind in optimizers:
            together = _step_s(build, batch, list(SUBJECTS), kind)
            what = f"{phase}: step of the three, batch {batch}, first layers by {kind}"
            rows.append((what, together, f"{together / alone:.2f}"))
    for profile in ("paper", "compact"):
        one, three = (_peaks(profile, size) for size in (max(SUBJECTS), list(SUBJECTS)))
        rows += [
            (
                f"{profile}, {stage}: three subjects, GB",
                three[stage] / 1e9,
                f"{three[stage] / one[stage]:.2f}",
            )
            for stage in one
        ]
    return rows
