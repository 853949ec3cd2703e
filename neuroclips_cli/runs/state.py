"""What has become of a stage: finished, stale, interrupted; and what a stage needs of others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuroclips_cli.errors import UserError
from neuroclips_cli.io import checksums
from neuroclips_cli.io.lock import lock_holder
from neuroclips_cli.runs import manifest, pipeline
from neuroclips_cli.runs.locations import (
    decoder_name,
    named_folder,
    pool_name,
    pooled_subjects,
    stage_folder,
    subject_label,
)
from neuroclips_cli.settings.load import Settings


def command_for(stage: str, settings: Settings) -> str:
    """Return the command line that makes a stage, for messages."""
    spec = pipeline.spec_of(stage)
    if spec and spec.owner == "decoder" and (training := _training_words(stage, settings)):
        return " ".join(training)
    name = spec.name if spec else stage
    variant = stage.removeprefix(name)
    words = ["neuroclips", name]
    if name == "evaluate" and variant:
        run = "fuse" if variant == "-fuse" else f"reconstruct{variant}"
        words += ["--run", run]
    elif name == "reconstruct":
        plain, git, _ = variant.partition("-captioner-git")
        words += ["--without", plain.removeprefix("-without-")] if plain else []
        if git or settings.reconstruct.captioner != "blip2":
            words += ["--captioner", "git" if git else "blip2"]
    if "-control-" in stage:
        words = ["neuroclips", "controls", "--only", stage.partition("-control-")[2]]
    if pipeline.is_shared(stage):
        words += ["DIR"]
    else:
        words += ["--subject", str(settings.run.subject)]
        decoder = decoder_name(settings)
        words += ["--decoder", decoder] if decoder and name != "preprocess" else []
    if settings.run.workdir != "runs":
        words += ["--workdir", settings.run.workdir]
    return " ".join(words)


def _training_words(stage: str, settings: Settings) -> list[str]:
    """Return the command of a pool or an adaptation; nothing for a training on one subject."""
    record = manifest.read(stage_folder(settings, stage))
    made = record["determined_by"]["extra"] if record else {}
    decoder = decoder_name(settings)
    subjects = settings.run.subjects or made.get("subjects") or pooled_subjects(decoder)
    home = ["--workdir", settings.run.workdir] if settings.run.workdir != "runs" else []
    if subjects:
        named = ["--decoder", decoder] if decoder != pool_name(subjects) else []
        return ["neuroclips", stage, "--subjects", ",".join(map(str, subjects)), *named, *home]
    if record is None or "mode" not in made:
        return []
    words = ["neuroclips", "adapt", "--subject", str(record["settings"]["run"]["subject"])]
    if "parent" in record["inputs"]:
        parent = Path(record["inputs"]["parent"]["path"])
        words += ["--from", str(parent) if parent.suffix else parent.parent.name]
    words += ["--minutes", f"{made['minutes']:g}"] if made["minutes"] else []
    words += ["--mode", made["mode"], "--only", stage, "--decoder", decoder]
    return [*words, *home]


def stage_state(
    settings: Settings, stage: str, digests: dict[Path, str] | None = None
) -> tuple[str, list[str], dict[str, Any] | None]:
    """Return ``(state, reasons, manifest)`` of a stage.

    ``state`` is ``missing``, ``running`` (another process writes it; the reason names it),
    ``interrupted``, ``damaged`` (the reasons name files that are not what was written, as far as
    `io.checksums`'s cheap marks show), ``stale`` (the reasons say what changed) or ``done``.
    ``digests`` is shared by calls that ask about several stages, so that every input is read once.
    """
    folder = stage_folder(settings, stage)
    record = manifest.read(folder)
    if record is None:
        return "missing", [], None
    if record["state"] != "done":
        writer = lock_holder(folder.parent, stage)
        return ("running", [writer], record) if writer else ("interrupted", [], record)
    altered = checksums.altered(folder, record)
    if altered:
        return "damaged", altered, record
    reasons = manifest.stale_because(folder, record, settings, digests)
    return ("stale" if reasons else "done"), reasons, record


def require_stage(settings: Settings, stage: str, needed_by: str) -> Path:
    """Return the folder of a finished stage that another one needs.

    Raises
    ------
    UserError
        If it is missing, unfinished, damaged or stale; the message names the command to run first.
    """
    folder = named_folder(settings, stage)
    state, reasons, _ = stage_state(settings, stage)
    if state == "done":
        return folder
    label, command = subject_label(settings.run.subject), command_for(stage, settings)
    what = {
        "missing": f"which {folder} does not hold: run `{command}` first",
        "interrupted": f"which was interrupted: run `{command}`, it continues where it stopped",
        "running": f"which {''.join(reasons)} is writing now: wait for it to end",
        "damaged": f"which is damaged ({'; '.join(reasons[:3])}): run `{command}` again",
        "stale": f"which is stale ({'; '.join(reasons)}): run `{command}` again",
    }[state]
    raise UserError(f"{needed_by} needs {stage} of {label}, {what}")


def require_upstream(
    settings: Settings, stage: str, *, leave_out: Sequence[str] = ()
) -> dict[str, Path]:
    """Return name and folder of every stage that a stage needs, as the table of stages says.

    Raises
    ------
    UserError
        As :func:`require_stage`.
    """
    spec = pipeline.spec_of(stage)
    needs = spec.needs if spec else ()
    return {n: require_stage(settings, n, stage) for n in needs if n not in leave_out}
