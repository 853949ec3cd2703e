"""Whether a backbone's folder is complete, without loading it."""

from __future__ import annotations

import json
from pathlib import Path

from neuroclips_cli.backbones.catalog import FILES, NEEDED, wanted
from neuroclips_cli.backbones.hub_cache import cached_snapshot
from neuroclips_cli.backbones.references import locate
from neuroclips_cli.errors import UserError


def find(name: str, reference: str) -> tuple[Path | None, str]:
    """Look for a backbone on this machine: its folder, and what it lacks (empty if complete)."""
    try:
        folder = folder_of(*locate(reference))
    except UserError:
        folder = None
    return folder, problem_of(name, folder) if folder else "missing"


def folder_of(source: str, subfolder: str) -> Path | None:
    """Return where a reference's files lie on this machine, if anywhere.

    Parameters
    ----------
    source, subfolder : str
        From ``references.locate``: a folder or a hub id, and the folder inside it.
    """
    folder = Path(source)
    if not folder.is_dir():
        snapshot = cached_snapshot(source)
        if snapshot is None:
            return None
        folder = snapshot
    inside = folder / subfolder
    return inside if inside.is_dir() else None


def problem_of(name: str, folder: Path) -> str:
    """Say what a backbone's folder lacks; empty if it is complete.

    Parameters
    ----------
    name : str
        A key of ``needs.FILES``.
    folder : Path
        Where its files lie.
    """
    files = [file.name for file in folder.iterdir() if file.is_file()]
    needed = NEEDED.get(name)
    if needed and needed not in files:
        return f"lacks {needed}"
    if not any("." not in stem for stem in FILES[name]):
        return ""
    chosen = wanted(name, files)
    weights = [file for file in chosen if file.endswith(".safetensors")]
    for index in (file for file in chosen if file.endswith(".index.json")):
        weights += json.loads((folder / index).read_text("utf-8"))["weight_map"].values()
    if not weights:
        stem = next(stem for stem in FILES[name] if "." not in stem)
        return f"lacks {stem}.safetensors"
    for file in dict.fromkeys(weights):
        if not (folder / file).is_file():
            return f"lacks {file}"
        if not is_whole(folder / file):
            return f"{file} is truncated"
    return ""


def size_of(name: str, folder: Path) -> int:
    """Return the bytes of the files that a backbone is loaded from."""
    files = [file.name for file in folder.iterdir() if file.is_file()]
    return sum((folder / file).stat().st_size for file in wanted(name, files))


def is_whole(path: Path) -> bool:
    """Tell whether a safetensors file is as long as its own header says."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            return True
    except SafetensorError:
        return False
