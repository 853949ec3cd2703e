"""The keyframe matcher's loss (paper 3.4)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from neuroclips_cli.runtime.precision import in_float32


@in_float32
def matching_loss(logits: Tensor, same: Tensor) -> Tensor:
    """Cross-entropy of "same class", a scalar in nats.

    Parameters
    ----------
    logits : Tensor
        ``(pairs,)``.
    same : Tensor
        ``(pairs,)``, 1 where both keyframes are of one class, else 0.
    """
    return F.binary_cross_entropy_with_logits(logits, same)
