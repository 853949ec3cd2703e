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

CONDITION = 128
UNCONDITIONAL = 0.1
TOKEN_NOISE = 0.4


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


def train(
    latents: np.ndarray,
    tokens: np.ndarray,
    folder: Path,
    steps: int,
    seed: int = 6,
    start: UNet2DConditionModel | None = None,
) -> None:
    """Train with velocity prediction, disturbed tokens and, at times, noise for tokens.

    Where almost all is noise the velocity is the clean image itself; a small network learns
    that, and with it to follow its tokens, much sooner than the noise to within a hundredth.
    Decoded tokens are never exact, so the condition is disturbed by up to 0.4 of its own
    deviation; Gaussian tokens are the unconditional case, as in the published unCLIP.
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
    spread = float(np.asarray(tokens[:200], dtype=np.float32).std())

    def loss_of(batch: tuple[Tensor, Tensor]) -> Tensor:
        clean, condition = batch
        level = TOKEN_NOISE * spread * torch.rand(len(condition), 1, 1)
        condition = condition + level * torch.randn_like(condition)
        dropped = torch.rand(len(condition), 1, 1) < UNCONDITIONAL
        condition = torch.where(dropped, torch.randn_like(condition), condition)
        times = torch.randint(1000, (len(clean),))
        noise = torch.randn_like(clean)
        kept = noise_schedule[times].view(-1, 1, 1, 1)
        noisy = (kept.sqrt() * clean + (1 - kept).sqrt() * noise).contiguous(
            memory_format=torch.channels_last
        )
        velocity = kept.sqrt() * noise - (1 - kept).sqrt() * clean
        return functional.mse_loss(unet(noisy, times, condition).sample, velocity)

    batches = _batches(latents, tokens, 64, steps, seed)
    fit("unclip", unet, batches, loss_of, steps=steps, learning_rate=2e-3, average=0.998)
    unet.half().save_pretrained(folder)
    scheduler.save_pretrained(folder)
