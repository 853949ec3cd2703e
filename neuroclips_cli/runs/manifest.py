"""The record beside every result: what it was made from, by what, and whether it still holds."""

from __future__ import annotations

import json
import os
import platform
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from neuroclips_cli import __version__
from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic, checksums
from neuroclips_cli.settings.load import Settings, keys, sections

NAME = "manifest.json"
SCHEMA = 1
"""Raised when a new version of the tool makes earlier results unusable."""

_LIBRARIES = (
    "torch",
    "diffusers",
    "transformers",
    "open_clip_torch",
    "accelerate",
    "numpy",
    "scipy",
    "nibabel",
    "av",
    "decord",
    "pillow",
    "scikit-image",
    "safetensors",
)
_NOT_CONTENT = ("checkpoints/", "events.out.tfevents", "metrics.jsonl")


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@lru_cache(maxsize=1)
def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that shape a result, without importing them."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Found:
    """What a stage's folder holds, beside what is asked for.

    Attributes
    ----------
    record : dict
        The manifest of a stage that begins now.
    old : dict or None
        The manifest in the folder.
    changes, damage : list of str
        What decides the two differently; which files of the old one are not what was written.
    up_to_date : bool
        Whether the old one is what is asked for, finished and whole.
    """

    record: dict[str, Any]
    old: dict[str, Any] | None = None
    changes: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    up_to_date: bool = False

    @property
    def resumable(self) -> bool:
        """Whether the folder holds partial work of what is asked for."""
        return self.old is not None and self.old["state"] == "running" and not self.changes

    def resumed_record(self) -> dict[str, Any]:
        """Return the manifest of a stage that continues where the old one stopped."""
        kept = {key: (self.old or {})[key] for key in ("facts", "seconds", "start")}
        return {**self.record, **kept}


def find(
    folder: Path,
    settings: Settings,
    inputs: Mapping[str, Path | str],
    sections: Sequence[str],
    extra: Mapping[str, Any],
) -> Found:
    """Read a stage's folder, and compare it with what is asked for.

    Parameters
    ----------
    folder : pathlib.Path
        The stage's folder, which need not exist.
    settings : Settings
        All settings; they are recorded whole.
    inputs : mapping
        Name to file or folder.
    sections : sequence of str
        The setting sections that decide the result, beside the seed.
    extra : mapping
        Further things that decide the result; JSON values.

    Raises
    ------
    UserError
        If the manifest in the folder is not a manifest.
    """
    record = _new(folder, settings, inputs, sections, extra)
    old = read(folder)
    if old is None:
        return Found(record)
    done = old["state"] == "done"
    changes = differences(old, record)
    damage = checksums.altered(folder, old) if done else []
    whole = done and all((folder / name).is_file() for name in old["outputs"])
    return Found(record, old, changes, damage, up_to_date=whole and not changes and not damage)


def _new(
    folder: Path,
    settings: Settings,
    inputs: Mapping[str, Path | str],
    section_names: Sequence[str],
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the manifest of a stage that begins now; see :func:`find`."""
    return {
        "stage": folder.name,
        "state": "running",
        "tool": {"name": "neuroclips", "version": __version__},
        "libraries": library_versions(),
        "settings": {name: settings.section(name) for name in sections()},
        "seed": settings.run.seed,
        "determined_by": {
            "schema": SCHEMA,
            "seed": settings.run.seed,
            "sections": {name: settings.section(name) for name in section_names},
            "extra": json.loads(json.dumps(dict(extra))),
        },
        "inputs": record_inputs(folder, inputs, Path(settings.run.workdir)),
        "outputs": {},
        "start": now(),
        "end": None,
        "seconds": 0.0,
        "host": {
            "name": socket.gethostname(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "device": settings.run.device,
            "precision": settings.run.precision,
        },
        "facts": {},
    }


def read(folder: Path) -> dict[str, Any] | None:
    """Return the manifest in a folder, or ``None`` where there is none.

    Raises
    ------
    UserError
        If it is not valid JSON, or lacks what every manifest has.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    record = atomic.read_json(path)
    shape = {"state": str, "determined_by": dict, "inputs": dict, "outputs": dict, "facts": dict}
    shape |= {"settings": dict, "stage": str}
    if (
        not isinstance(record, dict)
        or any(not isinstance(record.get(key), kind) for key, kind in shape.items())
        or not all(map(_is_inside, [*record["outputs"], *record.get("marks", {})]))
    ):
        raise UserError(f"{path} is not a manifest of neuroclips: remove {folder} and run again")
    return record


def _is_inside(name: str) -> bool:
    """Tell whether the name of an output is one that leads to a file of the stage's folder."""
    parts = name.split("/")
    return "\0" not in name and all(p not in ("", "..") and len(p.encode()) < 256 for p in parts)


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the manifest of a folder atomically."""
    atomic.write_json(folder / NAME, {**content, "seal": checksums.seal(content)})


def finish(folder: Path, record: dict[str, Any]) -> None:
    """Record that a stage is done, with what it has written."""
    outputs = hash_outputs(folder)
    marks = checksums.marks(folder, outputs)
    record.update(outputs=outputs, marks=marks, state="done", end=now())
    write(folder, record)


def hash_outputs(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a stage folder except the manifest and hidden files."""
    return {
        file.relative_to(folder).as_posix(): atomic.sha256(file)
        for file in atomic.visible_files(folder)
        if file.relative_to(folder).as_posix() != NAME
    }


def input_digest(source: Path | str) -> str:
    """Return the digest of an input.

    A finished stage counts by the hashes of its outputs (without checkpoints and training
    logs, which hold times), another file or folder as :func:`disk.tree_digest` says, and a
    word that is not a path, such as a hub id, by itself.
    """
    path = Path(source)
    manifest = read(path) if path.is_dir() else None
    if manifest and "outputs" in manifest:
        content = {
            name: digest
            for name, digest in manifest["outputs"].items()
            if not any(part in name for part in _NOT_CONTENT)
        }
        return f"stage-{manifest['state']}:{atomic.text_digest(content)}"
    if path.exists():
        return atomic.tree_digest(path)
    return f"name:{source}"


def record_inputs(
    folder: Path, inputs: Mapping[str, Path | str], workdir: Path
) -> dict[str, dict[str, str]]:
    """Return path and digest of every input; paths inside the work folder are kept relative."""
    workdir = workdir.resolve()
    recorded = {}
    for name, source in inputs.items():
        path = Path(source).resolve()
        shown = str(source)
        if Path(source).exists():
            inside = path.is_relative_to(workdir)
            shown = (
                Path(os.path.relpath(path, folder.resolve())).as_posix() if inside else str(path)
            )
        recorded[name] = {"path": shown, "digest": input_digest(source)}
    return recorded


def differences(old: Mapping[str, Any], new_: Mapping[str, Any]) -> list[str]:
    """Say in words what decides two manifests' results differently; empty when nothing does."""
    before, after = old["determined_by"], new_["determined_by"]
    said = [f"the format of results changed ({before['schema']} -> {after['schema']})"]
    said = said if before["schema"] != after["schema"] else []
    said += _changed({"seed": before["seed"]}, {"seed": after["seed"]})
    old_flat, new_flat = _flat(before["sections"]), _flat(after["sections"])
    said += _changed(old_flat, new_flat)
    said += _changed(before["extra"], after["extra"])
    for name in sorted({*old["inputs"], *new_["inputs"]}):
        first, second = old["inputs"].get(name), new_["inputs"].get(name)
        if (first or {}).get("digest") != (second or {}).get("digest"):
            said.append(f"input {name} changed")
    return said


def stale_because(
    folder: Path,
    manifest: Mapping[str, Any],
    settings: Settings,
    digests: dict[Path, str] | None = None,
) -> list[str]:
    """Say why a finished result no longer holds; empty when it does.

    Checked are its outputs (present), its recorded inputs (unchanged; one that has gone is let
    be), the stages it came from (themselves not stale), and those settings that the user chose
    now: a value that merely comes from the profile never contradicts a finished result.
    ``digests`` remembers inputs that were digested before, where several stages are asked about.
    """
    digests = {} if digests is None else digests
    reasons = [f"{n} is missing" for n in manifest["outputs"] if not (folder / n).is_file()][:3]
    for name, recorded in manifest["inputs"].items():
        path = (folder / recorded["path"]).resolve()
        if not path.exists():
            continue
        if path not in digests:
            digests[path] = input_digest(path)
        if digests[path] != recorded["digest"]:
            reasons.append(f"input {name} changed")
        elif (upstream := read(path) if path.is_dir() else None) and "inputs" in upstream:
            reasons += [f"{name}: {r}" for r in stale_because(path, upstream, settings, digests)]
    for key, value in _flat(manifest["determined_by"]["sections"]).items():
        if key in keys() and settings.chosen_by_user(key):
            current = settings.value(key)
            current = list(current) if isinstance(current, tuple) else current
            if current != value:
                reasons.append(f"{key} was {value!r}, now {current!r}")
    return list(dict.fromkeys(reasons))


def damaged(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Re-hash the outputs of a stage and name those that are missing or altered."""
    wrong = []
    for name, digest in manifest["outputs"].items():
        if not (folder / name).is_file():
            wrong.append(f"{name} is missing")
        elif atomic.sha256(folder / name) != digest:
            wrong.append(f"{name} was altered")
    return wrong


def describe_workdir(workdir: Path) -> None:
    """Mark a work folder as a BIDS derivative; an existing description is left as it is."""
    path = workdir / "dataset_description.json"
    if path.exists():
        return
    atomic.write_json(
        path,
        {
            "Name": "neuroclips",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "neuroclips", "Version": __version__}],
        },
    )


def _flat(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return sections as one mapping of dotted keys."""
    return {f"{s}.{name}": value for s, table in tables.items() for name, value in table.items()}


def _changed(old: Mapping[str, Any], new_: Mapping[str, Any]) -> list[str]:
    """Name the keys whose values differ, with both values."""
    return [
        f"{key} was {old.get(key)!r}, now {new_.get(key)!r}"
        for key in dict.fromkeys([*old, *new_])
        if old.get(key) != new_.get(key)
    ]
