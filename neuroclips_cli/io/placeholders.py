"""Files whose content was never fetched: dead links and pointers of data managers."""

from __future__ import annotations

import os
from pathlib import Path

from neuroclips_cli.errors import UserError

_LARGEST_POINTER = 32 * 1024
_ANNEX = "annex/objects/"
_LFS = b"version https://git-lfs.github.com/spec/"


def what_to_fetch(path: Path) -> str:
    """Say in one sentence why a file has no content and how to get it; empty if it has.

    Known are links to nothing, those of git-annex and DataLad among them, pointer files of
    git-annex (unlocked files) and of Git LFS.
    """
    if path.is_symlink() and not path.exists():
        target = os.readlink(path)
        if is_annexed(path):
            return f"{path} was not fetched: {_annex(path)}"
        return (
            f"{path} is a link to {target}, which is not there: fetch it, or put the file in its "
            "place"
        )
    head = _head(path)
    if head.startswith((b"/annex/objects/", b"annex/objects/")):
        return f"{path} was not fetched: {_annex(path)}"
    if head.startswith(_LFS):
        return f"{path} was not fetched: run `git lfs pull` in its repository"
    return ""


def is_annexed(path: Path) -> bool:
    """Tell whether a file is a link of git-annex or DataLad, with content or without."""
    return path.is_symlink() and _ANNEX in os.readlink(path).replace("\\", "/")


def require_content(path: Path) -> None:
    """Refuse a file whose content was not fetched.

    Raises
    ------
    UserError
        Names the file and the command that fetches it.
    """
    if sentence := what_to_fetch(path):
        raise UserError(sentence)


def _annex(path: Path) -> str:
    return f"run `datalad get {path.name}` (or `git annex get {path.name}`) in {path.parent}"


def _head(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST_POINTER:
            return b""
        with open(path, "rb") as stream:
            return stream.read(64)
    except OSError:
        return b""
