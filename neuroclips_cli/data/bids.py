"""Names and sidecars of BIDS: entities in any order, metadata inherited from folders above."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from neuroclips_cli.errors import UserError
from neuroclips_cli.io.placeholders import require_content

_ENTITY = re.compile(r"([A-Za-z]+)-([A-Za-z0-9+]+)")
_LONGEST_TR_S = 60.0
"""No scanner needs a minute per volume; a sidecar that says more is in milliseconds."""


@dataclass(frozen=True)
class BidsName:
    """A file's name, such as ``sub-01_task-film_run-02_space-fsLR_den-91k_bold.dtseries.nii``.

    Attributes
    ----------
    entities : mapping of str to str
        Key -> value as written, in the order of the name.
    suffix : str
        ``bold``.
    extension : str
        ``.dtseries.nii``, from the first dot on.
    """

    entities: Mapping[str, str]
    suffix: str
    extension: str

    def get(self, key: str) -> str:
        """Return the value of an entity; empty if there is none."""
        return self.entities.get(key, "")

    def without(self, *keys: str) -> frozenset[tuple[str, str]]:
        """Return the entities but some, as pairs that are equal whatever their order.

        Numbers of runs and echoes are the same with and without leading zeros.
        """
        return frozenset(
            (key, _index(key, value)) for key, value in self.entities.items() if key not in keys
        )


def _index(key: str, value: str) -> str:
    return str(int(value)) if key in ("run", "echo") and value.isdecimal() else value


@lru_cache(maxsize=200_000)
def parse_name(name: str) -> BidsName | None:
    """Take a file's name apart; None where it is none of BIDS.

    Parameters
    ----------
    name
        Without its folder.

    Examples
    --------
    >>> name = parse_name("sub-01_hemi-L_run-02_space-fsaverage5_bold.func.gii")
    >>> name.entities["space"], name.suffix, name.extension
    ('fsaverage5', 'bold', '.func.gii')
    >>> sorted(name.without("hemi", "space"))
    [('run', '2'), ('sub', '01')]
    >>> parse_name("seg1_1_Atlas.dtseries.nii") is None
    True
    """
    stem, dot, extension = name.partition(".")
    *parts, suffix = stem.split("_")
    entities: dict[str, str] = {}
    for part in parts:
        match = _ENTITY.fullmatch(part)
        if not match or match[1] in entities:
            return None
        entities[match[1]] = match[2]
    if not suffix.isalnum() or not entities:
        return None
    return BidsName(entities, suffix, dot + extension)


class Inherited:
    """Files that apply to another one by BIDS' inheritance principle; each folder is listed once.

    Parameters
    ----------
    roots
        Data sets: folders above them are not looked at.
    """

    def __init__(self, *roots: Path) -> None:
        self._roots = {os.path.abspath(root) for root in roots}
        self._listed: dict[str, list[tuple[BidsName, frozenset[tuple[str, str]], Path]]] = {}
        self._read: dict[Path, Mapping[str, Any]] = {}

    def files(self, path: Path, suffix: str, extension: str) -> Iterator[Path]:
        """Yield the files that apply: the nearest folder first, in it the most entities first.

        Parameters
        ----------
        path
            The file that they are to apply to; it need not exist. All their entities belong to it.
        suffix, extension
            Theirs, such as ``events`` and ``.tsv``; the extension may have more in front of it.
        """
        name = parse_name(path.name)
        own = name.without() if name else frozenset()
        for folder in self._upwards(path):
            fitting = [
                (len(other.entities), there)
                for other, entities, there in self._names(folder)
                if other.suffix == suffix
                and other.extension.endswith(extension)
                and entities <= own
            ]
            yield from (there for _, there in sorted(fitting, key=lambda one: -one[0]))

    def value(self, path: Path, key: str) -> tuple[Any, Path] | None:
        """Return a value that a file's sidecars state, and the sidecar; None if none does.

        Parameters
        ----------
        path
            The file; it need not exist.
        key
            Such as ``RepetitionTime``.

        Raises
        ------
        UserError
            If a sidecar that applies was not fetched or is not valid JSON.
        """
        name = parse_name(path.name)
        for there in self.files(path, name.suffix if name else "", ".json"):
            values = self.values(there)
            if key in values:
                return values[key], there
        return None

    def values(self, path: Path) -> Mapping[str, Any]:
        """Return what a sidecar says; it is read once.

        Raises
        ------
        UserError
            As in :meth:`value`.
        """
        if path not in self._read:
            self._read[path] = _read_json(path)
        return self._read[path]

    def _upwards(self, path: Path) -> Iterator[str]:
        """Yield the file's folder and those above it, up to a root."""
        folder = os.path.abspath(path.parent)
        while True:
            yield folder
            above = os.path.dirname(folder)
            if folder in self._roots or above == folder:
                return
            folder = above

    def _names(self, folder: str) -> list[tuple[BidsName, frozenset[tuple[str, str]], Path]]:
        if folder not in self._listed:
            try:
                names = [name for name in os.listdir(folder) if name.endswith((".json", ".tsv"))]
            except OSError:
                names = []
            parsed = ((parse_name(name), Path(folder, name)) for name in sorted(names))
            self._listed[folder] = [
                (name, name.without(), path) for name, path in parsed if name is not None
            ]
        return self._listed[folder]


def _read_json(path: Path) -> Mapping[str, Any]:
    require_content(path)
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise UserError(f"the sidecar {path} is not valid JSON ({error}): replace it") from error
    return values if isinstance(values, dict) else {}


def repetition_time(inherited: Inherited, path: Path) -> tuple[float, Path] | None:
    """Return the time between two volumes by a file's sidecars, in s, and where it stands.

    Raises
    ------
    UserError
        If the sidecar says something that is not a time, or milliseconds.
    """
    found = inherited.value(path, "RepetitionTime")
    if found is None:
        return None
    value, where = found
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not 0 < number <= _LONGEST_TR_S:
        raise UserError(
            f"{where} has RepetitionTime {value!r}: BIDS wants seconds above 0; correct it"
        )
    return float(number), where
