"""The published mixer: the trunk of the authors' checkpoints, arithmetic and key names.

MindEye2's mixer alternates two residual streams, one over the channels (``mixer_blocks1``), one
over the sequence (``mixer_blocks2``). NeuroClips runs it with one token per sample: the sequence
half then normalizes a single number, which is always 0, so its blocks are constants, and what
leaves the trunk is its input plus their sum; nothing that the channel half computes gets out.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


def mixing_block(width: int, dropout: float, *, linears: int = 2) -> nn.Sequential:
    """Layer norm and an MLP that keeps the width (two linear layers, or one)."""
    mlp: list[nn.Module] = [nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout)]
    if linears == 2:
        mlp.append(nn.Linear(width, width))
    return nn.Sequential(nn.LayerNorm(width), nn.Sequential(*mlp))


class PublishedMixer(nn.Module):
    """Alternating channel and sequence blocks with the published residual wiring.

    Parameters
    ----------
    hidden, blocks : int
        Width and number of pairs of blocks.
    dropout : float
        Inside each block, 0..1.
    sequence : int
        Tokens per sample; every published checkpoint has 1.
    linears : int
        Linear layers in one block: 2 in the trunk, 1 in the inception extension.
    mixing : bool
        Instead of the published wiring, add every block to one stream: then both halves reach the
        output, under the same keys.
    """

    def __init__(
        self,
        hidden: int,
        blocks: int,
        dropout: float,
        *,
        sequence: int = 1,
        linears: int = 2,
        mixing: bool = False,
    ) -> None:
        super().__init__()
        self.mixing = mixing
        self.mixer_blocks1 = nn.ModuleList(
            mixing_block(hidden, dropout, linears=linears) for _ in range(blocks)
        )
        self.mixer_blocks2 = nn.ModuleList(
            mixing_block(sequence, dropout, linears=linears) for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, hidden)`` or ``(batch, sequence, hidden)`` to ``(batch, all)``."""
        x = x[:, None] if x.ndim == 2 else x
        by_channel, by_token = x, x.transpose(1, 2)
        for channels, tokens in zip(self.mixer_blocks1, self.mixer_blocks2, strict=True):
            by_channel = channels(x) + (x if self.mixing else by_channel)
            by_token = by_channel.transpose(1, 2) if self.mixing else by_token
            by_token = tokens(by_channel.transpose(1, 2)) + by_token
            x = by_token.transpose(1, 2)
        return x.flatten(1)

    def init_as_identity(self) -> None:
        """Let the trunk return its input until it has learned something."""
        with torch.no_grad():
            blocks = [*self.mixer_blocks2, *(self.mixer_blocks1 if self.mixing else ())]
            for block in blocks:
                for layer in cast(nn.Sequential, cast(nn.Sequential, block)[1]):
                    if isinstance(layer, nn.Linear):
                        layer.weight.zero_()
                        layer.bias.zero_()
