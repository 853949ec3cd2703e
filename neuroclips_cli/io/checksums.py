"""Cheap marks of results: what shows a cut, swapped or hand-edited file without reading it all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuroclips_cli.io import atomic

EDGE = 64 * 1024
"""Bytes at either end of a file that its mark covers; files up to twice that are covered whole."""


def mark(path: Path) -> str:
    """Return size and digest of a file's first and last 64 KiB, ``"<bytes>:<sha256>"``.

    The first bytes hold every format's header; together with the size a truncated or exchanged
    file always differs, and small files (tables, figures, weights of small models) in every byte.
    """
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        digest = hashlib.sha256(stream.read(EDGE))
        if size > EDGE:
            stream.seek(max(EDGE, size - EDGE))
            digest.update(stream.read(EDGE))
    return f"{size}:{digest.hexdigest()[:32]}"


def marks(folder: Path, names: Mapping[str, str]) -> dict[str, str]:
    """Return the marks of the named files of a folder."""
    return {name: mark(folder / name) for name in names}


def altered(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """Name the files of a finished stage whose marks differ, and say how; lost ones are left out.

    Manifests written before there were marks are taken as they are.
    """
    wrong = ["manifest.json was edited"] if not is_sealed(record) else []
    for name, before in record.get("marks", {}).items():
        if not (folder / name).is_file():
            continue
        now = mark(folder / name)
        if now != before:
            size, was = now.partition(":")[0], before.partition(":")[0]
            cut = f" ({size} bytes instead of {was})" if size != was else ""
            wrong.append(f"{name} was altered{cut}")
    return wrong


def seal(record: Mapping[str, Any]) -> str:
    """Return the digest of a manifest's own content, without the seal itself."""
    return atomic.text_digest({key: value for key, value in record.items() if key != "seal"})


def is_sealed(record: Mapping[str, Any]) -> bool:
    """Tell whether a manifest is as it was written; one without a seal counts as such."""
    return "seal" not in record or record["seal"] == seal(record)
