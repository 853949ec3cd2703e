"""Interpolation of blurry clips in pixel space: 6 frames at 3 Hz to 16 at 8 Hz (paper 3.3, 4.2)."""

from __future__ import annotations

import numpy as np


def interpolation_matrix(source: int, target: int) -> np.ndarray:
    """Return the weights that blend ``source`` frames into ``target`` frames.

    Two neighboring frames are mixed by their distance in time, rounded to two decimals as
    in the released code: 6 frames become 16 with every frame kept and two blends of
    0.67/0.33 and 0.33/0.67 between neighbors.

    Parameters
    ----------
    source, target : int
        Numbers of frames, both from 1.

    Returns
    -------
    numpy.ndarray
        float32 (target, source); rows sum to 1.

    See Also
    --------
    interpolate_frames : Applies the weights.

    Notes
    -----
    With ``place = linspace(0, source - 1, target)``, frame i is ``(1 - s) x[l] + s x[l + 1]``,
    ``l = floor(place_i)`` and ``s = round(place_i - l, 2)``.

    Examples
    --------
    >>> interpolation_matrix(2, 3).tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    >>> interpolation_matrix(6, 16)[:4, :2].round(2).astype(float).round(2).tolist()
    [[1.0, 0.0], [0.67, 0.33], [0.33, 0.67], [0.0, 1.0]]
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

    Examples
    --------
    >>> clip = np.array([0, 100], dtype=np.uint8).reshape(1, 2, 1, 1, 1).repeat(3, axis=-1)
    >>> interpolate_frames(clip, 3)[0, :, 0, 0, 0].tolist()
    [0, 50, 100]
    """
    matrix = interpolation_matrix(clips.shape[1], target)
    blended = np.einsum("ts,csijk->ctijk", matrix, clips.astype(np.float32), optimize=True)
    if clips.dtype == np.uint8:
        return np.clip(np.rint(blended), 0, 255).astype(np.uint8)
    return blended.astype(clips.dtype)
