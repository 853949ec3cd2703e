"""Simple features of clips, such as every visual brain answers to: color, contrast, motion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.runtime.batches import batches

CELLS = 4
"""The picture is cut into 4 x 4 cells."""


def clip_features(clips: NDArray[np.uint8], block: int = 64) -> NDArray[np.float32]:
    """Compute mean color, contrast and motion of every cell of a clip.

    Parameters
    ----------
    clips : numpy.ndarray
        uint8 (clips, frames, height, width, 3); may be memory-mapped, ``block`` clips are read at a
        time.
    block : int
        Clips at a time.

    Returns
    -------
    numpy.ndarray
        float32 (clips, 80): three means, a standard deviation and a mean absolute difference of
        successive frames for each of 16 cells, in units of the full range.

    Examples
    --------
    A grey clip that stands still has neither contrast nor motion:

    >>> found = clip_features(np.full((1, 2, 8, 8, 3), 51, dtype=np.uint8))
    >>> found.shape, np.unique(found.round(6)).tolist()
    ((1, 80), [0.0, 0.20000000298023224])
    """
    parts = [_features(np.asarray(clips[rows])) for rows in batches(len(clips), block)]
    return np.concatenate(parts) if parts else np.empty((0, 5 * CELLS**2), np.float32)


def _features(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
    count, frames, height, width = clips.shape[:4]
    high, wide = height // CELLS, width // CELLS
    pixels = clips[:, :, : high * CELLS, : wide * CELLS].astype(np.float32) / 255
    cells = pixels.reshape(count, frames, CELLS, high, CELLS, wide, 3)
    grey = cells.mean(axis=-1)
    color = cells.mean(axis=(1, 3, 5))
    contrast = grey.std(axis=(3, 5)).mean(axis=1)
    motion = np.abs(np.diff(grey, axis=1)).mean(axis=(1, 3, 5)) if frames > 1 else 0 * contrast
    flat = (part.reshape(count, -1) for part in (color, contrast, motion))
    return np.concatenate(list(flat), axis=1)


def with_neighbors(
    features: NDArray[np.floating], offsets: Sequence[int] = (-1, 0, 1)
) -> NDArray[np.float32]:
    """Put the features of neighboring clips beside those of every clip of one film.

    The hemodynamic response is longer than a clip.

    Parameters
    ----------
    features : numpy.ndarray
        float (clips, features), of one film in order.
    offsets : sequence of int
        Which neighbors; beyond the ends of the film they are 0.

    Returns
    -------
    numpy.ndarray
        float32 (clips, offsets x features).

    Examples
    --------
    >>> with_neighbors(np.array([[1.0], [2.0]]), (-1, 0)).tolist()
    [[0.0, 1.0], [1.0, 2.0]]
    """
    count = len(features)
    beside = np.zeros((len(offsets), *features.shape), np.float32)
    for row, offset in zip(beside, offsets, strict=True):
        low, high = max(0, -offset), min(count, count - offset)
        if low < high:
            row[low:high] = features[low + offset : high + offset]
    return np.concatenate(list(beside), axis=1)
