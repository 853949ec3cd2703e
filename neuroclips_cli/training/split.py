"""Which training segments are held out for choosing the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuroclips_cli.errors import UserError


def split_segments(
    segments: np.ndarray, wanted: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Hold whole segments out: neighbouring clips share scenes, so random clips would leak.

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
