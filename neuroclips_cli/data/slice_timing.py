"""When a run's first volume counts as measured: slice timing correction moves it into the TR.

fMRIPrep brings all slices of a volume to one moment, the middle of its slices by default, and says
so in the sidecar: ``SliceTimingCorrected``, and from version 21 on ``StartTime``, the moment of the
first volume in s after the scan began. Events count from that beginning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuroclips_cli.errors import UserError

Lookup = Callable[[str], "tuple[Any, Path] | None"]
"""Key of a sidecar -> its value and the file; None where no sidecar has it."""
AT_ONCE = "no sidecar speaks of slice timing correction"


@dataclass(frozen=True)
class FirstVolume:
    """The moment of a run's first volume.

    Attributes
    ----------
    seconds : float
        After the scan began.
    source : str
        Where that stands.
    """

    seconds: float
    source: str


def first_volume(lookups: Sequence[Lookup], tr_s: float) -> FirstVolume:
    """Return when the first volume of a run was measured.

    ``StartTime``; else, where slices were corrected, the mean of their times (``SliceTiming``,
    usually in the raw sidecar; AFNI's and so older fMRIPreps' default), or half a TR where these
    are not known; else 0, as for series whose slices were left as they were measured.

    Parameters
    ----------
    lookups
        Sidecars of the run's copies, the nearest first; ``SliceTiming`` may be the raw run's.
    tr_s
        Time between two volumes in s.

    Raises
    ------
    UserError
        If a value is not a time in seconds.

    Examples
    --------
    >>> from pathlib import Path
    >>> from neuroclips_cli.data.slice_timing import first_volume
    >>> values = {"SliceTimingCorrected": True, "SliceTiming": [0.0, 0.5, 1.0]}
    >>> first_volume([lambda key: (values[key], Path("x.json")) if key in values else None], 1.5)
    FirstVolume(seconds=0.5, source='SliceTiming')
    """
    start = _found(lookups, "StartTime")
    if start is not None:
        return FirstVolume(_seconds(*start, "StartTime"), "StartTime")
    corrected = _found(lookups, "SliceTimingCorrected")
    if corrected is None or corrected[0] is not True:
        return FirstVolume(0.0, AT_ONCE if corrected is None else "SliceTimingCorrected")
    slices = _found(lookups, "SliceTiming")
    if slices is None:
        return FirstVolume(tr_s / 2, "half a TR, as SliceTimingCorrected is true")
    times = slices[0] if isinstance(slices[0], list) and slices[0] else [None]
    return FirstVolume(
        float(np.mean([_seconds(time, slices[1], "SliceTiming") for time in times])), "SliceTiming"
    )


def _found(lookups: Sequence[Lookup], key: str) -> tuple[Any, Path] | None:
    return next((found for lookup in lookups if (found := lookup(key)) is not None), None)


def _seconds(value: Any, where: Path, key: str) -> float:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not 0 <= number < math.inf:
        raise UserError(f"{where} has {key} {value!r}: BIDS wants seconds from 0; correct it")
    return float(number)
