"""Which training segments are held out for choosing the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuroclips_cli.errors import UserError


def split_segments(
    segments: np.ndarray, wanted: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Hold whole segments out: neighboring clips share scenes, so random clips would leak.

    Parameters
    ----------
    segments : numpy.ndarray
        int (clips,), the film segment of every training clip.
    wanted : sequence of int
        Segments to hold out. Those that the data set lacks are passed over; if none is left, the
        last segment is held out.

    Returns
    -------
    train, validation : numpy.ndarray
        int64 clip numbers, disjoint, together all clips.
    held_out : tuple of int
        The segments held out.

    Raises
    ------
    UserError
        If holding out would leave nothing to train on.
    """
    present = sorted(set(segments.tolist()))
    if len(present) < 2:
        raise UserError(
            f"the data has {len(present)} training segment and training needs at least 2, one of "
            "them held out for validation: give the data set more training segments"
        )
    held_out = tuple(s for s in present if s in set(wanted)) or (present[-1],)
    if len(held_out) == len(present):
        raise UserError(
            f"validation_segments {list(wanted)} holds out all {len(present)} training segments: "
            "leave at least one to train on"
        )
    outside = np.isin(segments, held_out)
    return np.flatnonzero(~outside), np.flatnonzero(outside), held_out


FEWEST_CLIPS = 12
"""Fewer clips than these are not enough to train on some and choose by the others."""
HELD_OUT_PART = 6
"""One in so many of the given minutes' clips, the last ones, chooses the checkpoint."""


def first_minutes(segments: np.ndarray, minutes: float, clip_s: float, subject: int) -> np.ndarray:
    """Return the clips of the first minutes of a subject's training films.

    The rule: segments in the order of their numbers, each from its beginning, as many clips as
    the minutes hold; so whole segments come first, and of the last one the beginning. Every
    repetition of these clips counts; the minutes are of film, not of scanning.

    Parameters
    ----------
    segments : numpy.ndarray
        int (clips,), the film segment of every training clip, in the order of the film.
    minutes : float
        Of film; 0 takes all.
    clip_s : float
        Length of a clip, in s.
    subject : int
        For messages.

    Returns
    -------
    numpy.ndarray
        int64 (n,), clip numbers in that order.

    Raises
    ------
    UserError
        If there are not as many minutes, or too few clips in them.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroclips_cli.training.split import first_minutes
    >>> first_minutes(np.repeat([2, 1], 10), 0.5, 2.0, subject=4).tolist()
    [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 0, 1, 2, 3, 4]
    """
    order = np.argsort(segments, kind="stable")
    there = len(segments) * clip_s / 60
    wanted = len(segments) if not minutes else int(minutes * 60 / clip_s + 1e-9)
    if wanted > len(segments):
        raise UserError(
            f"--minutes {minutes:g} is more than there is: the training films of subject {subject} "
            f"are {there:g} minutes long; ask for at most these, or leave --minutes out for all"
        )
    if wanted < FEWEST_CLIPS:
        raise UserError(
            f"--minutes {minutes:g} are {wanted} clips of subject {subject}, and at least "
            f"{FEWEST_CLIPS} are needed ({FEWEST_CLIPS * clip_s / 60:g} minutes): ask for more"
        )
    return order[:wanted]


def split_minutes(clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hold out the last sixth of some minutes' clips; nothing beyond the minutes is looked at.

    Parameters
    ----------
    clips : numpy.ndarray
        int (n,), see :func:`first_minutes`.

    Returns
    -------
    train, validation : numpy.ndarray
        int64 clip numbers.
    """
    held = max(len(clips) // HELD_OUT_PART, 2)
    return clips[:-held], clips[-held:]
