"""Reftm's frozen projector: image tokens into the text space (paper B.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neuroclips_cli.runtime.precision import in_float32


class TokenProjector(nn.Module):
    """Token mean times a fixed matrix.

    Parameters
    ----------
    weight : Tensor
        ``(token_dim, embed_dim)``; kept as a buffer, so it neither learns nor is saved.

    Examples
    --------
    >>> projector = TokenProjector(torch.tensor([[1.0], [10.0]]))
    >>> projector(torch.tensor([[[1.0, 0.0], [3.0, 2.0]]])).tolist()
    [[12.0]]
    """

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().clone().to(torch.float32), persistent=False)

    @in_float32
    def forward(self, tokens: Tensor) -> Tensor:
        """Project the mean token.

        Parameters
        ----------
        tokens : Tensor
            ``(batch, tokens, token_dim)``.

        Returns
        -------
        Tensor
            float32 ``(batch, embed_dim)``, not normalized: ``mean(tokens) W``.
        """
        return tokens.mean(dim=1) @ self.weight
