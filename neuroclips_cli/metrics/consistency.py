"""Smoothness of a clip: CLIP-pcc (paper 4.3)."""

from __future__ import annotations

import numpy as np


def clip_pcc(embeddings: np.ndarray) -> np.ndarray:
    """Mean cosine similarity of the CLIP image embeddings of adjacent frames.

    Parameters
    ----------
    embeddings : numpy.ndarray
        float (clips, frames, dim); rows need not have unit length.

    Returns
    -------
    numpy.ndarray
        float64 (clips,), -1..1.

    Raises
    ------
    ValueError
        If a clip has fewer than two frames.

    Notes
    -----
    It measures smoothness, not decoding: a frozen frame scores 1. Read it next to the value
    of the ground truth itself.
    """
    if embeddings.ndim != 3 or embeddings.shape[1] < 2:
        raise ValueError(f"expected (clips, frames >= 2, dim), got {embeddings.shape}")
    unit = embeddings.astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=-1, keepdims=True), 1e-12)
    cosines: np.ndarray = np.einsum("nfe,nfe->nf", unit[:, :-1], unit[:, 1:])
    return np.asarray(cosines.mean(axis=1))


def frozen(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings of the same clips frozen at their first frame, shape unchanged."""
    return np.broadcast_to(embeddings[:, :1], embeddings.shape)
