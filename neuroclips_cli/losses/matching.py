"""The keyframe matcher's loss (paper 3.4)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from neuroclips_cli.runtime.precision import in_float32


@in_float32
def matching_loss(logits: Tensor, same: Tensor) -> Tensor:
    """Compute the cross-entropy of "same class" (paper 3.4).

    Parameters
    ----------
    logits : Tensor
        ``(pairs,)``.
    same : Tensor
        ``(pairs,)``, float, 1 where both keyframes are of one class, else 0.

    Returns
    -------
    Tensor
        Scalar, in nats, at least 0.

    Examples
    --------
    >>> import torch
    >>> from neuroclips_cli.losses import matching_loss
    >>> round(matching_loss(torch.zeros(2), torch.tensor([1.0, 0.0])).item(), 4)
    0.6931
    """
    return F.binary_cross_entropy_with_logits(logits, same)
