"""Seconds between volumes: what the settings say against what the runs' headers say.

Headers are often wrong: preprocessing tools have written 1 s or 0 s where the sidecar has the true
step. A step that the user states is taken, with a warning; a contradiction to the profile's own
value is refused, since a wrong step would move every response by some seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.schema import DataSettings

TOLERANCE_S = 1e-3
"""Steps that differ by less are equal: headers store them in single precision."""
UNIT_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}


@dataclass(frozen=True)
class HeaderStep:
    """What one run's header says, beside what is known of its film.

    Attributes
    ----------
    path : Path
    step_s : float or None
        Seconds between volumes; None where the header states none.
    volumes : int
    film : str
        Name of its film's file.
    film_s : float
        How long the film lasts, s.
    """

    path: Path
    step_s: float | None
    volumes: int
    film: str
    film_s: float


def stated_step(step: float, seconds: float | None) -> float | None:
    """Return a header's step in seconds, None where it states none.

    Parameters
    ----------
    step
        As stored.
    seconds
        Length of the unit in s; None for a unit that is no time.
    """
    if seconds is None or not math.isfinite(step) or step <= 0:
        return None
    return step * seconds


def require_one_volume_per_clip(data: DataSettings) -> None:
    """Refuse another time between volumes than the length of a clip.

    Raises
    ------
    UserError
        The message says by how many volumes the responses would be moved.
    """
    if abs(data.tr_s - data.clip_s) <= 1e-6:
        return
    raise UserError(
        f"data.tr_s = {data.tr_s:g} s differs from data.clip_s = {data.clip_s:g} s, while one "
        f"volume stands for one clip: the delay of {data.delay_s:g} s would be "
        f"{_delay(data, data.tr_s)} instead of {_delay(data, data.clip_s)}, and responses would go "
        f"with other clips; leave data.tr_s at {data.clip_s:g} if the runs have a volume every "
        f"{data.clip_s:g} s whatever their headers say, else bring them to that step first"
    )


def compare_steps(headers: Iterable[HeaderStep], data: DataSettings, *, stated: bool) -> list[str]:
    """Compare the runs' headers with ``data.tr_s``.

    Parameters
    ----------
    headers
        One per run.
    data
        ``tr_s`` is what is taken.
    stated
        The user set ``data.tr_s``; otherwise it is the profile's.

    Returns
    -------
    list of str
        Warnings, each with what was taken: one for headers without a step, one for those with
        another step than the user stated.

    Raises
    ------
    UserError
        If a header contradicts a value that the user did not set. The message says what follows
        from either step, in seconds.
    """
    every = list(headers)
    silent = [header for header in every if header.step_s is None]
    other = [
        header
        for header in every
        if header.step_s is not None and abs(header.step_s - data.tr_s) > TOLERANCE_S
    ]
    if other and not stated:
        raise UserError(_contradiction(other[0], data, len(other)))
    warnings = []
    if silent:
        warnings.append(
            f"{_runs(silent)} no time between volumes in the header; data.tr_s = {data.tr_s:g} s "
            "was taken"
        )
    if other:
        warnings.append(
            f"{_runs(other)} {other[0].step_s:g} s between volumes in the header; data.tr_s = "
            f"{data.tr_s:g} s was taken, as you stated: the delay of {data.delay_s:g} s is "
            f"{_delay(data, data.tr_s)}"
        )
    return warnings


def _runs(headers: list[HeaderStep]) -> str:
    if len(headers) == 1:
        return f"{headers[0].path} has"
    return f"{headers[0].path} and {len(headers) - 1} more runs have"


def _delay(data: DataSettings, step_s: float) -> str:
    return f"{data.delay_s / step_s:g} volumes"


def _contradiction(header: HeaderStep, data: DataSettings, runs: int) -> str:
    """Say what follows from the header's step and from the settings'."""
    step = header.step_s or math.nan
    lasts = header.volumes * step
    film = f"the film {header.film} lasts {header.film_s:g} s"
    verdict = (
        f"cannot be the run of a film of {header.film_s:g} s ({header.film})"
        if lasts < header.film_s - data.clip_s
        else f"last {lasts:g} s, and {film}"
    )
    return (
        f"{header.path} has a volume every {step:g} s by its header, not every {data.tr_s:g} s "
        f"(data.tr_s{'' if runs == 1 else f'; {runs} runs'}): {header.volumes} volumes of "
        f"{step:g} s {verdict}, with a delay of {data.delay_s:g} s as {_delay(data, step)}; at "
        f"{data.tr_s:g} s they last {header.volumes * data.tr_s:g} s, with the delay as "
        f"{_delay(data, data.tr_s)}; if the header is wrong, state the true step with "
        f"--set data.tr_s={data.tr_s:g}, else replace the file"
    )
