"""A perceptual loss on latents: clean pictures that the denoisers predict must look right.

The squared error of a denoiser hardly sees an object's outline: at 8 x 8 latents a star and a
flower of one colour differ in a few numbers. A small network that reads object, colour,
setting and image tokens from latents weighs those numbers (perceptual loss for diffusion
models: Lin and Yang 2023, arXiv 2401.00110). It is trained on the training films' latents
alone and is no part of what judges a reconstruction: the two classifiers see pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuroclips_cli.simulation import world

from .films import FRAMES
from .latents import FRAMES_WITH_TOKENS
from .loop import fit

WIDTH = 96
DISTURBED = 0.4
CLASSES = (len(world.KINDS), len(world.COLOURS), len(world.SETTINGS))


def _block(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, 1), nn.GroupNorm(8, outside), nn.SiLU()
    )


class LatentEye(nn.Module):
    """Reads latents (batch, 4, 8, 8): features of two scales, and what they say.

    Parameters
    ----------
    token_dim : int
        Width of an image token; there are 16, one for each 2 x 2 latents.
    """

    def __init__(self, token_dim: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(_block(4, WIDTH), _block(WIDTH, WIDTH))
        self.coarse = nn.Sequential(_block(WIDTH, 2 * WIDTH, 2), _block(2 * WIDTH, 2 * WIDTH))
        self.token = nn.Conv2d(2 * WIDTH, token_dim, 1)
        self.wide = nn.Sequential(nn.Flatten(), nn.Linear(2 * WIDTH * 16, 256), nn.SiLU())
        self.answer = nn.Linear(256, sum(CLASSES))

    def features(self, latents: Tensor) -> list[Tensor]:
        """Return fine, coarse and global features."""
        fine = self.fine(latents)
        coarse = self.coarse(fine)
        return [fine, coarse, self.wide(coarse)]

    def forward(self, latents: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return image tokens (batch, 16, token_dim) and the logits of every attribute."""
        _, coarse, wide = self.features(latents)
        logits = self.answer(wide).split(CLASSES, dim=-1)
        return self.token(coarse).flatten(2).transpose(1, 2), list(logits)


class LatentPerceptualLoss(nn.Module):
    """Squared distance of two latents' features, each scale by its own spread.

    Parameters
    ----------
    eye : LatentEye
        Trained; left frozen.
    latents : Tensor of shape (many, 4, 8, 8)
        Clean latents that give the spread of each feature.
    """

    def __init__(self, eye: LatentEye, latents: Tensor) -> None:
        super().__init__()
        self.eye = eye.eval().requires_grad_(False)
        with torch.no_grad():
            self.spread = [f.var(dim=0).mean() for f in eye.features(latents)]

    def forward(self, predicted: Tensor, clean: Tensor) -> Tensor:
        """Return the loss of every sample, shape (batch,); both see the same disturbance."""
        noise = DISTURBED * torch.rand(len(clean), 1, 1, 1) * torch.randn_like(clean)
        with torch.no_grad():
            wanted = self.eye.features(clean + noise)
        got = self.eye.features(predicted + noise)
        parts = [
            (g - w).square().flatten(1).mean(dim=1) / spread
            for g, w, spread in zip(got, wanted, self.spread, strict=True)
        ]
        return torch.stack(parts).mean(dim=0)


def _batches(
    latents: np.ndarray, tokens: np.ndarray, labels: np.ndarray, batch: int, steps: int, seed: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    rng = np.random.default_rng(seed)
    attributes = labels[:, [0, 1, 3]]
    for _ in range(steps):
        clip = rng.integers(len(tokens), size=batch)
        frame = rng.integers(len(FRAMES_WITH_TOKENS), size=batch)
        image = np.asarray(latents[clip, np.array(FRAMES_WITH_TOKENS)[frame]], dtype=np.float32)
        wanted = np.asarray(tokens[clip, frame], dtype=np.float32)
        yield torch.from_numpy(image), torch.from_numpy(wanted), torch.from_numpy(attributes[clip])


def train(
    latents: np.ndarray, tokens: np.ndarray, labels: np.ndarray, steps: int, seed: int = 9
) -> LatentPerceptualLoss:
    """Train the network on disturbed latents and return the loss made of it.

    Parameters
    ----------
    latents : array of shape (clips, 16, 4, 8, 8)
        Of the training films.
    tokens : array of shape (clips, 4, 16, dim)
        Image tokens of the frames :data:`FRAMES_WITH_TOKENS`.
    labels : array of shape (clips, 4)
        Kind, colour, motion and setting of every clip.
    """
    torch.manual_seed(seed)
    eye = LatentEye(tokens.shape[-1])
    spread = float(np.asarray(tokens[:200], dtype=np.float32).std())

    def loss_of(batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        image, wanted, attributes = batch
        level = DISTURBED * torch.rand(len(image), 1, 1, 1)
        read, logits = eye(image + level * torch.randn_like(image))
        loss = functional.mse_loss(read, wanted) / spread**2
        for i, answer in enumerate(logits):
            loss = loss + 0.3 * functional.cross_entropy(answer, attributes[:, i])
        return loss

    batches = _batches(latents, tokens, labels, 64, steps, seed)
    fit("latent eye", eye, batches, loss_of, steps=steps, learning_rate=2e-3)
    some = np.random.default_rng(seed).integers(FRAMES, size=512)
    sample = np.asarray(latents[np.arange(512), some], dtype=np.float32)
    return LatentPerceptualLoss(eye, torch.from_numpy(sample))
