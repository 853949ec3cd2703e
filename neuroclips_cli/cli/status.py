"""``neuroclips status``: what each subject's run folder holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from neuroclips_cli import console
from neuroclips_cli.cli.options import command
from neuroclips_cli.errors import UserError
from neuroclips_cli.runs import manifest, pipeline
from neuroclips_cli.runs.locations import decoder_name, pooled_subjects
from neuroclips_cli.runs.stage import (
    command_for,
    run_folder,
    stage_folder,
    stage_state,
    subject_label,
    workdir_folder,
)
from neuroclips_cli.settings.load import Settings, replace_settings

_TRAININGS = tuple(
    spec.name for spec in pipeline.PIPELINE if spec.owner == "decoder" and spec.folder
)
"""Stages whose results belong to a decoder, whoever it decodes."""


@command("status")
def status(
    settings: Settings,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash every output again and compare.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    run(settings, verify=verify, as_json=as_json)


@dataclass(frozen=True)
class StageStatus:
    """One line of the table; ``why`` says what changed, who writes, or what is damaged."""

    subject: str
    stage: str
    state: str
    why: str
    end: str
    seconds: float
    profile: str
    command: str


def run(settings: Settings, *, verify: bool = False, as_json: bool = False) -> list[StageStatus]:
    """Print and return what the run folders hold.

    All subjects of the work folder are shown, unless the user chose one or a decoder, whose
    trainings stand once and whose subjects are those it was trained on or decoded. ``verify``
    hashes every output of the finished stages again; damage is an error after the table.
    """
    chosen = decoder_name(settings)
    lines = [
        line
        for subject in _subjects(settings, chosen)
        for line in _subject(replace_settings(settings, {"run.subject": subject}), verify)
    ]
    if chosen:
        lines += _trainings(settings, chosen, verify)
    lines += [line for name in _decoders(settings) for line in _decoder(settings, name, verify)]
    shared = [
        name for name in pipeline.shared_stages() if manifest.read(workdir_folder(settings) / name)
    ]
    lines += [_stage(settings, name, verify, {}) for name in shared]
    if as_json:
        console.out(json.dumps([asdict(line) for line in lines], indent=2))
    else:
        _print(settings, lines)
    damaged = [line for line in lines if line.state == "damaged"]
    if damaged:
        raise UserError(
            f"{damaged[0].stage} of {damaged[0].subject} is damaged ({damaged[0].why}): "
            f"run `{damaged[0].command} --overwrite`"
        )
    return lines


def _subjects(settings: Settings, decoder: str) -> list[int]:
    """Return the chosen subject, or all that have a run folder (with the decoder), or the default.

    Those that the decoder was trained on are among them.
    """
    if settings.origins["run.subject"] in ("flag", "environment"):
        return [settings.run.subject]
    home = workdir_folder(settings) / decoder
    names = [p.name.removeprefix("sub-") for p in home.glob("sub-*")]
    found = {int(name) for name in names if name.isdecimal() and int(name) > 0}
    if decoder:
        found.update(settings.run.subjects or pooled_subjects(decoder))
    for stage in _TRAININGS if decoder else ():
        found.update(_trained_on(manifest.read(home / stage)))
    return sorted(found) or [settings.run.subject]


def _trained_on(record: dict[str, Any] | None) -> Sequence[int]:
    """Return the subjects of a training, from its record."""
    if record is None:
        return ()
    subjects: list[int] = record["determined_by"]["extra"].get("subjects", [])
    return subjects or [record["settings"]["run"]["subject"]]


def _subject(settings: Settings, verify: bool) -> list[StageStatus]:
    """Return the state of every stage of one subject, also of ablations and controls there are.

    Trainings are among them where the decoder is the subject's own.
    """
    there = sorted(p.parent.name for p in run_folder(settings).glob(f"*/{manifest.NAME}"))
    stages = pipeline.subject_stages()
    more = [name for name in there if name not in stages and not name.startswith(".")]
    shared = _TRAININGS if decoder_name(settings) else ()
    digests: dict[Path, str] = {}
    named = [name for name in (*stages, *more) if name not in shared]
    return [_stage(settings, name, verify, digests) for name in named]


def _decoders(settings: Settings) -> list[str]:
    """Return the decoders that are not a subject's own, unless one was chosen."""
    if decoder_name(settings):
        return []
    trained = [path.parts[-3] for path in workdir_folder(settings).glob(f"*/*/{manifest.NAME}")]
    return sorted({name for name in trained if not name.startswith(("sub-", "."))})


def _decoder(settings: Settings, name: str, verify: bool) -> list[StageStatus]:
    """Return the state of a decoder's trainings, and of its results on every subject."""
    home = workdir_folder(settings) / name
    trainings = _trainings(settings, name, verify)
    lines = [line for line in trainings if line.state != "missing"]
    digests: dict[Path, str] = {}
    for path in sorted(home.glob(f"sub-*/*/{manifest.NAME}")):
        subject = path.parts[-3].removeprefix("sub-")
        if subject.isdecimal() and not path.parts[-2].startswith("."):
            chosen = {"run.decoder": name, "run.subject": int(subject)}
            line = _stage(replace_settings(settings, chosen), path.parts[-2], verify, digests)
            lines.append(replace(line, subject=f"{name}/{path.parts[-3]}"))
    return lines


def _trainings(settings: Settings, name: str, verify: bool) -> list[StageStatus]:
    """Return the state of a decoder's trainings."""
    digests: dict[Path, str] = {}
    lines = []
    for stage in _TRAININGS:
        record = manifest.read(workdir_folder(settings) / name / stage)
        whose: dict[str, Any] = {"run.decoder": name}
        if record is not None:
            whose["run.subject"] = record["settings"]["run"]["subject"]
            pooled = record["determined_by"]["extra"].get("subjects", [])
            whose["run.subjects"] = tuple(pooled)
        own = replace_settings(settings, whose)
        lines.append(replace(_stage(own, stage, verify, digests), subject=name))
    return lines


def _stage(settings: Settings, stage: str, verify: bool, digests: dict[Path, str]) -> StageStatus:
    """Return the state of one stage."""
    state, reasons, record = stage_state(settings, stage, digests)
    if verify and record and record["state"] == "done":
        wrong = manifest.damaged(stage_folder(settings, stage), record)
        state, reasons = ("damaged", wrong) if wrong else (state, reasons)
    return StageStatus(
        subject="all" if pipeline.is_shared(stage) else subject_label(settings.run.subject),
        stage=stage,
        state=state,
        why="; ".join(reasons[:3]),
        end=(record or {}).get("end") or "",
        seconds=(record or {}).get("seconds") or 0.0,
        profile=record["settings"]["run"]["profile"] if record else "",
        command=command_for(stage, settings),
    )


def _print(settings: Settings, lines: list[StageStatus]) -> None:
    """Print the table."""
    rows = [
        (
            line.subject,
            line.stage,
            line.state,
            _local(line.end),
            console.duration(line.seconds) if line.seconds else "",
            line.profile,
            line.why,
        )
        for line in lines
    ]
    columns = ("subject", "stage", "state", "finished", "took", "profile", "why")
    console.table(f"Results in {settings.run.workdir}", columns, rows)


def _local(moment: str) -> str:
    """Return an ISO time in UTC as local date and time."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M") if moment else ""
