"""The published video decoder: a Stable Diffusion decoder with temporal attention between layers.

Its layers are diffusers' own; key names and the order of operations are those of the authors'
Perception Reconstructor, so that its checkpoints load strictly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

_EPSILON = 1e-6
_GROUPS = 32


def _groups(channels: int) -> int:
    return math.gcd(_GROUPS, channels)


def _residual(channels_in: int, channels: int) -> ResnetBlock2D:
    return ResnetBlock2D(
        in_channels=channels_in,
        out_channels=channels,
        temb_channels=None,
        eps=_EPSILON,
        groups=_groups(channels_in),
        groups_out=_groups(channels),
    )


def _attention(channels: int) -> Attention:
    """One head, a group norm of its own and a residual connection."""
    return Attention(
        channels,
        heads=1,
        dim_head=channels,
        eps=_EPSILON,
        norm_num_groups=_groups(channels),
        residual_connection=True,
        bias=True,
        upcast_softmax=True,
        _from_deprecated_attn_block=True,
    )


class _AttendedBlock(nn.Module):
    """Lists of residual blocks, spatial and temporal attentions, and one mixing scalar per pair.

    Parameters
    ----------
    widths : sequence of tuple of int
        In and out channels of the residual blocks.
    attentions : int
        Number of attention pairs, at the last width.
    """

    def __init__(self, widths: Sequence[tuple[int, int]], attentions: int) -> None:
        super().__init__()
        channels = widths[-1][1]
        self.resnets = nn.ModuleList(_residual(*pair) for pair in widths)
        self.attentions = nn.ModuleList(_attention(channels) for _ in range(attentions))
        self.temp_attentions = nn.ModuleList(_attention(channels) for _ in range(attentions))
        self.weights = nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in range(attentions))

    def attend(self, x: Tensor, index: int, span: int) -> Tensor:
        """Spatial attention, then its learned mixture with temporal attention over ``span`` rows.

        The scalar is free: neither squashed nor clamped, 1 (no temporal attention) at first.
        """
        x = self.attentions[index](x)
        _, _, height, width = x.shape
        sequences = x.unflatten(0, (-1, span)).permute(0, 3, 4, 1, 2).flatten(0, 2)
        sequences = self.temp_attentions[index](sequences)
        moved = sequences.unflatten(0, (-1, height, width)).permute(0, 3, 4, 1, 2).flatten(0, 1)
        weight = self.weights[index]
        return weight * x + (1 - weight) * moved


class MiddleBlock(_AttendedBlock):
    """Residual block, attention, residual block at one width.

    Parameters
    ----------
    channels : int
        In and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__([(channels, channels)] * 2, attentions=1)

    def forward(self, x: Tensor, span: int) -> Tensor:
        """Map ``(rows, channels, h, w)`` to the same shape; ``span`` rows are one sequence."""
        return self.resnets[1](self.attend(self.resnets[0](x, None), 0, span), None)


class UpBlock(_AttendedBlock):
    """Residual blocks, each followed by attention; then nearest doubling and a convolution.

    Parameters
    ----------
    channels_in, channels : int
        Before and after.
    layers : int
        Residual blocks.
    upsample : bool
        Double height and width at the end.
    """

    def __init__(self, channels_in: int, channels: int, layers: int, *, upsample: bool) -> None:
        widths = [(channels_in if layer == 0 else channels, channels) for layer in range(layers)]
        super().__init__(widths, attentions=layers)
        self.upsamplers = nn.ModuleList()
        if upsample:
            self.upsamplers.append(Upsample2D(channels, use_conv=True, out_channels=channels))

    def forward(self, x: Tensor, span: int) -> Tensor:
        """Map ``(rows, channels_in, h, w)`` to ``(rows, channels, h, w)`` or twice that size."""
        for index, block in enumerate(self.resnets):
            x = self.attend(block(x, None), index, span)
        for upsampler in self.upsamplers:
            x = upsampler(x)
        return x


class VideoDecoder(nn.Module):
    """From coarse maps to VAE latents, frame by frame but for the temporal attentions.

    Parameters
    ----------
    channels_in, channels_out : int
        Of the maps and the latents.
    channels : sequence of int
        Widths from coarse to fine (published: 128, 64, 32); size doubles between them.
    layers : int
        ``layers_per_block``; every up block has one residual block more.
    """

    def __init__(
        self, channels_in: int, channels_out: int, channels: Sequence[int], layers: int
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels_in, channels[0], 3, padding=1)
        self.mid_block = MiddleBlock(channels[0])
        before = [channels[0], *channels[:-1]]
        self.up_blocks = nn.ModuleList(
            UpBlock(before[level], width, layers + 1, upsample=level + 1 < len(channels))
            for level, width in enumerate(channels)
        )
        self.conv_norm_out = nn.GroupNorm(_groups(channels[-1]), channels[-1], eps=_EPSILON)
        self.conv_act = nn.SiLU()
        self.conv_out = nn.Conv2d(channels[-1], channels_out, 3, padding=1)

    def forward(self, x: Tensor, span: int) -> Tensor:
        """Decode ``(rows, channels_in, h, w)``; every ``span`` rows are one temporal sequence."""
        x = self.mid_block(self.conv_in(x), span)
        for block in self.up_blocks:
            x = cast(UpBlock, block)(x, span)
        return self.conv_out(self.conv_act(self.conv_norm_out(x)))
