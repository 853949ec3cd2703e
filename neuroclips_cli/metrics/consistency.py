"""CLIP on frames: smoothness of a clip (CLIP-pcc, paper 4.3) and likeness to the ground truth."""

from __future__ import annotations

import numpy as np


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Return float64 embeddings (..., dim) of length 1."""
    wide = embeddings.astype(np.float64)
    wide /= np.maximum(np.linalg.norm(wide, axis=-1, keepdims=True), 1e-12)
    return wide


def clip_pcc(embeddings: np.ndarray, pairs: str = "adjacent") -> np.ndarray:
    """Mean cosine similarity of the CLIP image embeddings of a clip's frames.

    Parameters
    ----------
    embeddings : numpy.ndarray
        float (clips, frames, dim); rows need not have unit length.
    pairs : str
        ``adjacent`` frames (the paper), or ``all`` pairs (NEURONS' code).

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
    units = unit(embeddings)
    if pairs == "all":
        first, second = np.triu_indices(embeddings.shape[1], 1)
        cosines: np.ndarray = np.einsum("nfe,nge->nfg", units, units)[:, first, second]
    else:
        cosines = np.einsum("nfe,nfe->nf", units[:, :-1], units[:, 1:])
    return np.asarray(cosines.mean(axis=1))


def frozen(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings of the same clips frozen at their first frame, shape unchanged."""
    return np.broadcast_to(embeddings[:, :1], embeddings.shape)


def paired_cosine(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosine similarity of every embedding with the one in the same place.

    Parameters
    ----------
    left, right : numpy.ndarray
        float (..., dim).

    Returns
    -------
    numpy.ndarray
        float64 (...), -1..1.
    """
    cosines: np.ndarray = np.einsum("...e,...e->...", unit(left), unit(right))
    return cosines
