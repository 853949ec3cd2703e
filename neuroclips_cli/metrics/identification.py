"""Retrieval of keyframes by brain activity and of brain activity by keyframes (paper C.6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from neuroclips_cli.metrics.controls import derangements
from neuroclips_cli.metrics.retrieval import cosine_matrix, hits, random_parts, ranks

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
    >>> import numpy as np
    >>> from neuroclips_cli.metrics.identification import retrieve
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
