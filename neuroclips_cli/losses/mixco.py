"""MixCo augmentation and the BiMixCo loss (paper equations 7 and 8; MindEye)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from neuroclips_cli.runtime.precision import in_float32, to_device


@dataclass(frozen=True)
class Mix:
    """One draw of the mixing.

    Attributes
    ----------
    partner : Tensor
        ``(batch,)`` int64, whose row is mixed in.
    coefficient : Tensor
        ``(batch,)`` in 0..1, weight of the own row; exactly 1 where ``selected`` is False.
    selected : Tensor
        ``(batch,)`` bool, rows that are mixed.
    """

    partner: Tensor
    coefficient: Tensor
    selected: Tensor

    def to(self, device: torch.device) -> Mix:
        """Return the same draw on a device, which need not have come to it for that."""
        parts = (self.partner, self.coefficient, self.selected)
        return Mix(*(to_device(part, device) for part in parts))

    def unmixed(self) -> Tensor:
        """Return the numbers of the rows that are not mixed, int64; of all where all are.

        On the CPU, before the draw is moved: a GPU would have to be waited for to count them.
        """
        rows = torch.arange(len(self.selected))
        return rows if bool(self.selected.all()) else rows[~self.selected]


def draw_mix(batch: int, beta: float, device: torch.device, *, share: float = 0.5) -> Mix:
    """Draw partners, coefficients and which rows are mixed, from torch's global generator.

    Parameters
    ----------
    batch : int
        Number of rows.
    beta : float
        Both parameters of the Beta distribution (0.15 in MindEye and NeuroClips).
    device : torch.device
        Where the rows lie.
    share : float
        Probability that a row is mixed.
    """
    partner = torch.randperm(batch)
    coefficient = torch.distributions.Beta(beta, beta).sample((batch,))
    selected = torch.rand(batch) <= share
    coefficient = torch.where(selected, coefficient, torch.ones(()))
    return Mix(partner, coefficient, selected).to(device)


def mix_rows(rows: Tensor, mix: Mix) -> Tensor:
    """Eq. 7: ``coefficient * own + (1 - coefficient) * partner`` where selected.

    Parameters
    ----------
    rows : Tensor
        ``(batch, ...)``; returned as a new tensor of the same shape.
    mix : Mix
        The draw to apply.
    """
    weight = mix.coefficient.to(rows.dtype).view(-1, *[1] * (rows.ndim - 1))
    mixed = weight * rows + (1 - weight) * rows[mix.partner]
    return torch.where(mix.selected.view_as(weight), mixed, rows)


def mix_targets(mix: Mix) -> Tensor:
    """Target matrix ``(batch, batch)`` of the mixed cross-entropy.

    Entries are written, not added, as in the original: a selected row that is its own partner
    keeps only ``1 - coefficient``, an unselected one nothing at all.
    """
    matrix = torch.diag(mix.coefficient)
    rows = torch.arange(len(mix.partner), device=matrix.device)
    matrix[rows, mix.partner] = 1 - mix.coefficient
    return matrix


@in_float32
def bimixco_loss(
    predictions: Tensor,
    targets: Tensor,
    temperature: float,
    mix: Mix,
    *,
    bidirectional: bool = True,
) -> Tensor:
    """Eq. 8: InfoNCE in which a mixed row belongs to two targets, in proportion.

    Parameters
    ----------
    predictions : Tensor
        ``(batch, dim)``, embeddings of the mixed fMRI, usually unit rows.
    targets : Tensor
        ``(batch, dim)``, keyframe embeddings, usually unit rows.
    temperature : float
        Divides the inner products, > 0.
    mix : Mix
        How the fMRI was mixed.
    bidirectional : bool
        Mean of both directions, else predictions to targets only.

    Returns
    -------
    Tensor
        Scalar, in nats.
    """
    logits = predictions @ targets.T / temperature
    weights = mix_targets(mix).to(logits.dtype)
    loss = -(weights * F.log_softmax(logits, -1)).sum(-1).mean()
    if bidirectional:
        backward = -(weights.T * F.log_softmax(logits.T, -1)).sum(-1).mean()
        loss = (loss + backward) / 2
    return loss
