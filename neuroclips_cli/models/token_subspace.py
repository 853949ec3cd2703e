"""The few directions along which image tokens differ between films."""

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
        Of the CLIP image model.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, rank: int, tokens: int, token_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(tokens * token_dim))
        self.register_buffer("axes", torch.zeros(rank, tokens * token_dim))

    @torch.no_grad()
    def fit(self, tokens: Tensor) -> None:
        """Take the components from tokens ``(clips, tokens, token_dim)`` of training films.

        Fewer than ``rank`` are kept where the films do not differ in as many ways.
        """
        rows = tokens.flatten(1).double()
        mean = rows.mean(dim=0)
        centred = rows - mean
        # The clips are fewer than the numbers in a picture's tokens, so their products suffice.
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        kept = min(len(self.axes), int((values > 1e-6 * values[-1]).sum()))
        axes = torch.zeros_like(self.axes, dtype=torch.float64)
        if kept:
            onto = vectors[:, -kept:].flip(1).T @ centred
            axes[:kept] = nn.functional.normalize(onto, dim=1)
        self.mean.copy_(mean)
        self.axes.copy_(axes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Project ``(batch, tokens, token_dim)``."""
        components = (tokens.flatten(1) - self.mean) @ self.axes.T
        return (components @ self.axes + self.mean).view_as(tokens)
