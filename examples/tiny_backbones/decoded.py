"""What a decoder of brain scans would know of image tokens and of clips.

A decoder's expected value keeps some principal components, and lies nearer to the mean the less
it knows. With share b of a component's variance v known, it is b times the true deviation from
the mean plus noise of variance ``b (1 - b) v``. Measured on a demo run: the prior's tokens have
shares around 0.45 in their 16 components; blurry clips have a share of 0.76 in the first four
(which are the setting), 0.2 in the next four, and elsewhere none but noise of 0.16 v; within a
clip they hardly move.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuroclips_cli.backbones.clip import load_clip
from neuroclips_cli.runs.stage import read_array, read_csv
from neuroclips_cli.training.cross_fitted_ridge import cross_fit_pool

COMPONENTS = 96
SEEN = (1, 4)
"""Frames of a clip whose tokens are averaged."""
TOKEN_RANK, WIDEST = 24, 256


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


class DecodedBy:
    """Makes of true values what a subject's regression from scans made of its training films.

    Along each principal axis of the predictions, the share of the true value that they keep is that
    of the subject; what they miss is one of the errors that it made, of one clip along all axes.
    Test scans average more repetitions than training scans, so that shares are drawn up and errors
    mostly down.

    Parameters
    ----------
    true, predicted : Tensor of shape (clips, numbers)
        Values of training films, and what was predicted of each by a fit without its segment.
    rank : int
        Number of axes.
    """

    def __init__(self, true: Tensor, predicted: Tensor, rank: int) -> None:
        self.mean = predicted.mean(dim=0)
        _, _, self.axes = torch.svd_lowrank(predicted - self.mean, q=rank, niter=6)
        wanted, found = ((x - self.mean) @ self.axes for x in (true, predicted))
        self.share = ((found * wanted).sum(0) / wanted.square().sum(0)).clamp(0, 1)
        errors = found - wanted * self.share
        self.errors = errors - errors.mean(dim=0)
        self.spread = found.std(dim=0)

    def components(self, values: Tensor) -> Tensor:
        """Return the components (batch, rank) of values (batch, ...)."""
        return (values.float().flatten(1) - self.mean) @ self.axes

    def __call__(self, values: Tensor, clips: Tensor) -> Tensor:
        """Degrade ``(batch, ...)`` with the errors that were made of the clips ``(batch,)``."""
        more, less = torch.rand(2, len(values), 1, device=values.device)
        share = self.share + 0.3 * more * (1 - self.share)
        with torch.autocast(values.device.type, enabled=False):
            known = self.components(values) * share + (0.4 + 0.7 * less) * self.errors[clips]
            return (known @ self.axes.T + self.mean).view_as(values)


def of_subject(run: Path, folder: Path, device: torch.device) -> DecodedBy:
    """Return how a subject's scans tell tokens.

    Parameters
    ----------
    run : Path
        Run folder of a subject of a simulated data set, after ``preprocess``. Only its training
        films and scans are read.
    folder : Path
        Holds ``clip``.
    device : torch.device
        Where values lie.
    """
    rows = [row for row in read_csv(run / "preprocess/clips.csv") if row["split"] == "train"]
    segments = np.array([int(row["segment"]) for row in rows])
    scans = np.asarray(read_array(run / "preprocess/fmri_train.npy"))
    frames = np.asarray(read_array(run / "preprocess/frames_train.npy"))[:, SEEN]
    tokens = load_clip(str(folder / "clip")).tokens(frames.reshape(-1, *frames.shape[2:]), 256)
    averaged = tokens.astype(np.float32).reshape(len(frames), len(SEEN), -1).mean(axis=1)
    part = (scans.reshape(*scans.shape[:2], -1), segments, averaged)
    (fitted,) = cross_fit_pool([part], WIDEST)
    predicted = fitted.features.mean(axis=1) @ fitted.axes + fitted.mean
    true, said = (torch.from_numpy(x).float().to(device) for x in (averaged, predicted))
    return DecodedBy(true, said, TOKEN_RANK)
