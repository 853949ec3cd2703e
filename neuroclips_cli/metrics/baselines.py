"""Predictions that decode nothing, or as little as can be: what a decoder has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def nearest_scans(
    scans: NDArray[np.float32], library: NDArray[np.float32], block: int = 256
) -> NDArray[np.int64]:
    """Find for every scan the one in a library that correlates most with it.

    Parameters
    ----------
    scans : numpy.ndarray
        float (scans, voxels).
    library : numpy.ndarray
        float (entries, voxels), may be memory-mapped; ``block`` entries are read at a time.
    block : int
        Entries per step.

    Returns
    -------
    numpy.ndarray
        int64 (scans,), rows of the library; the first of equals.
    """
    wanted = _unit(scans)
    best = np.full(len(scans), -np.inf)
    found = np.zeros(len(scans), dtype=np.int64)
    for start in range(0, len(library), block):
        r = wanted @ _unit(np.asarray(library[start : start + block])).T
        place = r.argmax(axis=1)
        top = r[np.arange(len(r)), place]
        better = top > best
        best[better], found[better] = top[better], start + place[better]
    return found


def mean_frame(clips: NDArray[np.uint8], block: int = 64) -> NDArray[np.uint8]:
    """Return the mean over all frames of all clips.

    Parameters
    ----------
    clips : numpy.ndarray
        uint8 (clips, frames, h, w, 3), may be memory-mapped.
    block : int
        Clips per step.

    Returns
    -------
    numpy.ndarray
        uint8 (h, w, 3).
    """
    total = np.zeros(clips.shape[2:])
    for start in range(0, len(clips), block):
        total += clips[start : start + block].sum(axis=(0, 1), dtype=np.float64)
    mean: NDArray[np.uint8] = np.rint(total / (len(clips) * clips.shape[1])).astype(np.uint8)
    return mean


def noise_scans(scans: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return Gaussian noise with the mean and the deviation that every voxel has over the scans."""
    # a stream of its own: a simulated scan may be drawn from the same seed
    rng = np.random.default_rng([seed, *b"noise"])
    noise = rng.normal(size=scans.shape) * scans.std(axis=0) + scans.mean(axis=0)
    return noise.astype(np.float32)


def _unit(scans: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centre each scan and bring it to length 1; a constant one becomes 0."""
    centred = scans - scans.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit: NDArray[np.float32] = centred / np.where(length > 0, length, 1)
    return unit
