"""Temporal Upsampling (paper 3.1, B.1, Eq. 2): space, time within one clip, then upsampling."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _groups(channels: int) -> int:
    # At least four channels share a group: statistics of fewer values amplify rounding.
    return math.gcd(channels, max(channels // 4, 1)) if channels >= 8 else 1


class ConvBlock(nn.Module):
    """Two normalized 3x3 convolutions with a residual connection.

    Parameters
    ----------
    channels : int
        In and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(_groups(channels), channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(_groups(channels), channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        Parameters
        ----------
        x : Tensor
            ``(images, channels, h, w)``.

        Returns
        -------
        Tensor
            Of the same shape.
        """
        return x + self.layers(x)


class SpatialAttention(nn.Module):
    """Single-head attention among the positions of one frame, with a residual connection.

    Parameters
    ----------
    channels : int
        In and out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_groups(channels), channels)
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Attend among the positions of each image.

        Parameters
        ----------
        x : Tensor
            ``(images, channels, h, w)``.

        Returns
        -------
        Tensor
            Of the same shape.
        """
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        query, key, value = self.to_qkv(tokens).chunk(3, dim=-1)
        # Four axes, the heads among them: on CUDA no fused kernel takes three.
        heads = (x[:, None] for x in (query, key, value))
        attended = self.to_out(F.scaled_dot_product_attention(*heads)[:, 0])
        return x + attended.transpose(1, 2).unflatten(-1, x.shape[-2:])


class TemporalAttention(nn.Module):
    """Eq. 2's attention over the frames of one clip, at each position by itself.

    Queries and keys are learned maps; the values are the embedding itself, as in the paper.

    Parameters
    ----------
    channels : int
        In and out.

    Notes
    -----
    ``softmax(Q K^T / sqrt(c)) E`` with ``Q = E W_Q``, ``K = E W_K`` (paper 3.1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attend among the frames of each clip, at each position by itself.

        Parameters
        ----------
        x : Tensor
            ``(clips, positions, frames, channels)``.

        Returns
        -------
        Tensor
            Of the same shape.

        Notes
        -----
        Positions stand where attention has heads: four axes, as CUDA's fused kernels take them,
        and neither of the first two beyond the 65535 that their grids allow.
        """
        return F.scaled_dot_product_attention(self.to_q(x), self.to_k(x), x)


class TemporalUpsampling(nn.Module):
    """One module of Figure 6.

    Parameters
    ----------
    channels, out_channels : int
        Of input and output.
    frames : int or None
        Nf; consecutive rows of the input are the frames of one clip. None lets all rows of a
        batch attend to each other, clips mixed, as the released trainer does.
    layers : int
        Convolution blocks before the spatial attention.
    upsample : bool
        Double height and width at the end (all modules but the last, which keeps its channels).

    Notes
    -----
    Order of operations (paper B.1, Figure 6):

    1. ``E <- eta1 E + (1 - eta1) Spatial(E)``, frame by frame;
    2. ``E <- eta2 E + (1 - eta2) Temporal(E)``, position by position (Eq. 2);
    3. a 1 x 1 convolution and the doubling of height and width.

    Examples
    --------
    >>> module = TemporalUpsampling(8, 4, frames=2, layers=1, upsample=True)
    >>> tuple(module(torch.zeros(2, 8, 4, 4)).shape)
    (2, 4, 8, 8)
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        frames: int | None,
        layers: int,
        *,
        upsample: bool,
    ) -> None:
        super().__init__()
        self.frames = frames
        self.spatial = nn.Sequential(
            *(ConvBlock(channels) for _ in range(layers)), SpatialAttention(channels)
        )
        self.temporal = TemporalAttention(channels)
        # Half and half: at the released start of 1 the temporal queries would get no gradient.
        self.eta1 = nn.Parameter(torch.tensor(0.5))
        self.eta2 = nn.Parameter(torch.tensor(0.5))
        # Channels change before the doubling, where that costs a quarter; the next module's
        # convolutions smooth what the doubling leaves.
        self.upsampling = (
            nn.Sequential(
                nn.Conv2d(channels, out_channels, 1), nn.Upsample(scale_factor=2, mode="nearest")
            )
            if upsample
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module to all frames of a batch.

        Parameters
        ----------
        x : Tensor
            ``(clips * frames, channels, h, w)``, frames of a clip one after the other.

        Returns
        -------
        Tensor
            ``(clips * frames, out_channels, 2 h, 2 w)``; without upsampling the shape of ``x``.
        """
        x = self.eta1 * x + (1 - self.eta1) * self.spatial(x)
        sequences = self.as_sequences(x)
        sequences = self.eta2 * sequences + (1 - self.eta2) * self.temporal(sequences)
        return self.upsampling(self.as_images(sequences, x))

    def as_sequences(self, x: Tensor) -> Tensor:
        """Arrange images as sequences over time, one per position.

        Parameters
        ----------
        x : Tensor
            ``(clips * frames, channels, h, w)``.

        Returns
        -------
        Tensor
            ``(clips, h * w, frames, channels)``.
        """
        clips = x.unflatten(0, (-1, self.frames or len(x)))
        return clips.permute(0, 3, 4, 1, 2).flatten(1, 2)

    def as_images(self, sequences: Tensor, like: Tensor) -> Tensor:
        """Arrange sequences as images again, the inverse of :meth:`as_sequences`.

        Parameters
        ----------
        sequences : Tensor
            ``(clips, h * w, frames, channels)``.
        like : Tensor
            ``(clips * frames, channels, h, w)``, of which only the shape is used.

        Returns
        -------
        Tensor
            The shape of ``like``, channels last in memory.
        """
        clips = sequences.unflatten(1, like.shape[-2:])
        images = clips.permute(0, 3, 4, 1, 2).flatten(0, 1)
        return images.contiguous(memory_format=torch.channels_last)
