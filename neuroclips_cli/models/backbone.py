"""The ridge layer and the MLP backbone that both reconstructors begin with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from neuroclips_cli.models.subject_scans import Scans, SubjectLayers, SubjectScans

MIXING, RELEASED = "mixing", "released"


class WindowLinear(nn.Module):
    """One linear layer per volume of a window, and a learned weighted sum over the volumes.

    Parameters
    ----------
    voxels, hidden : int
        Input and output width.
    window : int
        Volumes of a clip.

    Notes
    -----
    ``z = sum_t a_t (W_t v_t + b_t)``, as Dynadiff's input layer (2505.14556) without what it has
    between the two. The sum begins as the mean, ``a_t = 1 / window``.

    Examples
    --------
    >>> tuple(WindowLinear(voxels=5, hidden=3, window=4)(torch.zeros(2, 4, 5)).shape)
    (2, 3)
    """

    def __init__(self, voxels: int, hidden: int, window: int) -> None:
        super().__init__()
        self.volumes = nn.ModuleList(nn.Linear(voxels, hidden) for _ in range(window))
        self.sum = nn.Parameter(torch.full((window,), 1 / window))

    def forward(self, fmri: Tensor) -> Tensor:
        """Map ``(..., window, voxels)`` to ``(..., hidden)``."""
        layers = zip(self.sum, self.volumes, fmri.unbind(-2), strict=True)
        parts = [weight * layer(volume) for weight, layer, volume in layers]
        return torch.stack(parts).sum(0)


def input_layer(voxels: int, hidden: int, window: int) -> nn.Linear | WindowLinear:
    """Build one subject's first linear layer, of one volume or of a window of them."""
    return nn.Linear(voxels, hidden) if window == 1 else WindowLinear(voxels, hidden, window)


class RidgeRegression(nn.Module):
    """The linear map of Eq. 3 from each subject's voxels to the common width.

    It is learned by AdamW with a weight decay of its own (the ridge penalty) together with the
    rest, as the authors do. Keys are those of the published checkpoints: ``linears.N.weight`` of
    subject N; ``average.weight`` where subjects share a space and an average subject is learned.

    Parameters
    ----------
    voxels : int or sequence of int
        Length of a scan, of each subject where there are several.
    hidden : int
        Output width.
    window : int
        Volumes of a clip.
    average : bool
        Whether there is an average subject's layer; all subjects have the same voxels then.

    See Also
    --------
    neuroclips_cli.training.cross_fitted_ridge.cross_fit_pool : The same layer in closed form.

    Examples
    --------
    >>> tuple(RidgeRegression(voxels=5, hidden=3)(torch.zeros(2, 5)).shape)
    (2, 3)
    >>> [tuple(weights.shape) for weights in RidgeRegression([5, 7], hidden=3).parameters()]
    [(3, 5), (3,), (3, 7), (3,)]
    """

    def __init__(
        self, voxels: int | Sequence[int], hidden: int, *, window: int = 1, average: bool = False
    ) -> None:
        super().__init__()
        sizes = [voxels] if isinstance(voxels, int) else list(voxels)
        self.linears = SubjectLayers(input_layer(size, hidden, window) for size in sizes)
        self.average = input_layer(sizes[0], hidden, window) if average else None

    def forward(self, fmri: Scans) -> Tensor:
        """Apply each subject's linear map.

        Parameters
        ----------
        fmri : Tensor or SubjectScans
            ``(..., voxels)``, standardized, of the first subject, or a part of every subject;
            ``(..., window, voxels)`` with several volumes.

        Returns
        -------
        Tensor
            ``(..., hidden)``; several subjects' rows one after the other.
        """
        if isinstance(fmri, SubjectScans):
            return self.linears(fmri, self.average).joined()
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
    >>> mlp = ResidualMLP(hidden=4, blocks=2, dropout=0.0)
    >>> mlp.init_as_identity()
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

    def init_as_identity(self) -> None:
        """Set the last layer of every block to zero, so that the blocks begin as the identity."""
        with torch.no_grad():
            for block in self.blocks:
                last = cast(nn.Linear, cast(nn.Sequential, block)[-1])
                last.weight.zero_()
                last.bias.zero_()
