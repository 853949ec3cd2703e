"""The diffusion prior's transformer: shared key/value head, cosine attention, rotary positions.

Key names and arithmetic follow dalle2-pytorch 1.15.6 with rotary-embedding-torch 0.9.1, which the
published NeuroClips and MindEye2 checkpoints were trained with.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroclips_cli.runtime.precision import in_float32

_LOGIT_SCALE = 16.0
_BUCKETS = 32
_FARTHEST = 128
_ROTARY_CHANNELS = 32
_ALIGNED = 8
"""Width of a head that CUDA's fused attention with a mask takes: a multiple of this."""

EPSILON = 1e-5
"""Of layer norms in float32, as dalle2-pytorch sets it."""


class LayerNormNoBias(nn.Module):
    """Layer normalization with a gain and no bias.

    Parameters
    ----------
    dim : int
        Channels, the last axis.
    stable : bool
        Divide by the signed maximum over channels first (gradient stopped).
    epsilon : float
        Added to the variance, > 0. It is the layer's, whatever the precision: a norm that takes
        its epsilon from the type of its input is another function in training than in use.
    """

    def __init__(self, dim: int, *, stable: bool = False, epsilon: float = EPSILON) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(dim))
        self.stable, self.epsilon = stable, epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last axis.

        Parameters
        ----------
        x : Tensor
            ``(..., dim)``.

        Returns
        -------
        Tensor
            ``g (x - mean) / sqrt(var + epsilon)``, of the same shape.
        """
        if self.stable:
            x = x / x.amax(dim=-1, keepdim=True).detach()
        return F.layer_norm(x, x.shape[-1:], eps=self.epsilon) * self.g


class PositionBias(nn.Module):
    """Additive attention bias by distance; every key to the right falls in bucket 0.

    Parameters
    ----------
    heads : int
        One learned value per bucket and head.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.relative_attention_bias = nn.Embedding(_BUCKETS, heads)

    def forward(self, queries: int, keys: int) -> Tensor:
        """Return the bias of every pair of positions.

        Parameters
        ----------
        queries, keys : int
            Numbers of positions; key 0 is the learned null key.

        Returns
        -------
        Tensor
            ``(heads, queries, keys)``.
        """
        device = self.relative_attention_bias.weight.device
        rows = torch.arange(queries, device=device)[:, None]
        distance = (rows - torch.arange(keys, device=device)[None]).clamp(min=0)
        exact = _BUCKETS // 2
        growth = (distance.clamp(min=1).float() / exact).log() / math.log(_FARTHEST / exact)
        far = (exact + (growth * (_BUCKETS - exact)).long()).clamp(max=_BUCKETS - 1)
        buckets = torch.where(distance < exact, distance, far)
        # CUDA's fused attention takes no mask whose last axis is not the dense one.
        return self.relative_attention_bias(buckets).permute(2, 0, 1).contiguous()


class Rotary(nn.Module):
    """Rotary positions over interleaved channel pairs, at most the first 32 channels of a head.

    Notes
    -----
    Pair i of channels at position n turns by the angle ``n 10000^(-2 i / d)`` (Su et al. 2021).

    Examples
    --------
    Position 0 is not turned, and lengths stay:

    >>> x = torch.ones(2, 4)
    >>> turned = Rotary(head_dim=4)(x)
    >>> torch.equal(turned[0], x[0]), torch.allclose(turned.norm(dim=-1), x.norm(dim=-1))
    (True, True)
    """

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        dim = min(_ROTARY_CHANNELS, head_dim)
        powers = torch.arange(0, dim, 2)[: dim // 2].float() / dim
        self.freqs = nn.Parameter(1.0 / 10000.0**powers, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Rotate pairs of channels by their position.

        Parameters
        ----------
        x : Tensor
            ``(..., positions, head_dim)``.

        Returns
        -------
        Tensor
            Of the same shape and type.
        """
        positions = torch.arange(x.shape[-2], device=x.device, dtype=self.freqs.dtype)
        angles = (positions[:, None] * self.freqs[None]).repeat_interleave(2, dim=-1)
        turned, rest = x[..., : angles.shape[-1]], x[..., angles.shape[-1] :]
        pairs = turned.unflatten(-1, (-1, 2))
        swapped = torch.stack((-pairs[..., 1], pairs[..., 0]), dim=-1).flatten(-2)
        turned = turned * angles.cos() + swapped * angles.sin()
        return torch.cat((turned, rest), dim=-1).to(x.dtype)


class MultiQueryAttention(nn.Module):
    """Many query heads, one key/value head, one learned null key/value in front.

    Parameters
    ----------
    dim, heads, head_dim : int
        Width, query heads, width of a head.
    rotary : Rotary
        Shared by all layers.
    epsilon : float
        Of the norm behind the output layer, see :class:`TokenTransformer`.

    Notes
    -----
    ``softmax(16 cos(q, k) + bias) v`` with one key and value per position for all heads
    (Shazeer 2019).
    """

    def __init__(
        self, dim: int, heads: int, head_dim: int, rotary: Rotary, epsilon: float = EPSILON
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm = LayerNormNoBias(dim)
        self.null_kv = nn.Parameter(torch.randn(2, head_dim))
        self.to_q = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * head_dim, bias=False)
        self.rotary_emb = rotary
        self.to_out = nn.Sequential(
            nn.Linear(heads * head_dim, dim, bias=False), LayerNormNoBias(dim, epsilon=epsilon)
        )

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Attend within each sequence.

        Parameters
        ----------
        x : Tensor
            ``(batch, n, dim)``.
        bias : Tensor
            ``(heads, n, n + 1)``, added to the logits.

        Returns
        -------
        Tensor
            ``(batch, n, dim)``.
        """
        attended = _attend(*self.project(x), bias)
        return self.to_out(attended.transpose(1, 2).flatten(2))

    @in_float32
    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return unit queries, unit keys and values, in float32.

        The softmax takes 16 times their cosines: with queries and keys from products in bfloat16
        the output of six layers is off by 1.6 %, so by 1.1 %, for a tenth of the layer's work.
        """
        x = self.norm(x)
        queries = self.to_q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        keys, values = self.to_kv(x).chunk(2, dim=-1)
        queries = self.rotary_emb(queries * _LOGIT_SCALE)
        keys = self.rotary_emb(keys)
        null_key, null_value = self.null_kv.to(x.dtype).expand(len(x), 2, -1).split(1, dim=1)
        keys = F.normalize(torch.cat((null_key, keys), dim=1), dim=-1)
        values = torch.cat((null_value, values), dim=1)
        return F.normalize(queries, dim=-1), keys, values


def _attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Attend with one key/value head for all query heads.

    Parameters
    ----------
    queries : Tensor
        ``(batch, heads, n, head_dim)``.
    keys, values : Tensor
        ``(batch, m, head_dim)``.
    bias : Tensor
        ``(heads, n, m)``, added to the scaled products.

    Returns
    -------
    Tensor
        ``(batch, heads, n, head_dim)``.
    """
    width = queries.shape[-1]
    missing = -width % _ALIGNED if queries.device.type != "cpu" else 0
    if missing:  # channels of zeros change no product
        queries, keys, values = (F.pad(x, (0, missing)) for x in (queries, keys, values))
    heads = queries.shape[1]
    keys, values = (x[:, None].expand(-1, heads, -1, -1) for x in (keys, values))
    attended = F.scaled_dot_product_attention(
        queries, keys, values, attn_mask=bias[None], scale=_LOGIT_SCALE
    )
    return attended[..., :width]


class GatedSiLU(nn.Module):
    """Value half times the SiLU of the gate half.

    Examples
    --------
    >>> GatedSiLU()(torch.tensor([[2.0, 0.0]])).tolist()
    [[0.0]]
    """

    def forward(self, x: Tensor) -> Tensor:
        """Gate one half of the channels by the other.

        Parameters
        ----------
        x : Tensor
            ``(..., 2 dim)``, values, then gates.

        Returns
        -------
        Tensor
            ``(..., dim)``, ``value silu(gate)``.
        """
        value, gate = x.chunk(2, dim=-1)
        return value * F.silu(gate)


class FeedForward(nn.Sequential):
    """Two products with a gate between, on normalized tokens.

    Parameters
    ----------
    dim : int
        Width of a token.
    """

    def __init__(self, dim: int) -> None:
        # Positions 3 and 4 hold the original's unused norm and dropout: weights keep their key.
        super().__init__(
            LayerNormNoBias(dim),
            nn.Linear(dim, 8 * dim, bias=False),
            GatedSiLU(),
            nn.Identity(),
            nn.Identity(),
            nn.Linear(4 * dim, dim, bias=False),
        )

    def widen(self, x: Tensor) -> Tensor:
        """Return values and gates of ``x``, ``(..., 8 dim)``."""
        return self[1](self[0](x))

    def narrow(self, gated: Tensor) -> Tensor:
        """Gate the values and bring them back to ``(..., dim)``."""
        return self[5](self[2](gated))

    def forward(self, x: Tensor) -> Tensor:
        """Apply both halves to ``(..., dim)``."""
        return self.narrow(self.widen(x))


class TokenTransformer(nn.Module):
    """Pre-norm transformer over the whole sequence, without a mask.

    Parameters
    ----------
    dim, depth, heads, head_dim : int
        Width, layers, query heads, width of a head.
    epsilon : float
        Of the norm behind every attention's output layer. dalle2-pytorch sets 1e-3 where the
        input is in half precision, which under autocast it is there and nowhere else: so the
        published checkpoints were trained and sampled. Variances there begin at about 0.01, so
        that 1e-5 in its place changes the output by several percent.
    """

    def __init__(
        self, dim: int, depth: int, heads: int, head_dim: int, epsilon: float = EPSILON
    ) -> None:
        super().__init__()
        self.rel_pos_bias = PositionBias(heads)
        rotary = Rotary(head_dim)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                (MultiQueryAttention(dim, heads, head_dim, rotary, epsilon), FeedForward(dim))
            )
            for _ in range(depth)
        )
        self.norm = LayerNormNoBias(dim, stable=True)
        self.project_out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers and the output projection.

        Parameters
        ----------
        x : Tensor
            ``(batch, n, dim)``.

        Returns
        -------
        Tensor
            ``(batch, n, dim)``.
        """
        bias = self.rel_pos_bias(x.shape[1], x.shape[1] + 1)
        for layer in self.layers:
            attention, feed_forward = cast(nn.ModuleList, layer)
            x = x + attention(x, bias)
            x = x + feed_forward(x)
        return self.project_out(self.norm(x))
