"""The layer that turns the trunk's output into image tokens: whole, or in two factors."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


class FactorizedHead(nn.Module):
    """``rank`` numbers for every token, and one map to the token's width that all tokens share.

    The whole layer has hidden x tokens x token_dim weights, 1.7 G of the paper's 2.2 G. Tokens all
    lie in one space of features, so that the directions along which they differ can be shared.

    Parameters
    ----------
    hidden, tokens, token_dim, rank : int
        Width of the trunk, number and width of tokens, shared directions.
    """

    def __init__(self, hidden: int, tokens: int, token_dim: int, rank: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.per_token = nn.Linear(hidden, tokens * rank, bias=False)
        self.shared = nn.Linear(rank, token_dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(tokens * token_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map the trunk's output to tokens.

        Parameters
        ----------
        x : Tensor
            ``(batch, hidden)``.

        Returns
        -------
        Tensor
            ``(batch, tokens * token_dim)``.
        """
        numbers = self.per_token(x).unflatten(-1, (self.tokens, -1))
        return self.shared(numbers).flatten(-2) + self.bias


def make_head(hidden: int, tokens: int, token_dim: int, rank: int) -> nn.Linear | FactorizedHead:
    """Build the layer from the trunk to the tokens.

    Parameters
    ----------
    hidden : int
        Width of the trunk.
    tokens, token_dim : int
        Number and width of tokens.
    rank : int
        Directions that all tokens share; 0 for the whole layer.

    Returns
    -------
    nn.Linear or FactorizedHead
        From ``(batch, hidden)`` to ``(batch, tokens * token_dim)``.

    Examples
    --------
    A factored head has far fewer weights:

    >>> count = lambda head: sum(weights.numel() for weights in head.parameters())
    >>> count(make_head(64, 16, 32, rank=0)), count(make_head(64, 16, 32, rank=4))
    (33280, 4736)
    """
    if not rank:
        return nn.Linear(hidden, tokens * token_dim)
    return FactorizedHead(hidden, tokens, token_dim, rank)


@torch.no_grad()
def init_from_linear(head: nn.Linear | FactorizedHead, weight: Tensor, bias: Tensor) -> None:
    """Initialize the head so that its first inputs act through given weights.

    A factored head takes the nearest weights that its rank allows.

    Parameters
    ----------
    head : nn.Linear or FactorizedHead
        Inputs beyond ``weight``'s keep their random weights.
    weight : Tensor
        ``(tokens * token_dim, inputs)``, at most as many inputs as the head has.
    bias : Tensor
        ``(tokens * token_dim,)``.

    Notes
    -----
    The shared directions are the leading eigenvectors of the sum of outer products of all weights
    of one token and input (truncated SVD, Eckart & Young 1936).
    """
    inputs = weight.shape[1]
    cast(Tensor, head.bias).copy_(bias)
    if isinstance(head, nn.Linear):
        head.weight[:, :inputs] = weight
        return
    dim, rank = head.shared.weight.shape
    # (inputs x tokens, token_dim): the directions shared are those with most of all inputs' weights
    rows = weight.T.reshape(-1, dim)
    axes = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, -rank:]
    head.shared.weight.copy_(axes)
    numbers = (rows @ axes).unflatten(0, (inputs, head.tokens))
    head.per_token.weight[:, :inputs] = numbers.flatten(1).T
