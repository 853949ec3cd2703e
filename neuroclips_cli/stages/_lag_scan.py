"""The lag scan of ``preprocess``: on a few training films and voxels, so that it always runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.clip_features import clip_features
from neuroclips_cli.data.responses import BLOCK
from neuroclips_cli.data.viewings import Viewing
from neuroclips_cli.settings.schema import DataSettings
from neuroclips_cli.signal.lag import LONGEST_S, LagRun, LagScan, scan_delays
from neuroclips_cli.signal.reproducibility import Selection

MOST_FILMS = 8
MOST_CLIPS = 400
MOST_VOXELS = 500


@dataclass(frozen=True)
class SeenFilm:
    """A training film, one run in which it was seen, and its clips.

    Attributes
    ----------
    viewing : Viewing
    frames : numpy.ndarray
        uint8 (clips, frames, h, w, 3); may be memory-mapped.
    """

    viewing: Viewing
    frames: NDArray[np.uint8]


def scan_lag(films: Sequence[SeenFilm], selection: Selection, data: DataSettings) -> LagScan | None:
    """Decode simple features of training clips at every delay.

    Parameters
    ----------
    films : sequence of SeenFilm
        Training films; the first ones with the first one's time between volumes are read, 8 at most
        and 400 clips at most.
    selection : Selection
        500 selected voxels are read: those with the clearest answer, or evenly spaced ones where
        none was tested.
    data : DataSettings
        ``clip_s``, ``delay_s`` and ``detrend_order``.

    Returns
    -------
    LagScan or None
        None where fewer than two films are long enough.
    """
    tr_s = films[0].viewing.tr_s
    alike = [film for film in films if abs(film.viewing.tr_s - tr_s) < 1e-6][:MOST_FILMS]
    if len(alike) < 2:
        return None
    chosen = _clearest(selection)
    runs, series = [], {}
    for film in alike:
        run = film.viewing.row.run, film.viewing.row.confounds
        if run not in series:  # trials share theirs
            series[run] = _series(film.viewing, chosen, data)
        early = max(0, math.ceil(-film.viewing.start_s / data.clip_s))  # before the first volume
        features = clip_features(film.frames[early : early + MOST_CLIPS // len(alike)])
        start_s = film.viewing.start_s + early * data.clip_s
        runs.append(LagRun(series[run], start_s, features))
    longest_s = max(LONGEST_S, data.delay_s)
    order = data.detrend_order
    try:
        return scan_delays(runs, clip_s=data.clip_s, tr_s=tr_s, order=order, longest_s=longest_s)
    except ValueError:
        return None


def facts(scan: LagScan) -> dict[str, Any]:
    """Return the curve for the manifest."""
    return {
        "delays_s": list(scan.delays_s),
        "correlation": [round(value, 5) for value in scan.correlation],
        "best_s": round(scan.best_s, 3),
        "error": round(scan.error, 5),
    }


def warning(scan: LagScan | None, data: DataSettings, tr_s: float) -> str:
    """Return a sentence where another delay decodes clearly better; else an empty one."""
    if scan is None or not scan.is_far_off(data.delay_s, tr_s):
        return ""
    return (
        f"responses tell most of the clips {scan.best_s:.1f} s after them (mean correlation "
        f"{max(scan.correlation):.2f}), not at the delay of {data.delay_s:g} s "
        f"({scan.at(data.delay_s):.2f}): check scan_start_s and data.tr_s, or set data.delay_s"
    )


def _clearest(selection: Selection) -> NDArray[np.bool_]:
    """Return which of the selected voxels are read, bool (voxels,)."""
    columns = np.flatnonzero(selection.selected)
    if selection.t.any():
        kept = columns[np.argsort(-selection.t[columns], kind="stable")[:MOST_VOXELS]]
    else:
        spread = np.linspace(0, len(columns) - 1, min(len(columns), MOST_VOXELS))
        kept = columns[np.unique(spread.round().astype(int))]
    chosen = np.zeros(len(selection.selected), bool)
    chosen[kept] = True
    return chosen


def _series(
    viewing: Viewing, chosen: NDArray[np.bool_], data: DataSettings
) -> NDArray[np.floating]:
    """Read some voxels of a run, without confounds."""
    clean = viewing.cleaner(data)
    parts = []
    for columns, series in viewing.run.blocks(BLOCK, chosen):
        if chosen[columns].any():
            part = series[:, chosen[columns]]
            parts.append(part if clean is None else clean(part))
    return np.concatenate(parts, axis=1)
