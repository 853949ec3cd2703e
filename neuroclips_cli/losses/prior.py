"""The diffusion prior's loss (paper Eq. 9)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from neuroclips_cli.runtime.precision import in_float32


@in_float32
def prior_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean squared error of predicted clean tokens (paper Eq. 9, with x0 as target).

    Parameters
    ----------
    predictions, targets : Tensor
        ``(batch, tokens, dim)``.

    Returns
    -------
    Tensor
        Scalar, at least 0, mean over all entries.

    Examples
    --------
    >>> import torch
    >>> from neuroclips_cli.losses import prior_loss
    >>> prior_loss(torch.zeros(1, 2, 2), torch.full((1, 2, 2), 3.0)).item()
    9.0
    """
    return F.mse_loss(predictions, targets)
