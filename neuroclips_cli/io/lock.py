"""One writer for each stage folder: a lock that names its holder and dies with it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from filelock import Timeout

from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic
from neuroclips_cli.io.file_lock import acquire

LOCK_TIMEOUT_S = 1.0
"""How long a writer tries to get the lock before it takes the holder for another writer."""


@contextmanager
def stage_lock(folder: Path, stage: str, written: Path | None = None) -> Iterator[None]:
    """Hold the lock of ``folder/stage``, or of ``written`` in that folder, while the block runs.

    The operating system frees the lock when its process ends, however it ends, so a killed
    run never blocks the next; see :mod:`io.file_lock` for systems that give no locks. Beside the
    lock lies a note of who holds it. Folders that were made for the lock alone are taken away
    again where the block is refused (:class:`UserError`).

    Raises
    ------
    UserError
        If another process holds it: the message names host, process and start.
    """
    lock, note = _paths(folder, stage)
    made = [place for place in lock.parents if not place.exists()]
    lock.parent.mkdir(parents=True, exist_ok=True)
    # Somebody who only asks who writes holds the lock for a moment too (see holder).
    try:
        guard = acquire(lock, LOCK_TIMEOUT_S)
    except Timeout:
        raise UserError(
            f"{written or folder / stage} is being written by {_describe(_read(note))}; "
            "wait for it to end, or stop it and run the same command again"
        ) from None
    try:
        holder = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "start": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        atomic.write_json(note, holder)
        yield
    except UserError:
        note.unlink(missing_ok=True)
        if made and not (folder / stage).exists():
            _remove_empty(lock, made)
        raise
    finally:
        note.unlink(missing_ok=True)
        guard.release()


def _remove_empty(lock: Path, made: Sequence[Path]) -> None:
    """Remove a lock file, and of the folders made for it, inner ones first, those left empty."""
    with suppress(OSError):
        lock.unlink(missing_ok=True)
        for place in made:
            place.rmdir()


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Let one process at a time make a file that several may want; the others wait for it."""
    lock = path.parent.parent / ".locks" / f"{path.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    guard = acquire(lock, -1)
    try:
        yield
    finally:
        guard.release()


def lock_holder(folder: Path, stage: str) -> str:
    """Return who writes ``folder/stage`` now, or nothing; a dead process's note does not count."""
    lock, note = _paths(folder, stage)
    if not lock.exists():
        return ""
    try:
        guard = acquire(lock, 0)
    except Timeout:
        return _describe(_read(note))
    except (OSError, UserError):
        return ""
    guard.release()
    return ""


def _paths(folder: Path, stage: str) -> tuple[Path, Path]:
    """Return the lock file and the note beside it; outside the stage, which may be cleared."""
    return folder / ".locks" / f"{stage}.lock", folder / ".locks" / f"{stage}.json"


def _read(note: Path) -> dict[str, Any]:
    """Read the note; it may be missing for a moment while the holder starts or ends."""
    try:
        content = json.loads(note.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _describe(note: dict[str, Any]) -> str:
    """Name the holder in words."""
    if not note:
        return "another process"
    return f"process {note.get('pid')} on {note.get('host')} since {note.get('start')}"
