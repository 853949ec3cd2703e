"""Multi-fMRI fusion: neighboring clips that are continued as one (paper 3.4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def neighbors(segments: Sequence[str], onsets_s: Sequence[float], clip_s: float) -> np.ndarray:
    """Tell whether each clip is followed by the next one without a gap.

    Parameters
    ----------
    segments : sequence of str
        Film segment of every clip, in order.
    onsets_s : sequence of float
        Onset of every clip in its segment, in seconds.
    clip_s : float
        Length of a clip.

    Returns
    -------
    numpy.ndarray
        bool (clips - 1,): clip i + 1 begins where clip i ends, in the same segment.

    Examples
    --------
    >>> neighbors(["seg1", "seg1", "seg1", "seg2"], [0.0, 2.0, 6.0, 8.0], 2.0).tolist()
    [True, False, False]
    """
    segment, onset = np.asarray(segments), np.asarray(onsets_s, dtype=float)
    steps = np.abs(np.diff(onset) - clip_s) < 1e-6 * max(clip_s, 1)
    return (segment[1:] == segment[:-1]) & steps


def build_chains(joined: np.ndarray, longest: int) -> list[list[int]]:
    """Group consecutive clips into chains that are generated one after the other.

    Parameters
    ----------
    joined : numpy.ndarray
        bool (clips - 1,): clip i + 1 is a neighbor of clip i and shows the same class.
    longest : int
        Most clips of one chain (paper: 3, which is 6 s).

    Returns
    -------
    list of list of int
        Positions of the clips, every clip once; a chain that is full ends, and the next
        clip begins another.

    See Also
    --------
    neighbors : Clips without a gap between them.
    neuroclips_cli.models.matcher.Matcher : Whether two keyframes show the same class.

    Examples
    --------
    >>> build_chains(np.array([True, True, True, False]), longest=3)
    [[0, 1, 2], [3], [4]]
    """
    chains = [[0]]
    for clip, joins in enumerate(joined, start=1):
        if joins and len(chains[-1]) < longest:
            chains[-1].append(clip)
        else:
            chains.append([clip])
    return chains
