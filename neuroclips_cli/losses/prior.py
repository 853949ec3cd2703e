"""The diffusion prior's loss (paper Eq. 9)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from neuroclips_cli.runtime.precision import in_float32


@in_float32
def prior_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of predicted clean tokens, a scalar.

    Parameters
    ----------
    predictions, targets : Tensor
        ``(batch, tokens, dim)``.
    """
    return F.mse_loss(predictions, targets)
