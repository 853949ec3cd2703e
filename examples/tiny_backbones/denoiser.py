"""The denoiser of decoded tokens: tokens with a subject's errors to a picture's own."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from neuroclips_cli.backbones.token_denoiser import TOKEN_DENOISER_FILE
from neuroclips_cli.models.token_denoiser import TokenDenoiser

from .clock import Clock
from .decoded import DecodedBy
from .files import replace
from .latents import Latents
from .loop import fit

HIDDEN, WRITTEN = 512, 160


def build(decoded: DecodedBy, tokens: Tensor) -> TokenDenoiser:
    """Return an untrained network between the components that scans tell and those of tokens.

    Parameters
    ----------
    decoded : DecodedBy
        Its axes are read, each at unit deviation.
    tokens : Tensor of shape (many, numbers)
        Films' tokens, whose principal axes are written.
    """
    made = TokenDenoiser(tokens.shape[1], decoded.axes.shape[1], HIDDEN, WRITTEN)
    mean = tokens.mean(dim=0)
    _, spread, axes = torch.svd_lowrank(tokens - mean, q=WRITTEN, niter=6)
    made.mean.copy_(decoded.mean)
    made.axes.copy_(decoded.axes.T / decoded.spread[:, None])
    made.written_mean.copy_(mean)
    made.written_axes.copy_(axes.T * (spread.mean() / len(tokens) ** 0.5))
    return made


def train(
    latents: Latents,
    decoded: DecodedBy,
    folder: Path,
    clock: Clock,
    state: Path | None,
    batch: int,
    seed: int = 10,
) -> None:
    """Train for the least squared error of tokens, and write the network.

    Parameters
    ----------
    latents : Latents
        Of the training films: many more than the subject saw, and none of its own.
    decoded : DecodedBy
        Makes tokens as decoded.
    folder : Path
        Receives ``token_denoiser.safetensors``.
    """
    torch.manual_seed(seed)
    device = latents.device
    tokens = latents.tokens.flatten(0, 1).flatten(1)
    model = build(decoded, tokens[::2].float()).to(device)

    def loss_of() -> Tensor:
        drawn = torch.randint(len(tokens), (batch,), device=device)
        errors = torch.randint(len(decoded.errors), (batch,), device=device)
        true = tokens[drawn].float()
        return functional.mse_loss(model(decoded(true, errors)), true)

    fit("token denoiser", model, loss_of, clock, learning_rate=2e-3, state=state)
    weights = {name: values.half().contiguous() for name, values in model.state_dict().items()}

    def write(part: Path) -> None:
        part.mkdir(parents=True)
        save_file(weights, part / TOKEN_DENOISER_FILE)

    replace(folder, write)
