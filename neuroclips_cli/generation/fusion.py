"""Multi-fMRI fusion: which neighbouring clips are continued as one (paper 3.4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def neighbours(segments: Sequence[str], onsets_s: Sequence[float], clip_s: float) -> np.ndarray:
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
    """
    segment, onset = np.asarray(segments), np.asarray(onsets_s, dtype=float)
    steps = np.abs(np.diff(onset) - clip_s) < 1e-6 * max(clip_s, 1)
    return (segment[1:] == segment[:-1]) & steps


def build_chains(joined: np.ndarray, longest: int) -> list[list[int]]:
    """Group clips into chains.

    Parameters
    ----------
    joined : numpy.ndarray
        bool (clips - 1,): clip i + 1 is a neighbour of clip i and shows the same class.
    longest : int
        Most clips of one chain (paper: 3, which is 6 s).

    Returns
    -------
    list of list of int
        Positions of the clips, every clip once; a chain that is full ends, and the next
        clip begins another.
    """
    chains = [[0]]
    for clip, joins in enumerate(joined, start=1):
        if joins and len(chains[-1]) < longest:
            chains[-1].append(clip)
        else:
            chains.append([clip])
    return chains
