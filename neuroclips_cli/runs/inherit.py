"""What a later command takes over from the run folder, so that no flag has to be given twice."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neuroclips_cli.errors import UserError
from neuroclips_cli.runs import manifest, pipeline
from neuroclips_cli.runs.stage import run_folder, stage_folder
from neuroclips_cli.settings.load import Settings, keys, load_settings, replace_settings


def place_of(folder: Path) -> dict[str, Any]:
    """Return work folder and subject of a folder such as ``runs/sub-01``, as settings."""
    found = re.fullmatch(r"sub-0*([1-9]\d*)", folder.resolve().name)
    if not folder.is_dir() or found is None:
        raise UserError(
            f"{folder} is not a folder of a subject's results (sub- and a number): correct the "
            "path, or make it with `neuroclips preprocess`"
        )
    return {"run.workdir": str(folder.parent), "run.subject": int(found[1])}


def settings_for(
    stage: str,
    flags: Mapping[str, Any] | None = None,
    *,
    upstream: Sequence[str] = (),
    folder: Path | str = ".",
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Put the settings of a stage together, with what its run folder already settled.

    Profile and variant come from the run folder unless the user chose them. So does every setting
    that decided an upstream result: ``reconstruct`` after ``train-pr --epochs 3`` needs no flag.
    What the user chose stands; :func:`artifacts.require_stage` then says if it contradicts.

    Parameters
    ----------
    stage
        The command, or an empty word for commands that only look.
    flags
        Dotted keys from the command line.
    upstream
        Stages whose results this one uses, in working order.

    Raises
    ------
    UserError
        For a profile chosen by the user that contradicts an upstream result.
    """
    settings = load_settings(flags, folder=folder, environ=environ)
    spec = pipeline.spec_of(stage)
    if settings.run.subjects and spec is not None and spec.owner == "decoder":
        # What several subjects' scans were made with is read from the first one's.
        flags = {**(flags or {}), "run.subject": min(settings.run.subjects)}
        settings = load_settings(flags, folder=folder, environ=environ)
    run = run_folder(settings)
    records = {n: r for n in upstream if (r := manifest.read(stage_folder(settings, n)))}
    own = manifest.read(stage_folder(settings, stage)) if stage else None
    first = next(iter(records.values()), own)
    if first is None:
        return settings
    made_with = first["settings"]["run"]
    inherited = {}
    if made_with["profile"] != settings.run.profile:
        if settings.chosen_by_user("run.profile"):
            if not records:
                return settings
            stage_ = next(iter(records))
            raise UserError(_contradiction(settings, run, made_with["profile"], stage_))
        inherited["run.profile"] = made_with["profile"]
    latest = next(reversed(records.values()), first)
    variant = latest["settings"]["run"].get("variant", settings.run.variant)
    if variant != settings.run.variant and not settings.chosen_by_user("run.variant"):
        inherited["run.variant"] = variant
    if inherited:
        flags = {**(flags or {}), **inherited}
        settings = load_settings(flags, folder=folder, environ=environ)
        settings = replace_settings(settings, inherited, origin=f"run folder ({first['stage']})")
    for name, record in records.items():
        settings = take_over(settings, name, record)
    return settings


def _contradiction(settings: Settings, run: Path, made_with: str, stage: str) -> str:
    """Say in one sentence that the chosen profile is not the run folder's."""
    origin = settings.origins["run.profile"]
    return (
        f"{run} was made with profile {made_with} ({stage}), but {origin} asks for "
        f"{settings.run.profile}: leave the profile out, choose another --workdir, or begin anew "
        f"with `neuroclips preprocess --profile {settings.run.profile}`"
    )


def take_over(settings: Settings, stage: str, record: Mapping[str, Any]) -> Settings:
    """Take the settings that decided a stage's result from its manifest, with their origin.

    What the user chose stands, and what an earlier stage of the run folder gave.
    """
    taken = {
        f"{section}.{name}": value
        for section, table in record["determined_by"]["sections"].items()
        for name, value in table.items()
    }
    if record["settings"]["run"]["dataset"]:
        taken["run.dataset"] = record["settings"]["run"]["dataset"]
    free = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in taken.items()
        if key in keys()
        and not settings.chosen_by_user(key)
        and not settings.origins[key].startswith("run folder")
    }
    changed = {key: value for key, value in free.items() if settings.value(key) != value}
    return replace_settings(settings, changed, origin=f"run folder ({stage})")
