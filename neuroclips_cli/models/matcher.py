"""Keyframe matcher: a shallow MLP that tells whether two keyframes show one class (paper 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from neuroclips_cli.losses import matching_loss


class Matcher(nn.Module):
    """Two CLIP image embeddings to the logit of "same class".

    It sees their mean, absolute difference and product, so that their order has no effect.

    Parameters
    ----------
    dim : int
        Width of an embedding.
    hidden : int
        Width of the hidden layer.

    Notes
    -----
    ``logit(a, b) = MLP(sqrt(d) [(a + b) / 2, abs(a - b), sqrt(d) a b])`` for unit embeddings of
    width d; symmetric in a and b.

    Examples
    --------
    >>> matcher, (a, b) = Matcher(dim=4, hidden=8).eval(), torch.eye(4)[:2, None]
    >>> torch.equal(matcher(a, b), matcher(b, a))
    True
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3 * dim, hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, 1)
        )

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the logit of "same class" of every pair.

        Parameters
        ----------
        first, second : Tensor
            ``(pairs, dim)``, unit rows.

        Returns
        -------
        Tensor
            ``(pairs,)``.
        """
        # entries of a unit vector are about dim ** -0.5; bring them to about 1
        scale = first.shape[-1] ** 0.5
        features = [(first + second) / 2, (first - second).abs(), first * second * scale]
        return self.layers(torch.cat(features, dim=-1) * scale).squeeze(-1)

    @torch.inference_mode()
    def probability(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the probability of "same class".

        Parameters
        ----------
        first, second : numpy.ndarray
            float (pairs, dim), unit rows.

        Returns
        -------
        numpy.ndarray
            float32 (pairs,), 0..1.
        """
        pair = (torch.from_numpy(np.asarray(part, dtype=np.float32)) for part in (first, second))
        return self(*pair).sigmoid().numpy()


@dataclass(frozen=True)
class Pairs:
    """Pairs of keyframes: rows of the first, rows of the second, and whether they match."""

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray


def draw_pairs(groups: Sequence[str], count: int, rng: np.random.Generator) -> Pairs:
    """Draw as many matching as different pairs of keyframes.

    Half of the different pairs are neighbors in the film where there are any, since those
    are what chains are decided on.

    Parameters
    ----------
    groups : sequence of str
        Class of every keyframe, in film order.
    count : int
        Pairs wanted of each sort.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Pairs
        Empty where the keyframes have only one class, or no class twice.

    See Also
    --------
    fit_matcher : Trains on the pairs.

    Examples
    --------
    >>> pairs = draw_pairs(["cat", "cat", "dog"], 2, np.random.default_rng(0))
    >>> pairs.same.tolist(), len(pairs.first), len(pairs.second)
    ([1.0, 1.0, 0.0, 0.0], 4, 4)
    """
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    members = [np.flatnonzero(codes == code) for code in range(len(names))]
    several = [rows for rows in members if len(rows) > 1]
    if len(names) < 2 or not several:
        nothing = np.zeros(0, dtype=int)
        return Pairs(nothing, nothing, np.zeros(0, dtype=np.float32))
    weights = np.array([len(rows) for rows in several], dtype=float)
    picks = rng.choice(len(several), size=count, p=weights / weights.sum())
    matching = np.array([rng.choice(several[pick], size=2, replace=False) for pick in picks])

    cuts = np.flatnonzero(codes[1:] != codes[:-1])
    near = rng.choice(cuts, size=count // 2)
    far = _different(codes, count - count // 2, rng)
    different = np.concatenate([np.stack([near, near + 1], axis=1), far])
    rows = np.concatenate([matching, different])
    same = np.repeat(np.array([1, 0], dtype=np.float32), count)
    return Pairs(rows[:, 0], rows[:, 1], same)


def _different(codes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    found: list[np.ndarray] = []
    while sum(map(len, found)) < count:
        rows = rng.integers(len(codes), size=(count, 2))
        found.append(rows[codes[rows[:, 0]] != codes[rows[:, 1]]])
    return np.concatenate(found)[:count]


def fit_matcher(
    embeddings: np.ndarray,
    pairs: Pairs,
    held_out: tuple[np.ndarray, Pairs],
    *,
    hidden: int,
    epochs: int,
    learning_rate: float,
    seed: int,
) -> tuple[Matcher, dict[str, float]]:
    """Train the matcher with AdamW on binary cross-entropy.

    Parameters
    ----------
    embeddings : numpy.ndarray
        float32 (keyframes, dim), unit rows.
    pairs : Pairs
        Rows of ``embeddings``.
    held_out : tuple
        Embeddings and pairs of films kept out of training.
    hidden : int
        Width of the hidden layer.
    epochs : int
        Passes over the pairs.
    learning_rate : float
        Of AdamW, > 0.
    seed : int
        Of the initial weights and the order.

    Returns
    -------
    matcher : Matcher
        Evaluation mode.
    facts : dict
        ``accuracy_train``, ``accuracy_held_out`` (0..1; NaN-free: left out where there is no
        pair) and ``pairs``.

    See Also
    --------
    neuroclips_cli.losses.matching.matching_loss : The loss.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        matcher = Matcher(embeddings.shape[1], hidden)
        _train(matcher, embeddings, pairs, epochs, learning_rate)
    matcher.eval()
    facts = {
        "pairs": float(len(pairs.same)),
        "accuracy_train": _accuracy(matcher, embeddings, pairs),
    }
    if len(held_out[1].same):
        facts["accuracy_held_out"] = _accuracy(matcher, *held_out)
    return matcher, facts


def _train(
    matcher: Matcher, embeddings: np.ndarray, pairs: Pairs, epochs: int, learning_rate: float
) -> None:
    table = torch.from_numpy(np.asarray(embeddings, dtype=np.float32))
    first, second = torch.from_numpy(pairs.first), torch.from_numpy(pairs.second)
    same = torch.from_numpy(pairs.same)
    optimizer = torch.optim.AdamW(matcher.parameters(), lr=learning_rate, weight_decay=0.01)
    matcher.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(same)).split(256):
            logits = matcher(table[first[rows]], table[second[rows]])
            loss = matching_loss(logits, same[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def _accuracy(matcher: Matcher, embeddings: np.ndarray, pairs: Pairs) -> float:
    chance = matcher.probability(embeddings[pairs.first], embeddings[pairs.second])
    return float(np.mean((chance > 0.5) == (pairs.same > 0.5)))
