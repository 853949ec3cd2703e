"""A run of tiny networks with random weights, trained as far as its folders say."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import random_backbones as tiny
import torch

from neuroclips_cli.data.brain_maps import Geometry, write_maps
from neuroclips_cli.models.perception import Perception
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.runs.stage import open_stage
from neuroclips_cli.settings.load import Settings, load_settings

VOXELS, VERTICES, TEST, SIZE, FRAMES = 10, 16, 5, tiny.FRAME_SIZE, 6
SMALL = {
    "run.device": "cpu",
    # Random networks' tokens are no films'.
    "backbones.token_denoiser": "",
    "data.frame_size": SIZE,
    "perception.hidden": 16,
    "perception.inception_hidden": 8,
    "perception.blocks": 1,
    "perception.start_size": 2,
    "perception.decoder_channels": (8, 8),
    "semantics.hidden": 16,
    "semantics.blocks": 1,
    "semantics.prior_depth": 1,
    "semantics.prior_heads": 2,
    "semantics.prior_head_dim": 16,
    "semantics.prior_timesteps": 10,
    "semantics.prior_sampling_steps": 3,
    "semantics.token_pca_rank": 0,
    "data.window": 1,
    "reconstruct.steps": 2,
    "reconstruct.frames": 4,
    "reconstruct.keyframe_steps": 1,
    "reconstruct.keyframe_candidates": 2,
    "semantics.decoded_tokens": "prior",
    "reconstruct.blur_init": "strength:1.0",
    "reconstruct.batch_size": 2,
    "train_sr.validation_segments": (5, 6),
    "fuse.epochs": 2,
    "fuse.threshold": 0.01,
}
"""Settings under which every part takes a moment."""


MODELS = nib.cifti2.BrainModelAxis.from_surface(np.arange(VERTICES), 32, "CortexLeft")


def write_scans(path: Path, series: np.ndarray, *, step: float = 2.0, models=MODELS) -> Path:
    """Write a run, (volumes, vertices), of the voxels that `write` says the run was trained on."""
    axis = nib.cifti2.SeriesAxis(0, step, len(series), "SECOND")
    nib.cifti2.Cifti2Image(series, header=(axis, models)).to_filename(path)
    return path


def settings(workdir: Path, backbones: dict[str, object], **changes: object) -> Settings:
    """Return settings for random backbones, as ``random_backbones.save_all`` names them."""
    named = {f"backbones.{name}": value for name, value in backbones.items()}
    flags = {**SMALL, "run.workdir": str(workdir), **named, **changes}
    return load_settings(flags, folder=workdir.parent, environ={})


def write(chosen: Settings) -> None:
    """Write preprocess, train-pr and train-sr folders with random contents."""
    _preprocess(chosen)
    torch.manual_seed(0)
    latent = (4, SIZE // 8, SIZE // 8)
    perception = Perception(VOXELS, FRAMES, chosen.perception, latent)
    with open_stage(chosen, "train-pr", sections=("data", "perception"), inputs={}) as stage:
        stage.fact("model", {"voxels": VOXELS, "frames": FRAMES, "latent_shape": list(latent)})
        stage.write_safetensors("model.safetensors", perception.state_dict())
    semantics = Semantics(VOXELS, chosen.semantics, tiny.TOKENS, tiny.TOKEN_DIM)
    sizes = {"voxels": VOXELS, "tokens": tiny.TOKENS, "token_dim": tiny.TOKEN_DIM}
    with open_stage(chosen, "train-sr", sections=("backbones", "semantics"), inputs={}) as stage:
        stage.fact("model", sizes)
        stage.write_safetensors("model.safetensors", semantics.state_dict())


def _preprocess(chosen: Settings) -> None:
    rng = np.random.default_rng(0)
    selected = np.arange(VERTICES) < VOXELS
    with open_stage(chosen, "preprocess", sections=("data",), inputs={}) as stage:
        stage.write_array("fmri_test.npy", rng.normal(size=(TEST, VOXELS)).astype(np.float32))
        repeated = rng.normal(size=(TEST, 4, VOXELS)).astype(np.float32)
        stage.write_array("fmri_test_repetitions.npy", repeated)
        frames = rng.integers(0, 256, (TEST, FRAMES, SIZE, SIZE, 3), dtype=np.uint8)
        stage.write_array("frames_test.npy", frames)
        header = ("clip", "split", "segment", "onset_s", "volume", "crosses_scene", "scene")
        rows = [(i, "test", 1, 2.0 * i, i, 0, "", "") for i in range(TEST)]
        stage.write_csv("clips.csv", (*header, "caption"), rows)
        with stage.atomic("selection.npz") as path:
            np.savez_compressed(path, columns=np.arange(VERTICES), selected=selected)
        with stage.atomic("selection.dscalar.nii") as path:
            maps = {"mean_z": rng.normal(size=VERTICES), "selected": selected}
            write_maps(path, Geometry(MODELS, None, None), None, maps)
