"""A perceptual loss on latents: clean pictures that the denoisers predict must look right.

The squared error of a denoiser hardly sees an object's outline: at 8 x 8 latents a star and a
flower of one color differ in a few numbers. A small network that reads object, color,
setting and image tokens from latents weighs those numbers (perceptual loss for diffusion
models: Lin and Yang 2023, arXiv 2401.00110). It is trained on the training films' latents
alone and is not part of what evaluators a reconstruction: the two classifiers see pixels.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuroclips_cli.simulation import synthetic_world

from .clock import Clock
from .latents import FRAMES_WITH_TOKENS, Latents
from .loop import fit

WIDTH = 96
ATTRIBUTES = [0, 1, 3]
DISTURBED = 0.4
CLASSES = (len(synthetic_world.KINDS), len(synthetic_world.COLORS), len(synthetic_world.SETTINGS))


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
    """How far predicted latents look from the true ones, and whether they show their class.

    The distance is the squared one of features, each scale by its own spread.

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

    def forward(self, predicted: Tensor, clean: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return distance and cross entropy of every sample, shape (batch,) each.

        Both pictures see the same disturbance; ``labels`` holds kind, color and setting.
        """
        level = DISTURBED * torch.rand(len(clean), 1, 1, 1, device=clean.device)
        noise = level * torch.randn_like(clean)
        with torch.no_grad():
            wanted = self.eye.features(clean + noise)
        got = self.eye.features(predicted + noise)
        parts = [
            (g.float() - w.float()).square().flatten(1).mean(dim=1) / spread
            for g, w, spread in zip(got, wanted, self.spread, strict=True)
        ]
        said = self.eye.answer(got[-1]).float().split(CLASSES, dim=-1)
        named = [
            functional.cross_entropy(logits, labels[:, i], reduction="none")
            for i, logits in enumerate(said)
        ]
        return torch.stack(parts).mean(dim=0), torch.stack(named).mean(dim=0)

    @torch.no_grad()
    def read(self, latents: Tensor) -> Tensor:
        """Return kind, color and setting that latents show, int64 (batch, 3)."""
        return torch.stack([logits.argmax(-1) for logits in self.eye(latents)[1]], dim=1)


def train(
    latents: Latents, clock: Clock, state: Path | None, batch: int, seed: int = 9
) -> LatentPerceptualLoss:
    """Train the network on disturbed latents and return the loss made of it."""
    torch.manual_seed(seed)
    device = latents.device
    eye = LatentEye(latents.tokens.shape[-1]).to(device)
    spread = float(latents.tokens[:200].float().std())
    frames = torch.tensor(FRAMES_WITH_TOKENS, device=device)
    attributes = latents.labels[:, ATTRIBUTES]

    def loss_of() -> Tensor:
        clip = torch.randint(len(latents.clips), (batch,), device=device)
        frame = torch.randint(len(frames), (batch,), device=device)
        image = latents.clips[clip, frames[frame]].float()
        level = DISTURBED * torch.rand(batch, 1, 1, 1, device=device)
        read, logits = eye(image + level * torch.randn_like(image))
        loss = functional.mse_loss(read.float(), latents.tokens[clip, frame].float()) / spread**2
        for i, answer in enumerate(logits):
            loss = loss + 0.3 * functional.cross_entropy(answer.float(), attributes[clip, i])
        return loss

    fit("latent eye", eye, loss_of, clock, learning_rate=2e-3, state=state)
    some = latents.clips[:512, 7].float()
    return LatentPerceptualLoss(eye, some)
