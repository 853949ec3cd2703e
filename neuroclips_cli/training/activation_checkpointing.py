"""Activation checkpointing: blocks keep their input and run again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, cast

from torch import nn
from torch.utils.checkpoint import checkpoint

from neuroclips_cli.models.prior_transformer import TokenTransformer
from neuroclips_cli.models.released.perception import PublishedBackbone
from neuroclips_cli.models.released.video_decoder import MiddleBlock, UpBlock
from neuroclips_cli.models.semantics import PublishedSemanticsBackbone, SemanticsBackbone
from neuroclips_cli.models.temporal_upsampling import TemporalUpsampling


def apply_activation_checkpointing(model: nn.Module, **options: Any) -> int:
    """Let the blocks with most activations be computed twice instead of kept.

    Those are each attention and feed-forward part of the diffusion prior, the contrastive
    projector, each module of Temporal Upsampling, and in the released perception network each
    block of its video decoder and the projector of its auxiliary map. Random numbers are the
    same both times, so results and gradients do not change; a step takes about a third longer.

    Parameters
    ----------
    model : nn.Module
        A reconstructor; changed in place, the names of its weights stay.
    **options
        For ``torch.utils.checkpoint.checkpoint``.

    Returns
    -------
    int
        How many blocks were found, at least one.

    Raises
    ------
    ValueError
        If none is found: the network would be trained at full memory without a word.
    """
    blocks = list(_blocks(model))
    if not blocks:
        raise ValueError(f"no block of {type(model).__name__} is known to checkpoint")
    for block in blocks:
        again = partial(checkpoint, block.forward, use_reentrant=False, **options)
        block.forward = again  # type: ignore[method-assign]
    return len(blocks)


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        if isinstance(module, TokenTransformer):
            for layer in module.layers:
                yield from cast(nn.ModuleList, layer)
        elif isinstance(module, SemanticsBackbone | PublishedSemanticsBackbone):
            yield module.clip_proj
        elif isinstance(module, TemporalUpsampling | MiddleBlock | UpBlock):
            yield module
        elif isinstance(module, PublishedBackbone):
            yield module.b_maps_projector
