"""Networks compiled block by block, where a setting asks for it."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)

BLOCKS = frozenset(
    {
        "BasicTransformerBlock",
        "ResidualAttentionBlock",
        "ResnetBlock2D",
        "MultiQueryAttention",
        "TemporalUpsampling",
        "VideoMAELayer",
        "ViTLayer",
    }
)
"""Classes whose instances are compiled one by one: equal ones share the code."""
SHAPES = 64
"""Shapes and kinds of blocks of one class that may be compiled before torch gives up."""


def compile_blocks(network: Network, *, backend: str = "inductor") -> Network:
    """Compile the repeated blocks of a network, each class once for each of its shapes.

    Compiling takes a minute when a block is first called, and again for another size of batch; a
    block that torch cannot compile runs as it is, which torch logs.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place.
    backend : str
        As for ``torch.compile``.

    Returns
    -------
    torch.nn.Module
        The same network.
    """
    torch._dynamo.config.recompile_limit = SHAPES
    torch._dynamo.config.suppress_errors = True
    for module in network.modules():
        if type(module).__name__ in BLOCKS:
            module.compile(backend=backend)
    return network
