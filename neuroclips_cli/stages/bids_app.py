"""The BIDS-App form: the stages for each participant of a BIDS data set, results in BIDS names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuroclips_cli import console
from neuroclips_cli.data.run_table import subject_number
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.text import read_text
from neuroclips_cli.reporting.bids_outputs import Entities, describe, export_subject, write_group
from neuroclips_cli.runs import pipeline
from neuroclips_cli.settings.load import Settings, replace_settings
from neuroclips_cli.stages._launch import run_stage

STAGES = (*pipeline.upstream("evaluate"), "evaluate", "report")
"""What the level ``participant`` does, in order."""
_FILTERS = {
    "task": "data.task",
    "session": "data.session",
    "space": "data.space",
}
"""Entities of ``bold`` in a filter file, and the settings that they are."""
_PARTICIPANT = re.compile(r"sub-([A-Za-z0-9]+)")


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes
    ----------
    bids, out, work : Path
        The raw data set, the derivative that is written, and the run folders.
    labels : tuple of str
        Participants, without or with ``sub-``; empty: all.
    stages : tuple of str
        Stages that are run, of :data:`STAGES`.
    stop : bool
        Stop with the first participant that fails.
    """

    bids: Path
    out: Path
    work: Path
    labels: tuple[str, ...]
    stages: tuple[str, ...] = STAGES
    stop: bool = False


def filter_settings(path: Path) -> dict[str, str]:
    """Read a BIDS filter file as settings: ``{"bold": {"task": "film", "session": ["01"]}}``.

    Raises
    ------
    UserError
        If it is not such a file, or filters by something that has no setting.
    """
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is not a JSON file ({error}): correct --bids-filter-file"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise UserError(
            f"{path} is not a filter file: write "
            '{"bold": {"task": "film", "session": ["01", "02"]}}'
        )
    settings = {}
    for entity, value in content.get("bold", {}).items():
        if entity in ("datatype", "suffix"):
            continue
        if entity not in _FILTERS:
            raise UserError(
                f"{path} filters bold by {entity!r}, which neuroclips-bids cannot: it can by "
                f"{', '.join(_FILTERS)}; list the runs in a run table and give it with --runs"
            )
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(one, str | int) for one in values):
            raise UserError(f"{path} filters {entity!r} by {value!r}: write a label or a list")
        settings[_FILTERS[entity]] = ",".join(map(str, values))
    return settings


def participants(bids: Path, labels: Sequence[str]) -> list[str]:
    """Return the labels of the participants to do, without ``sub-``.

    Raises
    ------
    UserError
        If there is no such folder, or it lacks a participant.
    """
    if not bids.is_dir():
        raise UserError(f"no folder of a BIDS data set at {bids}: correct BIDS_DIR")
    there = sorted(
        match[1]
        for path in bids.iterdir()
        if path.is_dir() and (match := _PARTICIPANT.fullmatch(path.name))
    )
    if not there:
        raise UserError(f"{bids} holds no folder such as sub-01: give a BIDS data set")
    wanted = [label.removeprefix("sub-") for label in labels] or there
    for label in wanted:
        if label not in there:
            raise UserError(
                f"{bids} holds no sub-{label} (participants: {', '.join(there[:10])}): correct "
                "--participant-label"
            )
    return wanted


def run_participants(settings: Settings, request: Request) -> list[str]:
    """Run the stages for every participant, and write the derivative.

    Returns the labels of those that failed, whose reason was printed; with ``request.stop`` the
    first failure is an error.
    """
    labels = participants(request.bids, request.labels)
    describe(request.out, [request.bids])
    failed = []
    for place, label in enumerate(labels, start=1):
        console.info(f"[{place}/{len(labels)}] sub-{label}")
        try:
            _participant(settings, request, label)
        except UserError as problem:
            if request.stop:
                raise
            console.error(f"sub-{label}: {problem}")
            failed.append(label)
    return failed


def _participant(settings: Settings, request: Request, label: str) -> None:
    number = subject_number(label)
    own = replace_settings(settings, {"run.subject": number, "run.workdir": str(request.work)})
    folder = request.work / f"sub-{number:02d}"
    try:
        for stage in request.stages:
            run_stage(own, stage)
    finally:
        # also after a stage that failed: what the earlier ones made is of use
        if folder.is_dir():
            written = export_subject(folder, request.out, Entities(label, _space(folder)))
            console.info(f"{len(written)} files of sub-{label} in {request.out}")


def _space(folder: Path) -> str:
    """Return the entities of the runs' space, from the first run of the run table."""
    manifest = folder / "preprocess" / "manifest.json"
    if not manifest.is_file():
        return ""
    try:
        inputs: Mapping[str, Any] = json.loads(read_text(manifest)).get("inputs", {})
    except ValueError:
        return ""
    for text in map(str, (*inputs, *inputs.values())):
        match = re.search(r"space-[A-Za-z0-9]+(?:_res-[A-Za-z0-9]+)?(?:_den-[A-Za-z0-9]+)?", text)
        if match:
            return match[0]
    return ""


def run_group(out: Path) -> Path:
    """Write the table of all participants' scores.

    Raises
    ------
    UserError
        If no participant was evaluated.
    """
    path = write_group(out)
    if path is None:
        raise UserError(
            f"{out} holds no scores of participants: run the level participant first, without "
            "--skip-evaluation"
        )
    console.info(f"scores of all participants in {path}")
    return path
