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
        """Move the draw to a device.

        Parameters
        ----------
        device : torch.device
            Where the rows lie; pinned memory is copied without waiting.

        Returns
        -------
        Mix
            The same draw.
        """
        parts = (self.partner, self.coefficient, self.selected)
        return Mix(*(to_device(part, device) for part in parts))

    def unmixed(self) -> Tensor:
        """Return the numbers of the rows that are not mixed; of all rows where every row is mixed.

        Returns
        -------
        Tensor
            int64 ``(rows,)``.

        Notes
        -----
        Call it on the CPU, before the draw is moved: counting on a GPU would wait for the GPU.

        Examples
        --------
        >>> from neuroclips_cli.losses import Mix
        >>> selected = torch.tensor([True, False, False])
        >>> Mix(torch.tensor([1, 2, 0]), torch.ones(3), selected).unmixed().tolist()
        [1, 2]
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

    Returns
    -------
    Mix
        On ``device``; the numbers are drawn on the CPU, so that they do not depend on it.

    Notes
    -----
    Coefficients follow Beta(beta, beta) (Kim et al. 2020, MixCo; paper Eq. 7).

    Examples
    --------
    >>> from neuroclips_cli.losses import draw_mix
    >>> mix = draw_mix(4, 0.15, torch.device("cpu"), share=0.0)
    >>> mix.coefficient.tolist(), mix.selected.any().item()
    ([1.0, 1.0, 1.0, 1.0], False)
    """
    partner = torch.randperm(batch)
    coefficient = torch.distributions.Beta(beta, beta).sample((batch,))
    selected = torch.rand(batch) <= share
    coefficient = torch.where(selected, coefficient, torch.ones(()))
    return Mix(partner, coefficient, selected).to(device)


def mix_rows(rows: Tensor, mix: Mix) -> Tensor:
    """Mix rows with their partners (paper Eq. 7).

    Parameters
    ----------
    rows : Tensor
        ``(batch, ...)``.
    mix : Mix
        The draw to apply.

    Returns
    -------
    Tensor
        New tensor of the shape of ``rows``: ``lambda_i x[i] + (1 - lambda_i) x[partner(i)]``
        where selected, else ``x[i]``.

    See Also
    --------
    mix_targets : The targets of mixed rows.

    Examples
    --------
    >>> from neuroclips_cli.losses import Mix, mix_rows
    >>> partner, selected = torch.tensor([1, 0]), torch.tensor([True, False])
    >>> mix = Mix(partner, torch.tensor([0.75, 1.0]), selected)
    >>> mix_rows(torch.tensor([[0.0], [8.0]]), mix).tolist()
    [[2.0], [8.0]]
    """
    weight = mix.coefficient.to(rows.dtype).view(-1, *[1] * (rows.ndim - 1))
    mixed = weight * rows + (1 - weight) * rows[mix.partner]
    return torch.where(mix.selected.view_as(weight), mixed, rows)


def mix_targets(mix: Mix) -> Tensor:
    """Return the target matrix of the mixed cross-entropy.

    Parameters
    ----------
    mix : Mix
        How the batch was mixed.

    Returns
    -------
    Tensor
        float32 ``(batch, batch)``: lambda_i on the diagonal, 1 - lambda_i at (i, partner(i)).

    Notes
    -----
    Entries are written, not added, as in MindEye's code: a selected row that is its own partner
    keeps only ``1 - coefficient``, an unselected one nothing at all.

    Examples
    --------
    >>> partner, selected = torch.tensor([1, 0]), torch.tensor([True, False])
    >>> mix_targets(Mix(partner, torch.tensor([0.75, 1.0]), selected)).tolist()
    [[0.75, 0.25], [0.0, 1.0]]
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
    """Compute BiMixCo (paper Eq. 8): InfoNCE with two targets for a mixed row, in proportion.

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

    See Also
    --------
    neuroclips_cli.losses.contrastive.info_nce : Its value where nothing is mixed.
    draw_mix : Draws ``mix``.

    Notes
    -----
    ``-(1 / B) sum_i (lambda_i log q[i, i] + (1 - lambda_i) log q[i, partner(i)])``, where q is the
    row-wise softmax of ``p . t / tau``; with ``bidirectional`` the mean with the same over columns.

    Examples
    --------
    >>> from neuroclips_cli.losses import Mix, bimixco_loss, info_nce
    >>> rows, others = torch.eye(2), torch.tensor([1, 0])
    >>> unmixed = Mix(others, torch.ones(2), torch.zeros(2, dtype=torch.bool))
    >>> torch.equal(bimixco_loss(rows, rows, 0.5, unmixed), info_nce(rows, rows, 0.5))
    True
    """
    logits = predictions @ targets.T / temperature
    weights = mix_targets(mix).to(logits.dtype)
    loss = -(weights * F.log_softmax(logits, -1)).sum(-1).mean()
    if bidirectional:
        backward = -(weights.T * F.log_softmax(logits.T, -1)).sum(-1).mean()
        loss = (loss + backward) / 2
    return loss
