"""Runs of the whole tool on one device, done in seconds, and how far two of them differ."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuroclips_cli.runs.stage import run_folder
from neuroclips_cli.settings.load import Settings, load_settings, replace_settings

SIZES: dict[str, object] = {
    "run.profile": "tiny",
    "data.selection_p": 1.0,
    "simulate.train_segments": 4,
    "simulate.test_segments": 2,
    "simulate.clips_per_segment": 14,
    "simulate.test_clips_per_segment": 5,
    "simulate.test_repetitions": 3,
    "simulate.reliability": 0.5,
    # Dropout on a GPU draws from the GPU's own generator: without it both devices do the same.
    "perception.dropout": 0.0,
    "semantics.dropout": 0.0,
    "train_pr.epochs": 3,
    "train_pr.batch_size": 28,
    "train_pr.checkpoint_every": 1,
    "train_pr.validation_segments": (4,),
    "train_sr.contrastive_epochs": 2,
    "train_sr.contrastive_batch_size": 28,
    "train_sr.prior_epochs": 2,
    "train_sr.prior_batch_size": 28,
    "train_sr.checkpoint_every": 1,
    "train_sr.validation_segments": (4,),
    "reconstruct.steps": 3,
    "reconstruct.keyframe_steps": 3,
    "reconstruct.keyframe_candidates": 2,
    "fuse.epochs": 2,
    "fuse.threshold": 0.0,
    "evaluate.bootstrap_samples": 20,
    "evaluate.shuffles": 1,
}


def settings_for(dataset: Path, workdir: Path, device: str, **more: object) -> Settings:
    """Return settings of a run in float32 without TF32; keys with two underscores for a dot."""
    flags = {**SIZES, "run.dataset": str(dataset), "run.workdir": str(workdir)}
    flags |= {"run.device": device, "run.precision": "highest"}
    flags |= {key.replace("__", "."): value for key, value in more.items()}
    return load_settings(flags, folder=workdir.parent, environ={})


def begin_anew() -> None:
    """Make Accelerate forget its device, and products of float32 use all of their bits."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def cpu_run(settings: Settings, dataset: Path) -> None:
    """Simulate, then run every stage."""
    from neuroclips_cli.stages import simulate

    simulate.run(settings, dataset)
    train(settings)
    decode(settings)


def train(settings: Settings) -> None:
    """Preprocess and train."""
    from neuroclips_cli.stages import preprocess, train_pr, train_sr

    preprocess.run(settings)
    begin_anew()
    train_pr.run(settings)
    train_sr.run(settings)


def decode(settings: Settings) -> None:
    """Run what follows training, controls that use networks included."""
    from neuroclips_cli.stages import controls, evaluate, fuse, interpret, reconstruct

    begin_anew()
    reconstruct.run(settings)
    fuse.run(settings, clips="0:5")
    evaluate.run(settings)
    controls.run(settings, ("vae", "prior-only"))
    interpret.run(settings)


def copied(settings: Settings, workdir: Path, device: str, *stages: str, **more: Any) -> Settings:
    """Begin another run from a run's targets and finished stages, ``preprocess`` among them."""
    given = {"run.workdir": str(workdir), "run.device": device}
    given |= {key.replace("__", "."): value for key, value in more.items()}
    new = replace_settings(settings, given)
    for stage in ("preprocess", *stages):
        shutil.copytree(run_folder(settings) / stage, run_folder(new) / stage)
    shutil.copytree(Path(settings.run.workdir) / "targets", workdir / "targets")
    return new


def apart(found: Any, expected: Any) -> float:
    """Return the length of the difference, relative to the length of what is expected."""
    a, b = (np.asarray(_numpy(x), dtype=np.float64) for x in (found, expected))
    assert a.shape == b.shape and np.isfinite(a).all()
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-12))


def grey_levels(found: Any, expected: Any) -> float:
    """Return the mean absolute difference of uint8 pictures, in levels of 255."""
    a, b = (np.asarray(x, dtype=np.float64) for x in (found, expected))
    assert a.shape == b.shape
    return float(np.abs(a - b).mean())


def _numpy(x: Any) -> Any:
    return x.detach().float().cpu().numpy() if isinstance(x, torch.Tensor) else x


def validation(settings: Settings, stage: str) -> list[float]:
    """Return the validation losses of all epochs of a training."""
    lines = (run_folder(settings) / stage / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["val_loss"] for line in lines]


def training_losses(settings: Settings, stage: str) -> list[float]:
    """Return the training losses of all epochs."""
    lines = (run_folder(settings) / stage / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]
