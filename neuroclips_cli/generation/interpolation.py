"""From 6 frames at 3 per second to 16 frames at 8 per second, on pixels (paper 3.3)."""

from __future__ import annotations

import numpy as np


def interpolation_matrix(source: int, target: int) -> np.ndarray:
    """Weights that blend ``source`` frames into ``target`` frames.

    Two neighbouring frames are mixed by their distance in time, rounded to two decimals as
    in the released code: 6 frames become 16 with every frame kept and two blends of
    0.67/0.33 and 0.33/0.67 between neighbours.

    Parameters
    ----------
    source, target : int
        Numbers of frames, both from 1.

    Returns
    -------
    numpy.ndarray
        float32 (target, source); rows sum to 1.
    """
    place = np.linspace(0, source - 1, target)
    left = np.minimum(place.astype(int), max(source - 2, 0))
    right = np.minimum(left + 1, source - 1)
    share = np.round(place - left, 2)
    matrix = np.zeros((target, source), dtype=np.float32)
    rows = np.arange(target)
    np.add.at(matrix, (rows, left), (1 - share).astype(np.float32))
    np.add.at(matrix, (rows, right), share.astype(np.float32))
    return matrix


def interpolate_frames(clips: np.ndarray, target: int) -> np.ndarray:
    """Blend clips to another number of frames.

    Parameters
    ----------
    clips : numpy.ndarray
        uint8 or float32 (clips, frames, height, width, 3).
    target : int
        Frames wanted.

    Returns
    -------
    numpy.ndarray
        (clips, target, height, width, 3) of the same type; uint8 is rounded.
    """
    matrix = interpolation_matrix(clips.shape[1], target)
    blended = np.einsum("ts,csijk->ctijk", matrix, clips.astype(np.float32), optimize=True)
    if clips.dtype == np.uint8:
        return np.clip(np.rint(blended), 0, 255).astype(np.uint8)
    return blended.astype(clips.dtype)
