"""Training along the sampler's own path.

A denoiser learns from noised true pictures; when it samples in a few steps it meets its own,
begun from a decoded and therefore wrong blurry clip. Here a row of a batch is one such state:
each training step predicts the clean picture from it, learns from the error, and the prediction
carries the state on to the sampler's next step. It costs no further pass through the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class SamplingPath:
    """The deterministic sampler's steps (DDIM without noise, which is Euler's step too).

    Parameters
    ----------
    alphas_cumprod : Tensor of shape (1000,)
        The noise schedule.
    times : sequence of int
        Training steps that the sampler visits, descending; after the last the picture is clean.
    device : torch.device
        Where states lie.
    """

    def __init__(self, alphas_cumprod: Tensor, times: Sequence[int], device: torch.device) -> None:
        self.times = torch.tensor(list(times), device=device)
        kept = alphas_cumprod.to(device)[self.times]
        self.kept = kept
        self.kept_next = torch.cat([kept[1:], kept.new_ones(1)])

    def __len__(self) -> int:
        return len(self.times)

    def next_state(self, state: Tensor, place: Tensor, clean: Tensor) -> Tensor:
        """Return the states after the steps ``place`` that predicted ``clean``."""
        shape = (-1,) + (1,) * (state.ndim - 1)
        now, after = self.kept[place].view(shape), self.kept_next[place].view(shape)
        noise = (state - now.sqrt() * clean) / (1 - now).sqrt()
        return after.sqrt() * clean + (1 - after).sqrt() * noise


class Slots:
    """A batch of states, each somewhere on the path; one that has arrived begins anew.

    Parameters
    ----------
    path : SamplingPath
        The sampler's steps.
    draw : callable
        Returns new rows: ``state`` and ``place`` where the sampler begins, ``clean``, and
        whatever else belongs to a row.
    """

    def __init__(self, path: SamplingPath, draw: Callable[[], dict[str, Tensor]]) -> None:
        self.path, self.draw = path, draw
        self.rows = {name: value.clone() for name, value in draw().items()}
        # Rows start all along the path, so that every batch holds every noise level.
        place = torch.randint(len(path), self.rows["place"].shape, device=path.times.device)
        self.rows["place"].copy_(place)
        self.rows["state"].copy_(noised(self.rows["clean"], path.kept[place])[0])

    def now(self) -> dict[str, Tensor]:
        """Replace the rows that have arrived; return a copy of all, with their ``times``."""
        arrived = self.rows["place"] >= len(self.path)
        for name, value in self.draw().items():
            old = self.rows[name]
            old.copy_(torch.where(arrived.view((-1,) + (1,) * (old.ndim - 1)), value, old))
        rows = {name: value.clone() for name, value in self.rows.items()}
        return rows | {
            "kept": self.path.kept[rows["place"]],
            "times": self.path.times[rows["place"]],
        }

    def carry_on(self, clean: Tensor) -> None:
        """Take every state to the sampler's next step by the predicted clean pictures."""
        state, place = self.rows["state"], self.rows["place"]
        state.copy_(self.path.next_state(state, place, clean.detach().float()))
        place.add_(1)


def noised(clean: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``clean`` noised to the level ``kept`` (batch,), and the noise."""
    kept = kept.view((-1,) + (1,) * (clean.ndim - 1))
    noise = torch.randn_like(clean)
    return kept.sqrt() * clean + (1 - kept).sqrt() * noise, noise


def clean_from_velocity(noisy: Tensor, velocity: Tensor, kept: Tensor) -> Tensor:
    """Return the clean picture that a predicted velocity stands for."""
    kept = kept.view((-1,) + (1,) * (noisy.ndim - 1))
    return kept.sqrt() * noisy - (1 - kept).sqrt() * velocity
