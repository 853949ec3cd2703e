"""Training of three subjects together beside one alone: processor time and memory of a step."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

SUBJECTS = (13447, 14828, 9114)
"""Voxels of cc2017's subjects."""
BATCH, TOKENS, DIM, STEPS = 24, 128, 1664, 2


def _step_s(voxels: list[int]) -> float:
    """Return the processor time of a step of the contrastive phase, compact's width."""
    import torch

    from neuroclips_cli.models.semantics import Semantics
    from neuroclips_cli.models.subject_scans import SubjectScans
    from neuroclips_cli.settings.load import load_settings
    from neuroclips_cli.training.objectives import ContrastiveObjective
    from neuroclips_cli.training.optimizer import make_optimizer
    from neuroclips_cli.training.pool import part_sizes

    sizes = load_settings({"run.profile": "compact"}, folder=None, environ={}).semantics
    sizes = replace(sizes, prior_depth=1, prior_heads=2, head_rank=128)
    torch.manual_seed(0)
    pooled = len(voxels) > 1
    model = Semantics(voxels if pooled else voxels[0], sizes, TOKENS, DIM)
    model.diffusion_prior.requires_grad_(False)
    objective = ContrastiveObjective(model, model, 0.1, 0.15)
    optimizer = make_optimizer(objective, 1e-4, 0.01, 0.01)
    counts = part_sizes(BATCH, len(voxels))
    parts = tuple(torch.randn(n, v) for n, v in zip(counts, voxels, strict=True))
    batch = {
        "fmri": SubjectScans(parts) if pooled else parts[0],
        "tokens": torch.randn(BATCH, TOKENS, DIM),
    }
    spent = []
    for _ in range(STEPS + 1):
        began = time.process_time()
        objective(batch)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        spent.append(time.process_time() - began)
    return min(spent[1:])


def _peaks(profile: str, voxels: int) -> dict[str, int]:
    """Return the computed peaks of the trainings at full size."""
    from neuroclips_cli.memory_estimate.training import train_perception, train_semantics
    from neuroclips_cli.settings.load import load_settings

    settings = load_settings({"run.profile": profile}, folder=None, environ={})
    side = settings.data.frame_size // 8
    how = {"device": "cuda", "mixed": True}
    needs = [train_perception(settings, voxels, (4, side, side), **how)]
    needs += list(train_semantics(settings, voxels, **how))
    return {need.stage: need.peak for need in needs}


def main(folder: Path) -> list[tuple[str, float, str]]:
    """Time a step of three subjects and of each alone; compute the memory at full size."""
    alone = sum(_step_s([voxels]) for voxels in SUBJECTS) / len(SUBJECTS)
    together = _step_s(list(SUBJECTS))
    rows = [
        (f"step of one subject, batch {BATCH}, mean of three, processor s", alone, ""),
        ("step of the three together, same batch", together, f"{together / alone:.2f}"),
    ]
    for profile in ("paper", "compact"):
        one, three = (_peaks(profile, size) for size in (max(SUBJECTS), sum(SUBJECTS)))
        rows += [
            (
                f"{profile}, {stage}: three subjects, GB",
                three[stage] / 1e9,
                f"{three[stage] / one[stage]:.2f}",
            )
            for stage in one
        ]
    return rows
