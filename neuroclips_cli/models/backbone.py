"""The ridge layer and the MLP backbone that both reconstructors begin with."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

MIXING, RELEASED = "mixing", "released"


class RidgeRegression(nn.Module):
    """The linear map of Eq. 3 from a subject's voxels to the common width.

    It is learned by AdamW with a weight decay of its own (the ridge penalty) together with the
    rest, as the authors do. Keys are those of the published checkpoints.

    Parameters
    ----------
    voxels, hidden : int
        Input and output width.

    See Also
    --------
    neuroclips_cli.training.cross_fitted_ridge.cross_fit : The same layer in closed form.

    Examples
    --------
    >>> import torch
    >>> from neuroclips_cli.models.backbone import RidgeRegression
    >>> tuple(RidgeRegression(voxels=5, hidden=3)(torch.zeros(2, 5)).shape)
    (2, 3)
    """

    def __init__(self, voxels: int, hidden: int) -> None:
        super().__init__()
        self.linears = nn.ModuleList([nn.Linear(voxels, hidden)])

    def forward(self, fmri: Tensor) -> Tensor:
        """Apply the linear map.

        Parameters
        ----------
        fmri : Tensor
            ``(..., voxels)``, standardized.

        Returns
        -------
        Tensor
            ``(..., hidden)``.
        """
        return self.linears[0](fmri)


class ResidualMLP(nn.Module):
    """Pre-norm residual MLP blocks over the channels.

    The released trunk (:class:`~neuroclips_cli.models.released.mixer.PublishedMixer`) adds a
    constant only; here every block mixes all channels.

    Parameters
    ----------
    hidden : int
        Width.
    blocks : int
        Number of blocks.
    dropout : float
        Inside each block, 0..1.

    Notes
    -----
    ``x <- x + W2 dropout(gelu(W1 layernorm(x) + b1)) + b2``, block after block.

    Examples
    --------
    >>> import torch
    >>> from neuroclips_cli.models.backbone import ResidualMLP
    >>> mlp = ResidualMLP(hidden=4, blocks=2, dropout=0.0)
    >>> mlp.begin_as_identity()
    >>> mlp(torch.ones(1, 4)).tolist()
    [[1.0, 1.0, 1.0, 1.0]]
    """

    def __init__(self, hidden: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden),
                nn.Linear(hidden, hidden),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(hidden, hidden),
            )
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the blocks in order.

        Parameters
        ----------
        x : Tensor
            ``(..., hidden)``.

        Returns
        -------
        Tensor
            ``(..., hidden)``.
        """
        for block in self.blocks:
            x = x + block(x)
        return x

    def begin_as_identity(self) -> None:
        """Set the last layer of every block to zero, so that the blocks begin as the identity."""
        with torch.no_grad():
            for block in self.blocks:
                last = cast(nn.Linear, cast(nn.Sequential, block)[-1])
                last.weight.zero_()
                last.bias.zero_()
