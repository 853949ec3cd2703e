"""What a user names as new scans: which files make up each run, its confounds, and its TR."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from neuroclips_cli.data.bids import Inherited, parse_name, repetition_time
from neuroclips_cli.data.gifti_runs import both_hemispheres
from neuroclips_cli.data.readers.bids_runs import OUTPUT, tables_of_confounds
from neuroclips_cli.data.run_table import RunRow, named_files
from neuroclips_cli.data.runs import Run
from neuroclips_cli.data.slice_timing import AT_ONCE, FirstVolume, first_volume
from neuroclips_cli.data.time_step import (
    TOLERANCE_S,
    TimeStep,
    disagreements,
    first_volume_beside,
    sidecar_step,
    sidecars,
    time_step,
)
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.placeholders import require_content

REMOVED = Path("none")
"""Stands for a table of confounds where they were regressed out already."""
STATED = "--tr"
DESCRIPTION = "dataset_description.json"


def scan_row(named: Path) -> RunRow:
    """Return a run that a user names, as a row of the run table without a film.

    Parameters
    ----------
    named : pathlib.Path
        A file, as the run table names it: ``file#key`` for a data set inside an HDF5 file,
        ``left,right`` for hemispheres, of which one alone is enough.

    Raises
    ------
    UserError
        If a file is not there or was not fetched, or a hemisphere lacks the other one.
    """
    files, key = named_files(Path(), str(named))
    for path in files:
        require_content(path)
        if not path.is_file():
            raise UserError(f"the scans {path} do not exist or are not a file: correct the path")
    if len(files) == 1 and files[0].name.lower().endswith((".gii", ".gii.gz")):
        files = both_hemispheres(files[0])
        require_content(files[1])
    return RunRow("", "", files, key, Path(), 0.0, 0.0, None, None, "test", 1)


def scan_rows(named: Sequence[Path], strategy: str, tables: Sequence[Path] = ()) -> list[RunRow]:
    """Return the runs that a user names, each with its table of confounds.

    Parameters
    ----------
    named : sequence of pathlib.Path
        As of :func:`scan_row`; ``.npy`` of standardized scans too. Both hemispheres of a run are
        one run.
    strategy : str
        How confounds were regressed out of the training runs; empty: not at all.
    tables : sequence of pathlib.Path
        Tables of confounds in the order of the runs, or `REMOVED` alone; by default those that lie
        beside the runs under the names that fMRIPrep gives them.

    Raises
    ------
    UserError
        If a file is not there, or the tables are not those that the runs need.
    """
    every = (scan_row(path) for path in named)
    rows = list({row.run: row for row in every}.values())
    if tables and not strategy:
        raise UserError(
            f"{tables[0]} is not needed: confounds were not regressed out of the training runs "
            "(data.confounds is empty); leave --confounds-file out"
        )
    if not strategy or tuple(tables) == (REMOVED,):
        return rows
    runs = [row for row in rows if not is_array(row)]
    if tables and len(tables) != len(runs):
        raise UserError(
            f"there are {len(tables)} tables of confounds for {len(runs)} runs: give one "
            "--confounds-file for each run, in the same order"
        )
    for path in tables:
        require_content(path)
        if not path.is_file():
            raise UserError(f"the table of confounds {path} does not exist: correct the path")
    given = iter(tables)
    return [
        row
        if is_array(row)
        else replace(row, confounds=next(given, None) or _beside(row, strategy))
        for row in rows
    ]


def is_array(row: RunRow) -> bool:
    """Tell whether scans are standardized already."""
    return row.files[0].suffix.lower() == ".npy"


def require_cleaned(strategy: str, *, removed: bool) -> None:
    """Refuse volumes that arrive one by one with confounds that the training runs had not.

    Parameters
    ----------
    strategy : str
        How confounds were regressed out of the training runs; empty: not at all.
    removed : bool
        The user says that the volumes come without them.

    Raises
    ------
    UserError
        If they do not.
    """
    if strategy and not removed:
        raise UserError(
            f"the training runs' confounds were regressed out (data.confounds = {strategy}), which "
            "cannot be done before a run is finished: regress them out of every volume before it "
            f"is written and say so with --confounds-file {REMOVED}, or decode the finished run"
        )


def _beside(row: RunRow, strategy: str) -> Path:
    """Return the table of confounds beside a run, by the run's name."""
    first = row.files[0]
    name = parse_name(first.name)
    found: list[Path] = []
    if name is not None:
        parsed = ((parse_name(path.name), path) for path in sorted(first.parent.iterdir()))
        names = [(other, path) for other, path in parsed if other is not None]
        found = tables_of_confounds(names, name.without(*OUTPUT))
    if len(found) == 1:
        require_content(found[0])
        return found[0]
    there = f"several ({', '.join(path.name for path in found)})" if found else "none"
    raise UserError(
        f"{row.run_name} needs its table of confounds, which were regressed out of the training "
        f"runs (data.confounds = {strategy}), and there is {there} beside it: name it with "
        f"--confounds-file, or say --confounds-file {REMOVED} if they were regressed out already"
    )


def files_of(row: RunRow, number: int) -> dict[str, Path]:
    """Name everything that is read of a run, by its number from 1."""
    name = f"scans_{number}"
    named = {name: row.files[0]}
    named |= {f"{name}_file{place}": path for place, path in enumerate(row.files[1:], start=2)}
    if row.confounds is not None:
        named[f"{name}_confounds"] = row.confounds
    if not is_array(row):
        beside = enumerate(sidecars(row.files[0]))
        named |= {f"{name}_sidecar{place or ''}": path for place, path in beside}
    return named


def step_of(
    row: RunRow, run: Run, trained_s: Sequence[float], stated_s: float | None
) -> tuple[TimeStep, list[str]]:
    """Decide how far apart the volumes of a new run are.

    Parameters
    ----------
    row : RunRow
        What the user named.
    run : Run
        The same, opened.
    trained_s : sequence of float
        Times between volumes of the training runs, in s.
    stated_s : float or None
        What the user states with ``--tr``, which is believed.

    Returns
    -------
    TimeStep, list of str
        What is taken, and warnings.

    Raises
    ------
    UserError
        If nothing states it and the training runs had several, or it is none of theirs and the
        user did not state it.
    """
    first, name = row.files[0], row.run_name
    row = replace(row, tr_s=_inherited_step(first), tr_source="sidecar")
    if row.tr_s is None and run.step_s is None and sidecar_step(first) is None:
        step_s = unstated_step(trained_s, stated_s, name)
        if stated_s is not None:
            return TimeStep(step_s, STATED, {}), []
        warning = f"{name} states no time between volumes: {step_s:g} s was taken, as of training"
        return TimeStep(step_s, "training runs", {}), [warning]
    found = time_step(row, run.step_s, getattr(run, "step_source", "header"), None)
    said = f"{name} has a volume every {found.seconds:g} s by its {found.source}"
    if stated_s is not None:
        differs = abs(found.seconds - stated_s) > TOLERANCE_S
        warning = f"{said}; {stated_s:g} s was taken, as you stated"
        return TimeStep(stated_s, STATED, {}), [warning] if differs else []
    nearest_s = min(trained_s, key=lambda step_s: abs(step_s - found.seconds))
    if abs(found.seconds - nearest_s) > TOLERANCE_S:
        raise UserError(
            f"{said}, and not every {nearest_s:g} s as the training runs: say which is true, with "
            f"--tr {found.seconds:g} or --tr {nearest_s:g}"
        )
    return replace(found, seconds=nearest_s), disagreements([(name, found)])


def unstated_step(trained_s: Sequence[float], stated_s: float | None, name: str = "") -> float:
    """Return the time between volumes, in s, of a run whose files do not tell it.

    Parameters
    ----------
    trained_s, stated_s
        As of :func:`step_of`.
    name : str
        The run, for the message.

    Raises
    ------
    UserError
        If the user did not state it and the training runs had several.
    """
    if stated_s is not None:
        return stated_s
    if len(trained_s) > 1:
        steps = ", ".join(f"{step_s:g}" for step_s in trained_s)
        raise UserError(
            f"nothing says how far apart the volumes{f' of {name}' if name else ''} are, and those "
            f"of the training runs were {steps} s apart: give the TR in s with --tr"
        )
    return trained_s[0]


def first_of(row: RunRow, tr_s: float, trained_s: Sequence[float]) -> tuple[FirstVolume, list[str]]:
    """Decide when the first volume of a new run was measured.

    Parameters
    ----------
    row : RunRow
        What the user named.
    tr_s : float
        Time between volumes in s.
    trained_s : sequence of float
        The same of the training runs, in s after the scans began.

    Returns
    -------
    FirstVolume, list of str
        By the run's sidecars; where none speaks of it, that of the training runs if they agree,
        since the run is to be preprocessed as they were. And warnings.
    """
    path = row.files[0]
    inherited = _inherited(path)
    if inherited is None:
        found = first_volume_beside(path, tr_s)
    else:
        found = first_volume([partial(inherited.value, path)], tr_s)
    if found.source != AT_ONCE or len(set(trained_s)) != 1 or trained_s[0] == found.seconds:
        return found, []
    warning = (
        f"no sidecar of {row.run_name} says when its first volume was measured: "
        f"{trained_s[0]:g} s after the scan began was taken, as of training"
    )
    return FirstVolume(trained_s[0], "training runs"), [warning]


def _inherited(path: Path) -> Inherited | None:
    """Return the sidecars of a run's BIDS tree; None where it lies in none."""
    folder = Path(os.path.abspath(path)).parent
    tree = next((f for f in (folder, *folder.parents) if (f / DESCRIPTION).is_file()), None)
    return None if tree is None or parse_name(path.name) is None else Inherited(tree)


def _inherited_step(path: Path) -> float | None:
    """Return the TR that sidecars state, also higher up in a run's BIDS tree, in s."""
    inherited = _inherited(path)
    found = None if inherited is None else repetition_time(inherited, path)
    return None if found is None else found[0]
