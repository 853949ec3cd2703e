"""Find the picture that a caption file means, where several folders hold files of that name."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from neuroclips_cli.errors import UserError
from neuroclips_cli.io.folders import Tree
from neuroclips_cli.io.placeholders import what_to_fetch

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_NO_NAMES = frozenset(("caption", "captions", "annotation", "annotations"))
"""Words of a caption file's name that name no folder of pictures."""


@dataclass(frozen=True)
class Pictures:
    """All pictures below a folder, by the name of their files.

    Attributes
    ----------
    root : Path
    by_name : dict
        File name, as `_plain` writes it -> files.
    dead_links : dict
        The same of links to nothing.
    """

    root: Path
    by_name: dict[str, list[Path]]
    dead_links: dict[str, list[Path]]

    @classmethod
    def of(cls, tree: Tree) -> Pictures:
        """Take the pictures out of a tree."""
        return cls(tree.root, _by_name(tree.files), _by_name(tree.dead_links))

    def find(self, name: str, file: Path) -> Path:
        """Return the picture that a caption file calls ``name``.

        Of several files called alike the one is meant that has the folders which the name itself
        states; else the one in a folder that the caption file is named after (``captions_val``
        and ``val``); else the one that lies with the caption file.

        Parameters
        ----------
        name
            As the caption file states it, with or without folders.
        file
            The caption file.

        Raises
        ------
        UserError
            If there is none, it was not fetched, or several could be meant.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts
        known = self.by_name.get(_plain(parts[-1]), []) if parts else []
        exact = [path for path in known if path.name == parts[-1]]
        found = _distinct(exact or known)
        for narrower in (self._as_stated, self._named_after, self._beside):
            if len(found) > 1:
                found = narrower(found, parts, file) or found
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(
                f"{file} names the image {name}, and two files have that name, {found[0]} and "
                f"{found[1]}: state the folder in file_name, or name the captions after it"
            )
        for link in self.dead_links.get(_plain(parts[-1]), []) if parts else []:
            raise UserError(f"{file} names the image {name}: {what_to_fetch(link)}")
        raise UserError(f"{file} names the image {name}, which {self.root} lacks: fetch it")

    def _as_stated(self, found: list[Path], parts: tuple[str, ...], _: Path) -> list[Path]:
        """Keep the files whose folders end as the name says."""
        return [path for path in found if len(parts) > 1 and path.parts[-len(parts) :] == parts]

    def _named_after(self, found: list[Path], _: tuple[str, ...], file: Path) -> list[Path]:
        """Keep the files in folders whose name is a word of the caption file's name."""
        words = {_plain(word) for word in re.split(r"[\W_]+", file.stem)} - _NO_NAMES
        for alike in (_plain, _without_year):
            kept = [
                path
                for path in found
                if {alike(part) for part in path.relative_to(self.root).parts[:-1]}
                & {alike(word) for word in words} - {""}
            ]
            if kept:
                return kept
        return []

    def _beside(self, found: list[Path], _: tuple[str, ...], file: Path) -> list[Path]:
        """Keep the files below the caption file's own folder, unless that is the root."""
        if file.parent == self.root:
            return []
        return [path for path in found if file.parent in path.parents]


def _by_name(paths: tuple[Path, ...]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(_plain(path.name), []).append(path)
    return found


def _distinct(paths: list[Path]) -> list[Path]:
    """Leave out paths that lead to a file which another one leads to already."""
    if len(paths) < 2:
        return paths
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(path.resolve(), path)
    return list(found.values())


def _plain(text: str) -> str:
    """Write a name as systems compare it: accents in one way, small letters."""
    return unicodedata.normalize("NFC", text).casefold()


def _without_year(text: str) -> str:
    """Return ``val`` for ``val2017``."""
    return _plain(text).rstrip("0123456789")
