"""Activation checkpointing: blocks keep their input and run again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from neuroclips_cli.models.prior_transformer import FeedForward, MultiQueryAttention
from neuroclips_cli.models.released.perception import PublishedBackbone
from neuroclips_cli.models.released.video_decoder import MiddleBlock, UpBlock
from neuroclips_cli.models.semantics import PublishedSemanticsBackbone, SemanticsBackbone
from neuroclips_cli.models.temporal_upsampling import TemporalUpsampling


def checkpoint_as_set(model: nn.Module, options: Any, **more: Any) -> None:
    """Compute again what ``train_pr`` or ``train_sr`` says; ``more`` for torch's checkpoint."""
    if options.activation_checkpointing:
        apply_activation_checkpointing(model, **more)
    elif getattr(options, "elementwise_checkpointing", False):
        apply_activation_checkpointing(model, elementwise=True, preserve_rng_state=False, **more)


def apply_activation_checkpointing(
    model: nn.Module, *, elementwise: bool = False, **options: Any
) -> int:
    """Let the blocks with most activations be computed twice instead of kept.

    Those are each attention and feed-forward part of the diffusion prior, the contrastive
    projector, each module of Temporal Upsampling, and in the released perception network each
    block of its video decoder and the projector of its auxiliary map. Random numbers are the
    same both times, so results and gradients do not change; a step takes about a third longer.

    Parameters
    ----------
    model : nn.Module
        A reconstructor; changed in place, the names of its weights stay.
    elementwise : bool
        Only norms, gates and unit queries and keys of the prior: of its products only those of
        the queries and keys run again, since torch stops as soon as it has what it needs.
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
    parts = list(_elementwise_parts(model) if elementwise else _blocks(model))
    if not parts:
        raise ValueError(f"no block of {type(model).__name__} is known to checkpoint")
    for module, method in parts:
        again = partial(checkpoint, getattr(module, method), use_reentrant=False, **options)
        setattr(module, method, again)
    return len(parts)


def _elementwise_parts(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for module in model.modules():
        if isinstance(module, MultiQueryAttention):
            yield module, "project"
        elif isinstance(module, FeedForward):
            yield module, "widen"
            yield module, "narrow"


def _blocks(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    for module in model.modules():
        if isinstance(module, MultiQueryAttention | FeedForward):
            yield module, "forward"
        elif isinstance(module, SemanticsBackbone | PublishedSemanticsBackbone):
            yield module.clip_proj, "forward"
        elif isinstance(module, TemporalUpsampling | MiddleBlock | UpBlock):
            yield module, "forward"
        elif isinstance(module, PublishedBackbone):
            yield module.b_maps_projector, "forward"
