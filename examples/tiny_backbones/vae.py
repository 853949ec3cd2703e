"""The Stable-Diffusion-shaped image autoencoder, 64 x 64 pixels to 4 x 8 x 8 latents."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from .clock import Clock
from .films import Pool, frame_sampler, to_unit
from .loop import fit

KL_WEIGHT = 1e-4


def build() -> AutoencoderKL:
    """Return an untrained autoencoder."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
    )


def _edges(images: Tensor) -> tuple[Tensor, Tensor]:
    return images.diff(dim=-1), images.diff(dim=-2)


def train(
    pool: Pool,
    clock: Clock,
    state: Path | None,
    batch: int,
    *,
    seed: int = 1,
    start: AutoencoderKL | None = None,
) -> AutoencoderKL:
    """Train on single frames: squared and absolute error, edges, and a small KL term.

    The squared error leads: with the absolute error alone the colors of the objects, which
    cover a tenth of the picture, are learned last.
    """
    torch.manual_seed(seed)
    vae = (start or build()).to(pool.device, memory_format=torch.channels_last)

    sample = frame_sampler(pool, batch)

    def loss_of() -> Tensor:
        images = sample()[0].contiguous(memory_format=torch.channels_last)
        posterior = vae.encode(images).latent_dist
        decoded = vae.decode(posterior.sample()).sample
        edges = sum(
            functional.l1_loss(a, b) for a, b in zip(_edges(decoded), _edges(images), strict=True)
        )
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        pixels = 10 * functional.mse_loss(decoded, images) + functional.l1_loss(decoded, images)
        return pixels + edges + KL_WEIGHT * divergence

    fit("vae", vae, loss_of, clock, learning_rate=2e-3, weight_decay=1e-4, state=state, graph=False)
    with torch.inference_mode():
        first = to_unit(pool.resident()[:500, 0]).to(pool.device)
        latents = vae.encode(first).latent_dist.mean
    vae.register_to_config(scaling_factor=round(float(1 / latents.std()), 5))
    return vae
