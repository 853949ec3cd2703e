"""Latents and tokens of the training films, computed once and kept on the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from neuroclips_cli.backbones.clip import load_clip
from neuroclips_cli.backbones.vae import encode_frames, load_vae

from .films import Pool

FRAMES_WITH_TOKENS = (0, 5, 10, 15)
AT_ONCE = 64


@dataclass(frozen=True)
class Latents:
    """What the denoisers learn from.

    Attributes
    ----------
    clips : Tensor of float16, shape (clips, 16, 4, 8, 8)
        Scaled latents.
    tokens : Tensor of float16, shape (clips, 4, 16, dim)
        Image tokens of the frames :data:`FRAMES_WITH_TOKENS`.
    labels : Tensor of int64, shape (clips, 4)
        Kind, color, motion and setting.
    """

    clips: Tensor
    tokens: Tensor
    labels: Tensor

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return self.clips.device


def compute(pool: Pool, folder: Path, clips: int) -> Latents:
    """Encode the first clips of a pool.

    Parameters
    ----------
    pool : Pool
        Films.
    folder : Path
        Holds ``vae`` and ``clip``.
    clips : int
        How many.
    """
    device = str(pool.device)
    vae, clip = load_vae(str(folder / "vae"), device), load_clip(str(folder / "clip"), device)
    latents, tokens = [], []
    for begin in range(0, clips, AT_ONCE):
        frames = pool.frames[begin : min(begin + AT_ONCE, clips)]
        encoded = encode_frames(vae, frames.reshape(-1, *frames.shape[2:]), 16 * AT_ONCE)
        latents.append(torch.from_numpy(encoded).half().unflatten(0, frames.shape[:2]))
        some = frames[:, list(FRAMES_WITH_TOKENS)]
        said = torch.from_numpy(clip.tokens(some.reshape(-1, *some.shape[2:]), 4 * AT_ONCE))
        tokens.append(said.half().unflatten(0, some.shape[:2]))
    return Latents(
        torch.cat(latents).to(pool.device),
        torch.cat(tokens).to(pool.device),
        torch.from_numpy(pool.labels[:clips]).to(pool.device),
    )
