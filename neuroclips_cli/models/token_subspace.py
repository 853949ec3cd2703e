"""The subspace of image tokens that the training films span."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TokenSubspace(nn.Module):
    """Projects tokens onto the principal components of the training films' tokens.

    Most of what tells films apart lies along few axes, and only along these do scans predict
    anything. What a decoder adds across them is its own error: small beside the tokens, but
    unlike any picture's, and an unCLIP model follows it.

    Parameters
    ----------
    rank : int
        Number of components kept.
    tokens, token_dim : int
        Number and width of the CLIP model's tokens.

    Notes
    -----
    ``x <- (x - m) A^T A + m`` with the mean m and orthonormal axes A of the training tokens.

    Examples
    --------
    >>> subspace = TokenSubspace(rank=1, tokens=1, token_dim=2)
    >>> subspace.fit(torch.tensor([[[0.0, 1.0]], [[2.0, 1.0]]]))
    >>> torch.allclose(subspace(torch.tensor([[[5.0, 9.0]]])), torch.tensor([5.0, 1.0]))
    True
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, rank: int, tokens: int, token_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(tokens * token_dim))
        self.register_buffer("axes", torch.zeros(rank, tokens * token_dim))

    @torch.no_grad()
    def fit(self, tokens: Tensor) -> None:
        """Compute the components.

        Parameters
        ----------
        tokens : Tensor
            ``(clips, tokens, token_dim)`` of training movies. Fewer than ``rank`` components are
            kept where they do not differ in as many ways.
        """
        rows = tokens.flatten(1).double()
        mean = rows.mean(dim=0)
        centered = rows - mean
        # The clips are fewer than the numbers in a picture's tokens, so their products suffice.
        values, vectors = torch.linalg.eigh(centered @ centered.T)
        kept = min(len(self.axes), int((values > 1e-6 * values[-1]).sum()))
        axes = torch.zeros_like(self.axes, dtype=torch.float64)
        if kept:
            onto = vectors[:, -kept:].flip(1).T @ centered
            axes[:kept] = nn.functional.normalize(onto, dim=1)
        self.mean.copy_(mean)
        self.axes.copy_(axes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Project tokens onto the components.

        Parameters
        ----------
        tokens : Tensor
            ``(batch, tokens, token_dim)``.

        Returns
        -------
        Tensor
            Of the same shape.
        """
        components = (tokens.flatten(1) - self.mean) @ self.axes.T
        return (components @ self.axes + self.mean).view_as(tokens)
