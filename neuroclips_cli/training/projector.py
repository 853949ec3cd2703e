"""Training of Reftm's projector: token means against caption embeddings (paper B.2, Table 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from neuroclips_cli.losses.contrastive import reftm_loss
from neuroclips_cli.metrics.retrieval import cosine_matrix, hits, random_parts, ranks
from neuroclips_cli.runtime.precision import in_float32
from neuroclips_cli.settings.schema import TrainProjectorSettings
from neuroclips_cli.training.optimizer import make_optimizer, make_schedule
from neuroclips_cli.training.samples import derived_seed


class Projection(nn.Module):
    """One matrix that learns.

    Parameters
    ----------
    start : torch.Tensor
        ``(token_dim, embed_dim)``.
    """

    def __init__(self, start: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(start.detach().clone().float())

    @in_float32
    def forward(self, means: torch.Tensor) -> torch.Tensor:
        """Map ``(batch, token_dim)`` to ``(batch, embed_dim)``, not normalized."""
        return means @ self.weight


def train_projector(
    start: torch.Tensor,
    means: np.ndarray,
    text: np.ndarray,
    owned: Sequence[slice],
    options: TrainProjectorSettings,
    *,
    seed: int,
    device: str = "cpu",
    advance: Callable[..., None] | None = None,
) -> torch.Tensor:
    """Train the matrix on images with captions.

    Every epoch shows every image once, with one of its captions drawn at random.

    Parameters
    ----------
    start : torch.Tensor
        ``(token_dim, embed_dim)`` to begin with: CLIP's own projection.
    means : numpy.ndarray
        ``(images, token_dim)``, mean of each image's tokens.
    text : numpy.ndarray
        ``(captions, embed_dim)``, unit rows.
    owned : sequence of slice
        The captions of every image.
    options : TrainProjectorSettings
        Length, rates, temperature.
    seed : int
        Of the order and of the captions drawn.
    device : str
        A torch device.
    advance : callable, optional
        ``advance(1, loss=...)`` after every step.

    Returns
    -------
    torch.Tensor
        float32 ``(token_dim, embed_dim)`` on the CPU.
    """
    network = Projection(start).to(device)
    size = min(options.batch_size, len(means))
    steps = max(len(means) // size, 1)
    rate = options.learning_rate
    optimizer = make_optimizer(network, rate, options.weight_decay, 0.0)
    schedule = make_schedule(optimizer, rate, options.epochs, steps)
    for epoch in range(options.epochs):
        rng = np.random.default_rng(derived_seed(seed, "train-projector", epoch))
        order = rng.permutation(len(means))
        for step in range(steps):
            rows = order[step * size : (step + 1) * size]
            chosen = [rng.integers(owned[row].start, owned[row].stop) for row in rows]
            image = torch.from_numpy(means[rows].astype(np.float32)).to(device)
            words = torch.from_numpy(text[chosen].astype(np.float32)).to(device)
            loss = reftm_loss(network(image), words, options.temperature)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if advance is not None:
                advance(1, loss=loss.item())
    return network.weight.detach().cpu()


def retrieval(
    weight: torch.Tensor, means: np.ndarray, text: np.ndarray, part: int, seed: int
) -> dict[str, float]:
    """Top-1 retrieval between projected images and their captions, both ways (Table 3).

    Parameters
    ----------
    weight : torch.Tensor
        ``(token_dim, embed_dim)``.
    means, text : numpy.ndarray
        ``(images, token_dim)`` and ``(images, embed_dim)``, row for row.
    part : int
        Images among which the right one is sought.
    seed : int
        Of the division into parts.

    Returns
    -------
    dict
        ``image_to_text`` and ``text_to_image``, shares of 1.
    """
    projected = means.astype(np.float32) @ weight.numpy()
    parts = random_parts(len(means), part, np.random.default_rng(seed))
    forth, back = ranks(cosine_matrix(projected, text), parts)
    return {
        "image_to_text": float(np.nanmean(hits(forth, 1))),
        "text_to_image": float(np.nanmean(hits(back, 1))),
    }
