"""Likeness of decoded captions to the true ones."""

from __future__ import annotations

import numpy as np

from neuroclips_cli.metrics.consistency import paired_cosine
from neuroclips_cli.metrics.controls import derangements

NAME = "caption_similarity"


def similarity(
    made: np.ndarray, true: np.ndarray, *, shuffles: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Cosine similarity of the text embeddings of each clip's captions, and its control.

    Parameters
    ----------
    made, true : numpy.ndarray
        float (clips, dim), text embeddings of the decoded and of the true captions.
    shuffles, seed
        Of the control, in which decoded captions are given to other clips.

    Returns
    -------
    tuple of dict
        ``caption_similarity`` -> float64 (clips,), -1..1; and the same shuffled, empty without
        shuffles or with a single clip.
    """
    values = {NAME: paired_cosine(made, true)}
    if not shuffles or len(made) < 2:
        return values, {}
    wrong = [paired_cosine(made[o], true) for o in derangements(len(made), shuffles, seed)]
    return values, {NAME: np.mean(wrong, axis=0)}
