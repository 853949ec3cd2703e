"""Reference predictions that a decoder has to beat: nearest scan, mean frame, noise scans."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.runtime.batches import batches


def nearest_scans(
    scans: NDArray[np.float32], library: NDArray[np.float32], block: int = 256
) -> NDArray[np.int64]:
    """Find for every scan the one in a library that correlates most with it.

    Parameters
    ----------
    scans : numpy.ndarray
        float (scans, voxels), any scale.
    library : numpy.ndarray
        float (entries, voxels), may be memory-mapped; ``block`` entries are read at a time.
    block : int
        Entries per step, at least 1.

    Returns
    -------
    numpy.ndarray
        int64 (scans,), rows of the library; the first of equals. A constant scan correlates 0 with
        every entry.

    See Also
    --------
    mean_frame : The prediction that ignores the scan.

    Notes
    -----
    Pearson correlation over voxels, ``r(a, b) = a' . b' / (norm(a') norm(b'))`` with
    ``a' = a - mean(a)``.

    Examples
    --------
    >>> library = np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]], dtype=np.float32)
    >>> nearest_scans(np.array([[9.0, 2.0, 5.0]], dtype=np.float32), library).tolist()
    [1]
    """
    wanted = _unit(scans)
    best = np.full(len(scans), -np.inf)
    found = np.zeros(len(scans), dtype=np.int64)
    for rows in batches(len(library), block):
        r = wanted @ _unit(np.asarray(library[rows])).T
        place = r.argmax(axis=1)
        top = r[np.arange(len(r)), place]
        better = top > best
        best[better], found[better] = top[better], rows.start + place[better]
    return found


def mean_frame(clips: NDArray[np.uint8], block: int = 64) -> NDArray[np.uint8]:
    """Return the mean over all frames of all clips.

    Parameters
    ----------
    clips : numpy.ndarray
        uint8 (clips, frames, height, width, 3), may be memory-mapped; at least one clip.
    block : int
        Clips per step, at least 1.

    Returns
    -------
    numpy.ndarray
        uint8 (height, width, 3), rounded half to even.

    Examples
    --------
    >>> clips = np.zeros((2, 2, 1, 1, 3), dtype=np.uint8)
    >>> clips[0] = 100
    >>> mean_frame(clips).tolist()
    [[[50, 50, 50]]]
    """
    total = np.zeros(clips.shape[2:])
    for rows in batches(len(clips), block):
        total += clips[rows].sum(axis=(0, 1), dtype=np.float64)
    mean: NDArray[np.uint8] = np.rint(total / (len(clips) * clips.shape[1])).astype(np.uint8)
    return mean


def noise_scans(scans: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Draw Gaussian noise with each voxel's mean and standard deviation over the scans.

    Parameters
    ----------
    scans : numpy.ndarray
        float32 (scans, voxels).
    seed : int
        Seed of the draws; the same seed gives the same noise.

    Returns
    -------
    numpy.ndarray
        float32 (scans, voxels): ``mean_v + std_v N(0, 1)``, standard deviation with ddof 0.

    Examples
    --------
    A voxel that never changes stays as it is:

    >>> scans = np.array([[1.0, 5.0], [3.0, 5.0]], dtype=np.float32)
    >>> noise_scans(scans, seed=0)[:, 1].tolist()
    [5.0, 5.0]
    """
    # a stream of its own: a simulated scan may be drawn from the same seed
    rng = np.random.default_rng([seed, *b"noise"])
    noise = rng.normal(size=scans.shape) * scans.std(axis=0) + scans.mean(axis=0)
    return noise.astype(np.float32)


def _unit(scans: NDArray[np.float32]) -> NDArray[np.float32]:
    """Center each scan and bring it to length 1; a constant one becomes 0."""
    centered = scans - scans.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centered, axis=1, keepdims=True)
    unit: NDArray[np.float32] = centered / np.where(length > 0, length, 1)
    return unit
