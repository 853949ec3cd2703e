"""Random numbers that belong to a clip, whatever batch it is computed in."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch


def clip_generators(seed: int, clips: Sequence[int], purpose: str) -> list[torch.Generator]:
    """Return one random generator per clip.

    Parameters
    ----------
    seed : int
        The run's seed.
    clips : sequence of int
        Clip numbers.
    purpose : str
        What is drawn; different purposes give independent numbers.

    Returns
    -------
    list of torch.Generator
        On the CPU, so that results do not depend on the device.
    """
    key = zlib.crc32(purpose.encode())
    generators = []
    for clip in clips:
        state = np.random.SeedSequence([seed, key, int(clip)]).generate_state(2, np.uint32)
        number = (int(state[0]) << 31) ^ int(state[1])
        generators.append(torch.Generator().manual_seed(number))
    return generators


def randn_per_clip(
    generators: Sequence[torch.Generator], shape: Sequence[int], device: str
) -> torch.Tensor:
    """Draw standard normal numbers, ``(len(generators), *shape)``, one generator per row."""
    rows = [torch.randn(tuple(shape), generator=generator) for generator in generators]
    return torch.stack(rows).to(device)
