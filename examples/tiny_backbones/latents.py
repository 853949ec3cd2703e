"""Latents and tokens of the training films, computed once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from neuroclips_cli.backbones.clip import load_clip
from neuroclips_cli.backbones.vae import encode_frames, load_vae

from .films import Pool

FRAMES_WITH_TOKENS = (0, 5, 10, 15)


def clip_latents(pool: Pool, vae_folder: Path, cache: Path, clips: int) -> np.ndarray:
    """Return scaled latents (clips, 16, 4, 8, 8) of the first clips of a pool."""
    file = cache / f"latents-{clips}-{_digest(vae_folder)}.npy"
    if not file.exists():
        vae = load_vae(str(vae_folder), "cpu")
        parts = [
            encode_frames(vae, np.concatenate(pool.frames[i : i + 50])) for i in range(0, clips, 50)
        ]
        latents = np.concatenate(parts)
        np.save(file, latents.reshape(clips, -1, *latents.shape[1:]).astype(np.float16))
    return np.load(file, mmap_mode="r")


def frame_tokens(pool: Pool, clip_folder: Path, cache: Path, clips: int) -> np.ndarray:
    """Return image tokens (clips, 4, 16, 128) of four frames of the first clips of a pool."""
    file = cache / f"tokens-{clips}-{_digest(clip_folder)}.npy"
    if not file.exists():
        clip = load_clip(str(clip_folder), "cpu")
        parts = [
            clip.tokens(np.concatenate(pool.frames[i : i + 50, list(FRAMES_WITH_TOKENS)]))
            for i in range(0, clips, 50)
        ]
        tokens = np.concatenate(parts)
        shape = (clips, len(FRAMES_WITH_TOKENS), *tokens.shape[1:])
        np.save(file, tokens.reshape(shape).astype(np.float16))
    return np.load(file, mmap_mode="r")


def _digest(folder: Path) -> str:
    """Tell weights apart, so that other weights never meet results of the former ones."""
    weights = sorted(folder.glob("*.safetensors"))
    return hashlib.sha256(b"".join(w.read_bytes() for w in weights)).hexdigest()[:12]
