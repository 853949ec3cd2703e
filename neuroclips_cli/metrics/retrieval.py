"""Retrieval between brain and image embeddings, both ways (paper C.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from neuroclips_cli.metrics.controls import derangements
from neuroclips_cli.runtime.batches import batches


class NotFinite(ValueError):
    """Embeddings that hold NaN or infinity, which have no nearest neighbor."""


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
    >>> random_parts(1200, 300, np.random.default_rng(0)).shape
    (4, 300)
    >>> random_parts(7, 3, np.random.default_rng(0)).shape
    (2, 3)
    """
    part = min(part, count)
    parts = count // part
    return rng.permutation(count)[: parts * part].reshape(parts, part)


def _unit_blocks(rows: np.ndarray, block: int) -> Iterator[tuple[slice, np.ndarray]]:
    for where in batches(len(rows), block):
        values = np.asarray(rows[where], dtype=np.float32).reshape(where.stop - where.start, -1)
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
    >>> hits(np.array([0.0, 4.0, 5.0, np.nan]), top=5).tolist()
    [1.0, 1.0, 0.0, nan]
    """
    return np.where(np.isnan(rank), np.nan, (rank < top).astype(float))


DIRECTIONS = ("fmri_to_image", "image_to_fmri")
TOPS = (1, 5)


class TokenEmbedder(Protocol):
    """CLIP's image tower before pooling."""

    def tokens(self, frames: np.ndarray, /) -> np.ndarray:
        """Return float32 (N, tokens, dim) for uint8 (N, h, w, 3)."""
        ...


@dataclass(frozen=True)
class KeyframeTokens:
    """CLIP tokens of each clip's middle frame, computed a block at a time when indexed.

    Attributes
    ----------
    frames : numpy.ndarray
        uint8 (clips, frames, h, w, 3), usually memory-mapped.
    rows : numpy.ndarray
        int (n,), the clips in question.
    clip : TokenEmbedder
    advance : callable
        Called with the number of clips done.
    """

    frames: np.ndarray
    rows: np.ndarray
    clip: TokenEmbedder
    advance: Callable[[int], None] = lambda count: None

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.rows)

    def __getitem__(self, where: slice) -> np.ndarray:
        """Return float32 (n, tokens, dim)."""
        middle = self.frames.shape[1] // 2
        chosen = np.stack([self.frames[int(row)][middle] for row in self.rows[where]])
        self.advance(len(chosen))
        return self.clip.tokens(chosen)


@dataclass(frozen=True)
class Retrieval:
    """Per-clip hits (0 or 1; NaN outside the parts), keyed ``retrieval_<direction>[_top5]``."""

    metrics: dict[str, np.ndarray]
    shuffled: dict[str, np.ndarray]
    part: int


def retrieve(
    brain: np.ndarray,
    images: np.ndarray | KeyframeTokens,
    part: int,
    *,
    shuffles: int,
    seed: int,
    block: int = 64,
) -> Retrieval:
    """Retrieve in both directions within random parts of the test set, with a shuffled control.

    Parameters
    ----------
    brain : numpy.ndarray
        (clips, tokens, dim), the brain's contrastive tokens; may be memory-mapped float16.
    images : numpy.ndarray or KeyframeTokens
        (clips, tokens, dim), CLIP tokens of the ground-truth keyframes.
    part : int
        Candidates (paper C.6: 300); with fewer clips all of them.
    shuffles : int
        Re-pairings of the control, in which image i belongs to another clip's brain activity.
    seed : int
        Seed of the re-pairings and of the division of the clips.
    block : int
        Clips in memory at a time.

    Returns
    -------
    Retrieval
        Cosine similarity of flattened, normalized tokens; chance of top-1 is 1 / part.

    Raises
    ------
    NotFinite
        If an embedding is NaN or infinite.

    Notes
    -----
    Order of operations (paper C.6):

    1. cosine similarity of all flattened tokens;
    2. division of the clips into random parts;
    3. rank of the right candidate in its part, both directions;
    4. top-1 and top-5 hits;
    5. the same with brain activity of other clips, mean over ``shuffles``.

    Examples
    --------
    >>> tokens = np.eye(4).reshape(4, 2, 2)
    >>> found = retrieve(tokens, tokens, part=4, shuffles=1, seed=0)
    >>> found.metrics["retrieval_fmri_to_image"].tolist()
    [1.0, 1.0, 1.0, 1.0]
    >>> found.shuffled["retrieval_fmri_to_image"].tolist()
    [0.0, 0.0, 0.0, 0.0]
    """
    similarity = cosine_matrix(brain, images, block)  # type: ignore[arg-type]
    parts = random_parts(len(brain), part, np.random.default_rng(seed))
    shuffled: dict[str, np.ndarray] = {}
    if shuffles and len(brain) > 1:
        wrong = [
            _hits(similarity[order], parts) for order in derangements(len(brain), shuffles, seed)
        ]
        shuffled = {name: np.mean([w[name] for w in wrong], axis=0) for name in wrong[0]}
    return Retrieval(_hits(similarity, parts), shuffled, int(parts.shape[1]))


def _hits(similarity: np.ndarray, parts: np.ndarray) -> dict[str, np.ndarray]:
    found = {}
    for direction, rank in zip(DIRECTIONS, ranks(similarity, parts), strict=True):
        for top in TOPS:
            name = f"retrieval_{direction}" + (f"_top{top}" if top > 1 else "")
            found[name] = hits(rank, top)
    return found
