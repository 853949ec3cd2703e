"""Files that appear whole or not at all, checksums, and what to say when the disk is full."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neuroclips_cli.errors import UserError
from neuroclips_cli.io.folders import walk
from neuroclips_cli.io.text import read_text

MEBIBYTE = 2**20
SMALL_FILE, SMALL_FOLDER = 8 * MEBIBYTE, 64 * MEBIBYTE
"""Up to these sizes an input is hashed by content, above by names, sizes and times."""

_FULL = re.compile(
    r"no space left on device|\(os error 28\)|\d+ requested and \d+ written"
    r"|unexpected pos \d+ vs \d+|file write failed",
    re.IGNORECASE,
)
"""What the system, safetensors, numpy and torch say when a disk is full."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a hidden path beside ``path`` with the same suffix; move it there when all went well.

    What was written is flushed to the disk before it gets its name, so a crash leaves the old
    file or the new one, never a half. A folder written under the temporary path replaces the
    folder of that name.

    Raises
    ------
    UserError
        If the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        with explain_full_disk(path):
            yield temporary
            _flush(temporary)
            if temporary.is_dir() and path.is_dir():
                shutil.rmtree(path)
            os.replace(temporary, path)
            flush_folder(path.parent)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left of `atomic_path` below a folder that nobody writes now."""
    for leftover in folder.rglob(".*.tmp*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, content: Any) -> Path:
    """Write JSON atomically; NaN and infinity are refused, since JSON has neither."""
    return write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file; a broken one is a :class:`UserError` that names it."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:  # not text, not JSON, or nested without end
        raise UserError(f"{path} is not valid JSON ({error}); remove it and run again") from error


def sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(MEBIBYTE):
            digest.update(block)
    return digest.hexdigest()


def text_digest(content: Any) -> str:
    """Return the SHA-256 of anything JSON can hold, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


HUB_SNAPSHOT = re.compile(r"/models--([^/]+)/snapshots/([0-9a-f]{40})((?:/[^/]+)*)$")
"""A folder in the Hugging Face Hub's cache: repository, commit, subfolder."""


def tree_digest(path: Path) -> str:
    """Return a digest of a file or folder that changes when the content does.

    A file up to 8 MiB or a folder up to 64 MiB is hashed by content (``content:...``). A larger
    one by every file's relative path, size and modification time (``listing:...``), because
    reading a whole scan archive before each command would cost minutes. Hidden files do not
    count. A folder of the hub's cache counts by repository and commit (``hub:owner/name@...``),
    which say what is in it.
    """
    in_cache = HUB_SNAPSHOT.search(path.absolute().as_posix())
    if in_cache and path.is_dir():
        return f"hub:{in_cache[1].replace('--', '/')}@{in_cache[2]}{in_cache[3]}"
    files = [path] if path.is_file() else visible_files(path)
    limit = SMALL_FILE if path.is_file() else SMALL_FOLDER
    facts = [(file.relative_to(path).as_posix(), file.stat()) for file in files]
    if sum(stat.st_size for _, stat in facts) <= limit:
        content = [(name, sha256(file)) for (name, _), file in zip(facts, files, strict=True)]
        return "content:" + text_digest(content)
    return "listing:" + text_digest([(n, s.st_size, s.st_mtime_ns) for n, s in facts])


def visible_files(folder: Path) -> list[Path]:
    """Return all files below a folder in order of name, behind links too, without hidden ones."""
    return list(walk(folder).files)


def reserve(path: Path, size: int) -> None:
    """Make a file of ``size`` bytes whose blocks exist.

    Writing into a sparse memory map on a full disk kills the process without a message; with
    the blocks reserved first, a full disk is an ordinary error.
    """
    if size > shutil.disk_usage(path.parent).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    with open(path, "wb") as stream:
        if hasattr(os, "posix_fallocate") and size:
            os.posix_fallocate(stream.fileno(), 0, size)
            return
        zeros = bytes(MEBIBYTE)
        for start in range(0, size, MEBIBYTE):
            stream.write(zeros[: min(MEBIBYTE, size - start)])


def require_space(folder: Path, size: int) -> None:
    """Refuse to begin what needs ``size`` bytes below a folder where fewer are free.

    Raises
    ------
    UserError
        The message names the disk, what is needed and what is missing.
    """
    place = _mount_point(folder)
    free = shutil.disk_usage(place).free
    if size > free:
        raise UserError(
            f"no space left on the disk {place} for {folder}: it needs about {human_size(size)} "
            f"and {human_size(free)} are free; free at least {human_size(size - free)} and run the "
            "same command again"
        )


def is_full_disk(error: BaseException) -> bool:
    """Tell whether an error, or one that caused it, means that the disk is full.

    Libraries written in other languages raise their own classes, so the text counts too.
    """
    current: BaseException | None = error
    while current is not None:
        if getattr(current, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if _FULL.search(str(current)):
            return True
        current = current.__cause__ or current.__context__
    return False


@contextmanager
def explain_full_disk(path: Path, size: int = 0) -> Iterator[None]:
    """Turn a full disk into one sentence; ``size`` is what the file needs, in bytes, if known."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_full_disk(error):
            raise UserError(full_disk_message(path, size)) from error
        raise


def full_disk_message(path: Path | str | None, size: int = 0) -> str:
    """Say which disk is full, for which file, and what to do."""
    if path is None:
        return "no space left on the disk: free some and run the same command again"
    path = Path(path)
    disk = _mount_point(path)
    missing = max(size - shutil.disk_usage(disk).free, 0)
    amount = f"at least {human_size(missing)}" if missing else "some"
    return (
        f"no space left on the disk {disk} while writing {path}: free {amount} and run the same "
        "command again, it continues where it stopped"
    )


def human_size(size: float) -> str:
    """Return a size in bytes as people write it, for example ``"1.5 GB"``."""
    from rich.filesize import decimal

    return decimal(int(size))


def _mount_point(path: Path) -> Path:
    """Return the mount point of the disk that holds (or would hold) a path."""
    path = path.absolute()
    while not path.exists() or not path.is_mount():
        path = path.parent
    return path


def _flush(path: Path) -> None:
    """Force a file, or a folder with everything below it, to the disk."""
    for entry in [*path.rglob("*"), path]:
        if entry.is_dir():
            flush_folder(entry)
        elif entry.is_file():
            with open(entry, "rb") as stream:
                os.fsync(stream.fileno())


_NO_FOLDER_FLUSH = frozenset((errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF))
"""How network file systems say that a folder cannot be flushed; their files still are."""


def flush_folder(folder: Path) -> None:
    """Force a folder's entries to the disk, where the system knows how to (not on Windows)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_FLUSH:
            raise
    finally:
        os.close(handle)
