"""Controls: chance levels of the metrics by re-pairing, and the reliability of the scans."""

from __future__ import annotations

import warnings

import numpy as np

from neuroclips_cli.runtime.batches import batches
from neuroclips_cli.signal.reproducibility import interrun_correlation


def derangement(count: int, rng: np.random.Generator) -> np.ndarray:
    """Random permutation that leaves no row in its place.

    Parameters
    ----------
    count : int
        At least 2.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray
        int64 (count,), uniform over all derangements.

    Raises
    ------
    ValueError
        If ``count`` is below 2.

    See Also
    --------
    derangements : Several at once, from a seed.
    scene_derangement : The same for whole scenes.

    Examples
    --------
    >>> order = derangement(5, np.random.default_rng(0))
    >>> sorted(order.tolist()), bool((order == np.arange(5)).any())
    ([0, 1, 2, 3, 4], False)
    """
    if count < 2:
        raise ValueError("a shuffled control needs at least two clips")
    while True:  # about e = 2.7 tries
        order = rng.permutation(count)
        if not np.any(order == np.arange(count)):
            return order


def derangements(count: int, shuffles: int, seed: int) -> np.ndarray:
    """Draw the re-pairings of the ``shuffled_fmri`` control.

    Parameters
    ----------
    count : int
        Number of clips, at least 2.
    shuffles : int
        Number of re-pairings, at least 1.
    seed : int
        Seed of the draws.

    Returns
    -------
    numpy.ndarray
        int64 (shuffles, count): in shuffle s, ground-truth clip i is compared with the
        reconstruction of clip ``[s, i]``, never its own.

    Raises
    ------
    ValueError
        If ``count`` is below 2.

    Examples
    --------
    With two clips there is one derangement only:

    >>> derangements(2, shuffles=3, seed=0).tolist()
    [[1, 0], [1, 0], [1, 0]]
    """
    rng = np.random.default_rng(seed)
    return np.stack([derangement(count, rng) for _ in range(shuffles)])


def scene_derangement(scenes: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Give every clip the place of a clip of another scene, neighbors staying neighbors.

    The scenes are laid end to end in random order, and the clips moved along by at least the
    longest scene.

    Parameters
    ----------
    scenes : numpy.ndarray
        (clips,) labels.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray or None
        int64 (clips,), a permutation; None where one scene holds more than half of the clips.

    Examples
    --------
    >>> scenes = np.array(["a", "a", "b", "b", "c", "c"])
    >>> order = scene_derangement(scenes, np.random.default_rng(0))
    >>> bool((scenes[order] == scenes).any())
    False
    >>> scene_derangement(np.array(["a", "a", "b"]), np.random.default_rng(0)) is None
    True
    """
    labels, counts = np.unique(scenes, return_counts=True)
    longest, clips = int(counts.max()), len(scenes)
    if 2 * longest > clips:
        return None
    order = [np.flatnonzero(scenes == label) for label in rng.permutation(labels)]
    laid = np.concatenate(order)
    given = np.empty(clips, np.int64)
    given[laid] = np.roll(laid, -int(rng.integers(longest, clips - longest + 1)))
    return given


def split_half_reliability(repetitions: np.ndarray, block: int = 512) -> dict[str, float]:
    """Estimate how well the test scans repeat, the ceiling of what can be decoded.

    Parameters
    ----------
    repetitions : numpy.ndarray
        float32 (clips, repetitions, voxels), NaN where a repetition is missing; may be
        memory-mapped, ``block`` voxels are read at a time.
    block : int
        Voxels per step.

    Returns
    -------
    dict
        ``split_half_r``: median over voxels of the correlation, over clips, between the means
        of the even and of the odd repetitions. ``spearman_brown_r``: the same stepped up to all
        repetitions, 2 r / (1 + r). ``voxels`` and ``repetitions``: their numbers. Correlations
        are NaN with fewer than two repetitions or three clips.

    Notes
    -----
    Spearman-Brown for doubled length: ``r_full = 2 r_half / (1 + r_half)``.

    Examples
    --------
    Two equal repetitions are perfectly reliable:

    >>> scan = np.array([[1.0], [2.0], [4.0]], dtype=np.float32)
    >>> facts = split_half_reliability(np.stack([scan, scan], axis=1))
    >>> round(facts["split_half_r"], 6), facts["repetitions"]
    (1.0, 2.0)
    """
    clips, count, voxels = repetitions.shape
    facts = {"voxels": float(voxels), "repetitions": float(count)}
    if count < 2 or clips < 3 or voxels == 0:
        return {"split_half_r": float("nan"), "spearman_brown_r": float("nan"), **facts}
    halves = np.empty(voxels)
    for piece in batches(voxels, block):
        data = np.asarray(repetitions[:, :, piece], dtype=np.float64)
        halves[piece] = _correlate(_mean(data[:, ::2]), _mean(data[:, 1::2]))
    r = float(np.nanmedian(halves)) if not np.all(np.isnan(halves)) else float("nan")
    return {"split_half_r": r, "spearman_brown_r": 2 * r / (1 + r), **facts}


def _mean(data: np.ndarray) -> np.ndarray:
    """Mean over repetitions, axis 1, around missing ones; NaN where all are missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # "Mean of empty slice" is the NaN wanted
        mean: np.ndarray = np.nanmean(data, axis=1)
    return mean


def _correlate(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pearson correlation per column over the rows where both are known."""
    known = ~(np.isnan(left).any(axis=1) | np.isnan(right).any(axis=1))
    return interrun_correlation(left[known], right[known], constant=np.nan)
