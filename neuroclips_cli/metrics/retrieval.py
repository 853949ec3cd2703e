"""Retrieval between brain and image embeddings, both ways (paper C.6)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


class NotFinite(ValueError):
    """Embeddings that hold NaN or infinity, of which no winner can be told."""


def random_parts(count: int, part: int, rng: np.random.Generator) -> np.ndarray:
    """Divide rows at random into equal parts, as the paper divides 1200 clips into 4 x 300.

    Parameters
    ----------
    count : int
        Number of rows.
    part : int
        Rows in a part; with fewer rows the whole set is one part.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray
        int64 (parts, rows of a part). Rows that fill no whole part are left out.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroclips_cli.metrics.retrieval import random_parts
    >>> random_parts(1200, 300, np.random.default_rng(0)).shape
    (4, 300)
    >>> random_parts(7, 3, np.random.default_rng(0)).shape
    (2, 3)
    """
    part = min(part, count)
    parts = count // part
    return rng.permutation(count)[: parts * part].reshape(parts, part)


def _unit_blocks(rows: np.ndarray, block: int) -> Iterator[tuple[slice, np.ndarray]]:
    for start in range(0, len(rows), block):
        where = slice(start, min(start + block, len(rows)))
        values = np.asarray(rows[where], dtype=np.float32).reshape(where.stop - start, -1)
        if not np.isfinite(values).all():
            raise NotFinite(f"rows {where.start} to {where.stop} hold values that are not finite")
        yield where, values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def cosine_matrix(left: np.ndarray, right: np.ndarray, block: int = 64) -> np.ndarray:
    """Cosine similarity of every row of ``left`` with every row of ``right``.

    Parameters
    ----------
    left, right : numpy.ndarray
        (rows, ...), flattened per row; may be memory-mapped and float16, only ``block`` rows of
        each are in memory at a time.
    block : int
        Rows per step.

    Returns
    -------
    numpy.ndarray
        float32 (rows of left, rows of right).

    Raises
    ------
    NotFinite
        If a value is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroclips_cli.metrics.retrieval import cosine_matrix
    >>> cosine_matrix(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[3.0, 0.0]])).tolist()
    [[1.0], [0.0]]
    """
    similarity = np.empty((len(left), len(right)), dtype=np.float32)
    for columns, unit_right in _unit_blocks(right, block):
        for rows, unit_left in _unit_blocks(left, block):
            similarity[rows, columns] = unit_left @ unit_right.T
    return similarity


def ranks(similarity: np.ndarray, parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the wrong candidates of a part that score at least as well as the right one.

    Parameters
    ----------
    similarity : numpy.ndarray
        (rows, rows): brain embedding of row i with image embedding of row j; i and i belong
        together.
    parts : numpy.ndarray
        int (parts, size), from `random_parts`.

    Returns
    -------
    tuple of numpy.ndarray
        float64 (rows,) each, fMRI to image and image to fMRI: 0 when the right candidate wins,
        below k when it is among the top k, NaN for rows outside the parts. A tie counts
        against the right candidate, so constant embeddings score nothing.

    See Also
    --------
    hits : Top-k success from a rank.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroclips_cli.metrics.retrieval import ranks
    >>> similarity = np.array([[0.9, 0.1], [0.8, 0.7]])
    >>> forward, backward = ranks(similarity, np.array([[0, 1]]))
    >>> forward.tolist(), backward.tolist()
    ([0.0, 1.0], [0.0, 0.0])
    """
    forward = np.full(len(similarity), np.nan)
    backward = np.full(len(similarity), np.nan)
    for part in parts:
        block = similarity[np.ix_(part, part)]
        right = np.diagonal(block)
        forward[part] = (block >= right[:, None]).sum(axis=1) - 1
        backward[part] = (block >= right[None, :]).sum(axis=0) - 1
    return forward, backward


def hits(rank: np.ndarray, top: int) -> np.ndarray:
    """Tell which ranks are among the first ``top``.

    Parameters
    ----------
    rank : numpy.ndarray
        float (rows,) from `ranks`, 0 is best.
    top : int
        k of top-k retrieval, at least 1.

    Returns
    -------
    numpy.ndarray
        float64 (rows,): 1 where the rank is below ``top``, else 0; NaN stays NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroclips_cli.metrics.retrieval import hits
    >>> hits(np.array([0.0, 4.0, 5.0, np.nan]), top=5).tolist()
    [1.0, 1.0, 0.0, nan]
    """
    return np.where(np.isnan(rank), np.nan, (rank < top).astype(float))
