"""Consistency of frames in CLIP space: CLIP-pcc (paper 4.3) and similarity to the ground truth."""

from __future__ import annotations

import numpy as np


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Scale embeddings to unit length.

    Parameters
    ----------
    embeddings : numpy.ndarray
        float (..., dim).

    Returns
    -------
    numpy.ndarray
        float64 (..., dim), Euclidean norm 1 along the last axis; a zero vector stays zero.

    Examples
    --------
    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
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

    See Also
    --------
    frozen : The trivial clip that scores 1.
    paired_cosine : Similarity to the ground truth instead of smoothness.

    Notes
    -----
    It measures smoothness, not decoding: a frozen frame scores 1. Read it next to the value
    of the ground truth itself.

    For unit embeddings e of F frames: ``sum_f e[f] . e[f + 1] / (F - 1)`` (paper 4.3, "average
    cosine similarity between all pairs of adjacent video frames").

    Examples
    --------
    Frames at right angles score 0, a repeated frame scores 1:

    >>> embeddings = np.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    >>> clip_pcc(embeddings).tolist()
    [0.5]
    >>> clip_pcc(embeddings, pairs="all").round(3).tolist()
    [0.333]
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
    """Return embeddings of the same clips frozen at their first frame.

    Parameters
    ----------
    embeddings : numpy.ndarray
        float (clips, frames, dim).

    Returns
    -------
    numpy.ndarray
        A read-only view of the same shape; `clip_pcc` of it is 1.

    Examples
    --------
    >>> frozen(np.array([[[1.0, 0.0], [0.0, 1.0]]])).tolist()
    [[[1.0, 0.0], [1.0, 0.0]]]
    """
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

    Examples
    --------
    >>> left, right = np.array([[2.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 0.0], [1.0, -1.0]])
    >>> paired_cosine(left, right).tolist()
    [1.0, 0.0]
    """
    cosines: np.ndarray = np.einsum("...e,...e->...", unit(left), unit(right))
    return cosines
