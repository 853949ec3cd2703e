"""Seconds between volumes: what run table, sidecars, settings and headers say, and which wins.

Headers are often wrong: preprocessing tools have written 1 s or 0 s where the sidecar has the true
step. Where the sources disagree, the first of :data:`SOURCES` is taken, with a warning.

Runs without ``scan_start_s`` follow cc2017's convention of one volume per clip. They have no
sidecars: a step that the user states is taken, with a warning; a contradiction to the profile's own
value is refused, since a wrong step would move every response by some seconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from neuroclips_cli.data.run_table import RunRow
from neuroclips_cli.data.slice_timing import FirstVolume, first_volume
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.text import read_text
from neuroclips_cli.settings.schema import DataSettings

TOLERANCE_S = 1e-3
"""Steps that differ by less are equal: headers store them in single precision."""
SOURCES = ("run table", "sidecar", "series step", "data.tr_s", "header")
"""Where the time between volumes may stand, in the order in which it is believed."""
LONGEST_S = 60.0
"""A longer time between volumes is one in milliseconds, or a mistake."""
_RUN_ENDINGS = (".dtseries.nii", ".ptseries.nii", ".func.gii", ".nii.gz", ".nii", ".h5", ".hdf5")
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
        Length of the unit in s; None for a unit that is not a time.
    """
    if seconds is None or not math.isfinite(step) or step <= 0:
        return None
    return step * seconds


@dataclass(frozen=True)
class TimeStep:
    """The time between two volumes that is taken of a run, and what else was said.

    Attributes
    ----------
    seconds : float
    source : str
        One of :data:`SOURCES`.
    others : dict
        What the other sources state, in s, where they disagree.
    """

    seconds: float
    source: str
    others: dict[str, float]


def time_step(row: RunRow, header_s: float | None, header: str, stated_s: float | None) -> TimeStep:
    """Decide how far apart the volumes of a run are.

    Parameters
    ----------
    row
        Its row of the run table.
    header_s
        What the file itself states; None if nothing.
    header
        What that counts as: ``series step`` (CIFTI) or ``header``.
    stated_s
        ``data.tr_s``, where the user set it.

    Raises
    ------
    UserError
        If nothing states it, or a sidecar states no time.
    """
    said = {"sidecar": sidecar_step(row.files[0]), header: header_s, "data.tr_s": stated_s}
    if row.tr_s is not None:
        said[row.tr_source] = row.tr_s
    known = {name: said[name] for name in SOURCES if said.get(name) is not None}
    if not known:
        raise UserError(
            f"nothing says how far apart the volumes of {row.run_name} are (no sidecar with "
            "RepetitionTime, nothing in the header): give the TR in s with --tr, or as tr_s in a "
            "run table"
        )
    source = next(iter(known))
    seconds = float(known[source] or 0.0)
    others = {
        name: float(value)
        for name, value in known.items()
        if value is not None and abs(value - seconds) > TOLERANCE_S
    }
    return TimeStep(seconds, source, others)


def sidecar_step(path: Path) -> float | None:
    """Return what the JSON file beside a run states as ``RepetitionTime``, in s; None if nothing.

    For ``X_bold.dtseries.nii`` both ``X_bold.dtseries.json`` and ``X_bold.json`` are looked at.

    Raises
    ------
    UserError
        If a sidecar is not valid JSON, or its time none between two volumes.
    """
    for sidecar in sidecars(path):
        value = _json(sidecar).get("RepetitionTime")
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            value = math.nan
        if not 0 < value <= LONGEST_S:
            raise UserError(
                f"{sidecar} states the RepetitionTime {value:g}, which is not a time in seconds "
                "between two volumes: correct it"
            )
        return float(value)
    return None


def first_volume_of(row: RunRow, tr_s: float) -> FirstVolume:
    """Return when a run's first volume was measured: by its row, else by the sidecars beside it.

    Raises
    ------
    UserError
        If a sidecar is not valid JSON, or states no time.
    """
    if row.first_volume_s is not None:
        return FirstVolume(row.first_volume_s, row.first_volume_source)
    return first_volume_beside(row.files[0], tr_s)


def first_volume_beside(path: Path, tr_s: float) -> FirstVolume:
    """Return when a run's first volume was measured, by the sidecars beside its file.

    Raises
    ------
    UserError
        As :func:`first_volume_of`.
    """

    def lookup(values: dict[str, Any], sidecar: Path, key: str) -> tuple[Any, Path] | None:
        return (values[key], sidecar) if key in values else None

    found = [partial(lookup, _json(sidecar), sidecar) for sidecar in sidecars(path)]
    return first_volume(found, tr_s)


def sidecars(path: Path) -> list[Path]:
    """Return the JSON files beside a run that describe it, the most particular one first."""
    name = path.name
    ending = next((e for e in _RUN_ENDINGS if name.lower().endswith(e)), path.suffix)
    stem = name[: len(name) - len(ending)]
    names = dict.fromkeys((f"{stem}{Path(ending).with_suffix('')}", stem))
    found = (path.with_name(f"{candidate}.json") for candidate in names)
    return [sidecar for sidecar in found if sidecar.is_file()]


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable JSON file ({error}): correct it") from error
    return content if isinstance(content, dict) else {}


def disagreements(steps: Sequence[tuple[str, TimeStep]]) -> list[str]:
    """Return one sentence for every pair of sources that disagree.

    Parameters
    ----------
    steps
        (run's name, its time step).
    """
    found: dict[tuple[str, str], list[tuple[str, TimeStep]]] = {}
    for name, step in steps:
        for other in step.others:
            found.setdefault((step.source, other), []).append((name, step))
    said = []
    for (source, other), runs in found.items():
        name, step = runs[0]
        more = f" (and {len(runs) - 1} more runs)" if len(runs) > 1 else ""
        said.append(
            f"{name}{more}: its {_called(source)} states {step.seconds:g} s between volumes, its "
            f"{_called(other)} {step.others[other]:g} s; the {_called(source)} was believed"
        )
    return said


def _called(source: str) -> str:
    return "setting data.tr_s" if source == "data.tr_s" else source


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
        f"{data.clip_s:g} s whatever their headers say, else write in a run table (--runs) when "
        "each film began"
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
