"""A tiny training of three subjects; as a program it is what every process of a launcher runs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from neuroclips_cli.models.perception import Perception
from neuroclips_cli.models.subject_scans import OneSubject
from neuroclips_cli.runtime import distributed
from neuroclips_cli.settings.schema import PerceptionSettings
from neuroclips_cli.training.checkpoints import CheckpointManager, cpu_state_dict
from neuroclips_cli.training.loop import PhaseConfig, make_accelerator, train_phase
from neuroclips_cli.training.metric_logger import MetricLogger
from neuroclips_cli.training.objectives import PerceptionObjective
from neuroclips_cli.training.pool import PooledSamples
from neuroclips_cli.training.samples import ClipSamples, repetition_mean
from neuroclips_cli.training.validation import perception_figures

VOXELS = [9, 9, 9]
SIZES = PerceptionSettings(
    hidden=16,
    inception_hidden=4,
    blocks=1,
    dropout=0.2,
    start_size=2,
    decoder_channels=(4,),
    layers_per_block=1,
)


def train(folder: Path, *, stop_after: int = 0, micro_batch_size: int = 0) -> Perception:
    """Train for three epochs; raise KeyboardInterrupt in the epoch after ``stop_after``."""
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((20, 3, 4, 2, 2)).astype(np.float32)
    scans = [rng.standard_normal((20, 2, size)).astype(np.float32) for size in VOXELS]
    torch.manual_seed(0)
    model = Perception(VOXELS, 3, SIZES, (4, 2, 2), average=True)
    parts = [
        ClipSamples(fmri, np.arange(16 - 4 * n), {"latents": latents}, noise=0.1)
        for n, fmri in enumerate(scans)
    ]
    first = OneSubject(model, 0, VOXELS)
    held = repetition_mean(scans[0], np.arange(16, 20)), torch.from_numpy(latents[16:])
    epoch = 0

    def validate() -> dict[str, float]:
        nonlocal epoch
        epoch += 1
        if stop_after and epoch > stop_after:
            raise KeyboardInterrupt
        return perception_figures(first, *held, 0.1, 0.1)

    plan = PhaseConfig(
        *("perception", 3, 10, 1e-2, 0.01, 0.01, 1, 7),
        subject_optimizer="adafactor",
        micro_batch_size=micro_batch_size,
    )
    with MetricLogger(folder) as metric_logger:
        train_phase(
            PerceptionObjective(model, 0.1, 0.1),
            model,
            PooledSamples(parts, subject_dropout=0.3),
            validate,
            plan,
            accelerator=make_accelerator("cpu", "float32"),
            checkpoints=CheckpointManager(folder / "checkpoints", plan.phase),
            metric_logger=metric_logger,
        )
    return model


if __name__ == "__main__":
    from safetensors.torch import save_file

    trained = train(Path(sys.argv[1]))
    if distributed.is_main_process():
        save_file(cpu_state_dict(trained), Path(sys.argv[1]) / "trained.safetensors")
    distributed.destroy_process_group()
