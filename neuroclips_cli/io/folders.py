"""Walk folders as users have them: links followed, loops noticed, systems' leftovers left out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from neuroclips_cli.errors import UserError

LEFTOVERS = frozenset(
    ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found")
    + ("thumbs.db", "desktop.ini")
)
"""What macOS, Windows, Synology and ext4 leave beside people's files, in small letters."""
MOST_FOLDERS = 200_000
"""More is not a data set, or links that lead in circles through many folders."""


def natural_order(text: str) -> tuple[tuple[int, int | str], ...]:
    """Return a key that sorts numbers within a text by their size.

    Examples
    --------
    >>> sorted(["clip-10", "clip-9"], key=natural_order)
    ['clip-9', 'clip-10']
    """
    parts = re.split(r"(\d+)", text)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)


@dataclass(frozen=True, eq=False)
class Tree:
    """Everything below a folder, in order of the paths.

    Two trees are never equal, so that what was found in one can be kept under it.

    Attributes
    ----------
    root : Path
    files, folders : tuple of Path
        Paths below ``root``, as they are reached; links are followed.
    dead_links : tuple of Path
        Links to nothing: content that was moved, or that was never fetched.
    unreadable : tuple of Path
        Folders that the system does not let us list.
    """

    root: Path
    files: tuple[Path, ...]
    folders: tuple[Path, ...]
    dead_links: tuple[Path, ...]
    unreadable: tuple[Path, ...]


def is_leftover(name: str) -> bool:
    """Tell whether a file or folder is hidden (``._seg1.mp4``) or belongs to a system."""
    return name.startswith(".") or name.lower() in LEFTOVERS


def walk(root: Path) -> Tree:
    """List everything below a folder.

    A folder that is its own ancestor by way of a link is not entered again.

    Raises
    ------
    UserError
        If there are more than `MOST_FOLDERS` folders.
    """
    files: list[Path] = []
    folders: list[Path] = []
    dead: list[Path] = []
    unreadable: list[Path] = []
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(root, _identity(root))]
    while waiting:
        folder, ancestors = waiting.pop()
        try:
            entries = list(_entries(folder))
        except OSError:
            unreadable.append(folder)
            continue
        for entry in entries:
            path = folder / entry.name
            try:
                is_folder = entry.is_dir()
            except OSError:  # a link to itself
                dead.append(path)
                continue
            if is_folder:
                own = _identity(path)
                if not own <= ancestors:
                    folders.append(path)
                    waiting.append((path, ancestors | own))
            elif entry.is_file():
                files.append(path)
            elif entry.is_symlink() and not path.exists():
                dead.append(path)
        if len(folders) > MOST_FOLDERS:
            raise UserError(
                f"{root} holds more than {MOST_FOLDERS} folders, or links that lead in circles: "
                "give a folder that holds nothing but the data"
            )
    found = (files, folders, dead, unreadable)
    return Tree(root, *(tuple(sorted(paths, key=lambda path: path.parts)) for paths in found))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not is_leftover(entry.name))


def _identity(folder: Path) -> frozenset[tuple[int, int]]:
    """Return device and number of a folder, whatever path leads to it; empty if unknown."""
    try:
        status = folder.stat()
    except OSError:
        return frozenset()
    return frozenset({(status.st_dev, status.st_ino)})
