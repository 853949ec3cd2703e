"""Inception Extension: one scan becomes one scan per frame (paper 3.1)."""

from __future__ import annotations

from torch import Tensor, nn


class InceptionExtension(nn.Module):
    """A shallow MLP that extends one fMRI scan to ``frames`` scans.

    Every extended scan is the measured one plus what the MLP adds for that frame. The released
    code has no such path around the MLP and ends in a GELU, so that its extended fMRI can hardly
    be negative; with the path, the ridge layer sees all voxels and not only what fits through the
    MLP's hidden width.

    Parameters
    ----------
    voxels : int
        Length of a scan.
    frames : int
        Nf, frames kept of a clip.
    hidden : int
        Width of the MLP (released code: 256).

    Notes
    -----
    ``Y_i = y + W_i gelu(W_0 y + b_0) + b_i`` for frame i of Nf (paper 3.1, ``Y_c -> Y``).

    Examples
    --------
    >>> import torch
    >>> from neuroclips_cli.models.inception import InceptionExtension
    >>> tuple(InceptionExtension(voxels=5, frames=6, hidden=3)(torch.zeros(2, 5)).shape)
    (2, 6, 5)
    """

    def __init__(self, voxels: int, frames: int, hidden: int) -> None:
        super().__init__()
        self.frames = frames
        self.lin0 = nn.Sequential(nn.Linear(voxels, hidden), nn.GELU())
        self.lin1 = nn.Linear(hidden, frames * voxels)
        # Small at first: the frames begin as the measured scan and part from it while learning.
        nn.init.normal_(self.lin1.weight, std=0.1 * hidden**-0.5)
        nn.init.zeros_(self.lin1.bias)

    def forward(self, fmri: Tensor) -> Tensor:
        """Extend one scan to a scan per frame.

        Parameters
        ----------
        fmri : Tensor
            ``(batch, voxels)``, standardized.

        Returns
        -------
        Tensor
            ``(batch, frames, voxels)``.
        """
        extended = self.lin1(self.lin0(fmri)).unflatten(-1, (self.frames, -1))
        return fmri[:, None] + extended
