"""What a decoder of brain scans would know of image tokens and of clips.

A decoder's expected value keeps some principal components, and lies nearer to the mean the less
it knows. With share b of a component's variance v known, it is b times the true deviation from
the mean plus noise of variance ``b (1 - b) v``. Measured on a demo run: the prior's tokens have
shares around 0.45 in their 16 components; blurry clips have a share of 0.76 in the first four
(which are the setting), 0.2 in the next four, and elsewhere none but noise of 0.16 v; within a
clip they hardly move.
"""

from __future__ import annotations

import torch
from torch import Tensor

COMPONENTS = 96


class DecodedLike:
    """Makes of true values what a decoder would know of them.

    Number of components and shares are drawn anew for every sample.

    Parameters
    ----------
    rows : Tensor of shape (many, ...)
        True values that give mean and principal components.
    rank : tuple of int
        Least and greatest number of known components.
    share : tuple of float
        Least and greatest share that is known of a component.
    fall : float
        Each further component is known by this factor less; 1 for all alike.
    elsewhere : float
        Greatest share of variance that components have as noise where nothing is known.
    """

    def __init__(
        self,
        rows: Tensor,
        *,
        rank: tuple[int, int],
        share: tuple[float, float],
        fall: float = 1.0,
        elsewhere: float = 0.0,
    ) -> None:
        flat = rows.float().flatten(1)
        self.mean = flat.mean(dim=0)
        count = min(COMPONENTS, len(flat) - 1, flat.shape[1])
        _, spread, axes = torch.svd_lowrank(flat - self.mean, q=count, niter=4)
        self.axes, self.variance = axes, spread.square() / len(flat)
        self.order = torch.arange(count, device=flat.device)
        self.rank, self.share, self.elsewhere = rank, share, elsewhere
        self.factor = fall ** self.order.float()

    def __call__(self, values: Tensor) -> Tensor:
        """Degrade ``(batch, ...)``."""
        count, device = len(values), values.device
        low, high = self.share
        typical = low + (high - low) * torch.rand(count, 1, device=device)
        shape = count, len(self.order)
        known = (typical + 0.15 * torch.randn(shape, device=device)).clamp(0, 1) * self.factor
        rank = torch.randint(self.rank[0], self.rank[1] + 1, (count, 1), device=device)
        known = known.masked_fill(self.order >= rank, 0.0)
        stray = self.elsewhere * torch.rand(count, 1, device=device)
        power = known * (1 - known) + stray * (known < 0.1)
        # Principal components need more than the eight bits of bfloat16.
        with torch.autocast(device.type, enabled=False):
            components = (values.float().flatten(1) - self.mean) @ self.axes
            noise = (power * self.variance).sqrt() * torch.randn(shape, device=device)
            decoded = (known * components + noise) @ self.axes.T + self.mean
        return decoded.view_as(values)
