"""Likeness of decoded captions to the true ones."""

from __future__ import annotations

import numpy as np

from neuroclips_cli.metrics.consistency import paired_cosine
from neuroclips_cli.metrics.controls import derangements

NAME = "caption_similarity"


def similarity(
    pred: np.ndarray, gt: np.ndarray, *, shuffles: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Cosine similarity of the text embeddings of each clip's captions, and its shuffled control.

    Parameters
    ----------
    pred, gt : numpy.ndarray
        float (clips, dim), text embeddings of the decoded and of the ground-truth captions.
    shuffles : int
        Re-pairings of the control, in which decoded captions are given to other clips; 0 for none.
    seed : int
        Seed of the re-pairings.

    Returns
    -------
    values : dict
        ``caption_similarity`` -> float64 (clips,), -1..1.
    shuffled : dict
        The same, mean over the re-pairings; empty without shuffles or with a single clip.

    See Also
    --------
    neuroclips_cli.metrics.consistency.paired_cosine : The similarity itself.
    neuroclips_cli.metrics.controls.derangements : The re-pairings.

    Examples
    --------
    >>> embeddings = np.eye(3)
    >>> values, shuffled = similarity(embeddings, embeddings, shuffles=2, seed=0)
    >>> values["caption_similarity"].tolist(), shuffled["caption_similarity"].tolist()
    ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    """
    values = {NAME: paired_cosine(pred, gt)}
    if not shuffles or len(pred) < 2:
        return values, {}
    wrong = [paired_cosine(pred[o], gt) for o in derangements(len(pred), shuffles, seed)]
    return values, {NAME: np.mean(wrong, axis=0)}
