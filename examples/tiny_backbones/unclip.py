"""The unCLIP denoiser: image tokens to image latents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

from .latents import FRAMES_WITH_TOKENS
from .loop import fit
from .perceptual import LatentPerceptualLoss

CONDITION = 128
UNCONDITIONAL = 0.1
TOKEN_NOISE = 0.4
DECODED = 0.6
DECODED_RANK = (12, 24)
DECODED_SHARE = (0.3, 1.0)
DECODED_SPREAD = 0.15
PERCEPTUAL = 0.4


def build() -> UNet2DConditionModel:
    """Return an untrained image denoiser; the scene model of the video has the same shape."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(48, 80),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=CONDITION,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def _batches(
    latents: np.ndarray, tokens: np.ndarray, batch: int, steps: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        clip = rng.integers(len(tokens), size=batch)
        frame = rng.integers(len(FRAMES_WITH_TOKENS), size=batch)
        image = latents[clip, np.array(FRAMES_WITH_TOKENS)[frame]]
        yield (
            torch.from_numpy(np.asarray(image, dtype=np.float32)),
            torch.from_numpy(np.asarray(tokens[clip, frame], dtype=np.float32)),
        )


class DecodedLike:
    """Makes of true tokens what a decoder of brain scans would know of them.

    A decoder's expected tokens keep a few principal components, and lie nearer to the mean the
    less it knows. With share b of a component's variance v known, they are b times the true
    deviation from the mean plus noise of variance ``b (1 - b) v``. Number of components and
    shares are drawn for every sample.

    Parameters
    ----------
    tokens : array of shape (clips, frames, tokens, dim)
        Of the training films.
    """

    def __init__(self, tokens: np.ndarray) -> None:
        rows = np.asarray(tokens[:, 0], dtype=np.float64).reshape(len(tokens), -1)
        variance, axes = np.linalg.eigh(np.cov(rows.T))
        kept = slice(None, -DECODED_RANK[1] - 1, -1)
        self.mean = torch.from_numpy(rows.mean(axis=0)).float()
        self.variance = torch.from_numpy(variance[kept].copy()).float()
        self.axes = torch.from_numpy(axes[:, kept].copy()).float()

    def __call__(self, tokens: Tensor) -> Tensor:
        """Degrade ``(batch, tokens, dim)``."""
        shape = len(tokens), len(self.variance)
        low, high = DECODED_SHARE
        typical = torch.empty(len(tokens), 1).uniform_(low, high)
        known = (typical + DECODED_SPREAD * torch.randn(shape)).clamp(0.0, 1.0)
        rank = torch.randint(DECODED_RANK[0], DECODED_RANK[1] + 1, (len(tokens), 1))
        known = torch.where(torch.arange(shape[1]) < rank, known, 0.0)
        components = (tokens.flatten(1) - self.mean) @ self.axes
        noise = (known * (1 - known) * self.variance).sqrt() * torch.randn(shape)
        decoded = (known * components + noise) @ self.axes.T + self.mean
        return decoded.unflatten(1, tokens.shape[1:])


def train(
    latents: np.ndarray,
    tokens: np.ndarray,
    perceptual: LatentPerceptualLoss,
    folder: Path,
    steps: int,
    seed: int = 6,
    start: UNet2DConditionModel | None = None,
) -> None:
    """Train with velocity prediction and decoded, disturbed or, at times, no tokens.

    Where almost all is noise the velocity is the clean image itself; a small network learns
    that, and with it to follow its tokens, much sooner than the noise to within a hundredth.
    Decoded tokens are never exact, so most conditions are what a decoder would know of them
    (:class:`DecodedLike`), the others are disturbed by up to 0.4 of their own deviation;
    Gaussian tokens are the unconditional case, as in the published unCLIP. The clean image that
    follows from the prediction must also look right (:class:`LatentPerceptualLoss`).
    """
    torch.manual_seed(seed)
    unet = (start or build()).to(memory_format=torch.channels_last)
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
    )
    noise_schedule = scheduler.alphas_cumprod
    decoded_like = DecodedLike(tokens)
    spread = float(np.asarray(tokens[:200], dtype=np.float32).std())

    def loss_of(batch: tuple[Tensor, Tensor]) -> Tensor:
        clean, condition = batch
        level = TOKEN_NOISE * spread * torch.rand(len(condition), 1, 1)
        disturbed = condition + level * torch.randn_like(condition)
        as_decoded = torch.rand(len(condition), 1, 1) < DECODED
        condition = torch.where(as_decoded, decoded_like(condition), disturbed)
        dropped = torch.rand(len(condition), 1, 1) < UNCONDITIONAL
        condition = torch.where(dropped, torch.randn_like(condition), condition)
        times = torch.randint(1000, (len(clean),))
        noise = torch.randn_like(clean)
        kept = noise_schedule[times].view(-1, 1, 1, 1)
        noisy = (kept.sqrt() * clean + (1 - kept).sqrt() * noise).contiguous(
            memory_format=torch.channels_last
        )
        velocity = kept.sqrt() * noise - (1 - kept).sqrt() * clean
        predicted = unet(noisy, times, condition).sample
        image = kept.sqrt() * noisy - (1 - kept).sqrt() * predicted
        return (
            functional.mse_loss(predicted, velocity) + PERCEPTUAL * perceptual(image, clean).mean()
        )

    batches = _batches(latents, tokens, 64, steps, seed)
    fit("unclip", unet, batches, loss_of, steps=steps, learning_rate=2e-3, average=0.998)
    unet.half().save_pretrained(folder)
    scheduler.save_pretrained(folder)
