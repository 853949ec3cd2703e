"""The Stable-Diffusion-shaped image autoencoder, 64 x 64 pixels to 4 x 8 x 8 latents."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from neuroclips_cli.backbones.clip import load_clip

from .clock import Clock
from .files import save_half
from .films import Pool, frame_sampler, to_unit
from .loop import fit

KL_WEIGHT = 1e-4
FEATURES, RETURNED = 3.0, 10.0
LATENT_NOISE = 0.15
PATCH = 16


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


def _pixels(decoded: Tensor, images: Tensor) -> Tensor:
    """Return squared and absolute error and that of edges."""
    edges = sum(
        functional.l1_loss(a, b) for a, b in zip(_edges(decoded), _edges(images), strict=True)
    )
    return 10 * functional.mse_loss(decoded, images) + functional.l1_loss(decoded, images) + edges


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
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        return _pixels(decoded, images) + KL_WEIGHT * divergence

    fit("vae", vae, loss_of, clock, learning_rate=2e-3, weight_decay=1e-4, state=state, graph=False)
    with torch.inference_mode():
        first = to_unit(pool.resident()[:500, 0]).to(pool.device)
        latents = vae.encode(first).latent_dist.mean
    vae.register_to_config(scaling_factor=round(float(1 / latents.std()), 5))
    return vae


class ImageFeatures:
    """Compares pictures by every block of CLIP's image tower.

    CLIP's patches would leave seams of their own: both pictures are shifted alike, by up to a
    patch, anew for each batch.

    Parameters
    ----------
    folder : Path
        Holds ``clip``.
    device : torch.device
        Where pictures lie.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.tower = load_clip(str(folder / "clip"), str(device)).model.visual
        self.seen: list[Tensor] = []
        for block in self.tower.transformer.resblocks:
            block.register_forward_hook(lambda *call: self.seen.append(call[-1]))

    def _read(self, images: Tensor) -> list[Tensor]:
        self.seen.clear()
        self.tower(images)
        return [functional.normalize(x.float(), dim=-1) for x in self.seen]

    def distance(self, made: Tensor, images: Tensor) -> Tensor:
        """Return the squared distance of unit features, a mean over tokens and blocks."""
        shift = torch.randint(PATCH, (2,)).tolist()
        made, images = (x.roll(shift, (-2, -1)) for x in (made, images))
        with torch.no_grad():
            wanted = self._read(images)
        pairs = zip(self._read(made), wanted, strict=True)
        return torch.stack([(a - b).square().sum(-1).mean() for a, b in pairs]).mean()


def train_decoder(
    pool: Pool, folder: Path, clock: Clock, state: Path | None, batch: int, *, seed: int = 11
) -> None:
    """Train the decoder alone on pixels and on what CLIP's image tower sees of them.

    Latents stay as they are, so that nothing else changes. Half of them are disturbed, as what
    the denoisers make is never exactly a picture's. What is decoded must lead back to the same
    latents: a keyframe is decoded, and encoded again for its clip.
    """
    torch.manual_seed(seed)
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    vae = vae.to(pool.device, memory_format=torch.channels_last)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    features, sample = ImageFeatures(folder, pool.device), frame_sampler(pool, batch)

    def loss_of() -> Tensor:
        images = sample()[0].contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            latents = vae.encode(images).latent_dist.mean
        level = LATENT_NOISE / vae.config.scaling_factor
        share = (2 * torch.rand(batch, 1, 1, 1, device=pool.device) - 1).clamp(min=0)
        disturbed = latents + level * share * torch.randn_like(latents)
        decoded = vae.decode(disturbed).sample.float()
        again = vae.encode(decoded).latent_dist.mean * vae.config.scaling_factor
        returned = functional.mse_loss(again, disturbed * vae.config.scaling_factor)
        looks = FEATURES * features.distance(decoded, images)
        return _pixels(decoded, images) + looks + RETURNED * returned

    def write() -> None:
        save_half(vae, folder / "vae")

    fit(
        "vae decoder",
        vae,
        loss_of,
        clock,
        learning_rate=5e-4,
        state=state,
        write=write,
        graph=False,
    )
    write()
