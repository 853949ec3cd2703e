"""Trainings as whole stages in a second: stand-ins for the frozen networks, tiny sizes and data."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neuroclips_cli.runs.stage import open_stage
from neuroclips_cli.settings.load import Settings, load_settings
from neuroclips_cli.stages import _training_data, train_sr

CLIPS, FRAMES, VOXELS, TOKENS, DIM = 24, 3, 12, 4, 8


def install(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put stand-ins in the place of the frozen networks; return what is asked of them."""
    seen: list[str] = []

    def encode_frames(vae, frames, **_):
        seen.append("latents")
        means = frames.reshape(len(frames), 2, 8, 2, 8, 3).mean((2, 4)) / 255
        extra = means.mean(-1, keepdims=True)
        return np.concatenate((means, extra), -1).transpose(0, 3, 1, 2).astype(np.float32)

    def tokens(frames):
        seen.append("tokens")
        rng = np.random.default_rng(0)
        flat = frames.reshape(len(frames), -1)[:, ::48] / 255
        flat = flat @ rng.standard_normal((flat.shape[1], TOKENS * DIM))
        return flat.reshape(-1, TOKENS, DIM).astype(np.float32)

    def text_embeddings(texts):
        seen.append("text")
        rows = [np.random.default_rng(len(text)).standard_normal(6) for text in texts]
        return np.stack(rows).astype(np.float32)

    def caption(frames):
        seen.append("captions")
        return ["a made up caption"] * len(frames)

    clip = SimpleNamespace(tokens=tokens, text_embeddings=text_embeddings)
    clip.in_space = lambda _: clip
    monkeypatch.setattr(_training_data, "load_vae", lambda *_: None)
    monkeypatch.setattr(_training_data, "encode_frames", encode_frames)
    monkeypatch.setattr(_training_data, "load_clip", lambda *_: clip)
    monkeypatch.setattr(train_sr, "load_projector", lambda *_: torch.ones(DIM, 6))
    monkeypatch.setattr(
        _training_data, "load_captioner", lambda *_: SimpleNamespace(caption=caption)
    )
    return seen


def settings(folder: Path) -> Settings:
    """Settings of a training of a second, and folders that stand for the networks' files."""
    for name in ("vae", "clip", "projector", "captioner"):
        (folder / "nets" / name).mkdir(parents=True)
        (folder / "nets" / name / "weights").write_text(name)
    flags = {
        "run.workdir": str(folder / "runs"),
        "run.device": "cpu",
        "perception.hidden": 16,
        "perception.inception_hidden": 4,
        "perception.blocks": 1,
        "perception.start_size": 2,
        "perception.decoder_channels": (4,),
        "train_pr.epochs": 3,
        "train_pr.batch_size": 8,
        "train_pr.checkpoint_every": 1,
        "semantics.hidden": 16,
        "semantics.blocks": 1,
        "semantics.prior_depth": 1,
        "semantics.prior_heads": 2,
        "semantics.prior_head_dim": 4,
        "train_sr.contrastive_epochs": 2,
        "train_sr.contrastive_batch_size": 16,
        "train_sr.prior_epochs": 2,
        "train_sr.prior_batch_size": 8,
        "train_sr.checkpoint_every": 1,
    }
    nets = {
        f"backbones.{name}": str(folder / "nets" / name)
        for name in ("vae", "clip", "projector", "captioner")
    }
    return load_settings(flags | nets, folder=folder, environ={})


def write_preprocess(
    settings: Settings,
    *,
    captions: bool = True,
    segments: int = 3,
    voxels: int = VOXELS,
    window: int = 1,
    films: slice = slice(0, CLIPS),
    test_films: slice | None = None,
    index: np.ndarray | None = None,
    overwrite: bool = False,
) -> None:
    """Make a finished preprocess folder; without ``test_films`` there is no test array.

    ``films`` and ``test_films`` are the clips shown, of a film of 80 clips that all subjects know.
    """
    rng = np.random.default_rng(settings.run.subject - 1)
    shown = np.random.default_rng(0).integers(0, 255, (80, FRAMES, 16, 16, 3), dtype=np.uint8)
    with open_stage(settings, "preprocess", sections=(), inputs={}, overwrite=overwrite) as stage:
        frames = shown[films]
        count = len(frames)
        shape = (count, 2, voxels) if window == 1 else (count, 2, window, voxels)
        stage.write_array("fmri_train.npy", rng.standard_normal(shape).astype(np.float32))
        stage.write_array("frames_train.npy", frames)
        if test_films is not None:
            stage.write_array("frames_test.npy", shown[test_films])
        if index is not None:
            with stage.atomic("selection.npz") as path:
                np.savez(path, index=index)
        numbers = np.arange(80)[films]
        rows = [
            (str(i), str(1 + numbers[i] * segments // CLIPS), f"a thing {'x' * (i % 4)}")
            for i in range(count)
        ]
        table = [(r[0], "train", r[1], 0, 0, 0, "", r[2] if captions else "") for r in rows]
        table.append(("0", "test", "1", 0, 0, 0, "", "a test clip"))
        header = ["clip", "split", "segment", "onset_s", "volume", "crosses_scene"]
        header += ["scene", "caption"]
        stage.write_csv("clips.csv", header, table)
