"""The states of every caption of the synthetic dataset, encoded once."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from neuroclips_cli.simulation import synthetic_world

from .tokenizer import GENERIC

COUNTS = (
    len(synthetic_world.KINDS),
    len(synthetic_world.COLORS),
    len(synthetic_world.MOTIONS),
    len(synthetic_world.SETTINGS),
)


class Words:
    """Text states by number, on the device.

    Attributes
    ----------
    states : Tensor of shape (texts, length, width)
        Captions with motion, then those without, the generic prompt, and no text.
    generic, nothing : int
        Numbers of the last two.

    Parameters
    ----------
    folder : Path
        Holds ``text_encoder`` and ``tokenizer``.
    device : torch.device
        Where the states are wanted.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        scenes = [synthetic_world.Scene(*c, 8.0, 0) for c in itertools.product(*map(range, COUNTS))]
        texts = [synthetic_world.caption(s, with_motion=True) for s in scenes]
        texts += [synthetic_world.caption(s) for s in scenes if s.motion == 0]
        self.with_motion = len(scenes)
        self.generic, self.nothing = len(texts), len(texts) + 1
        texts += [GENERIC, ""]
        encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        ids = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids.to(device)
        encoder = encoder.to(device).eval()
        with torch.inference_mode():
            parts = [encoder(part).last_hidden_state for part in ids.split(256)]
        self.states = torch.cat(parts).clone()

    def number(self, labels: Tensor, motion: Tensor | None = None) -> Tensor:
        """Return the captions' numbers of kind, color and setting (batch, 3), motion (batch,)."""
        kind, color, setting = labels.unbind(-1)
        _, colors, motions, settings = COUNTS
        pair = kind * colors + color
        if motion is None:
            return self.with_motion + pair * settings + setting
        return (pair * motions + motion) * settings + setting
