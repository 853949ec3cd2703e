"""Stretches of film: the rows of a run table that show the same one are its repetitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuroclips_cli.data.layout import film_name, film_number
from neuroclips_cli.data.run_table import RunRow

ARRAYS = ("train", "test")
"""Arrays of clips; those of split ``val`` are in ``train``."""


@dataclass(frozen=True)
class Stretch:
    """A stretch of film and the runs in which it was seen: a segment of the clip table.

    Attributes
    ----------
    split : str
        ``train``, ``val`` or ``test``.
    number : int
        The clip table's ``segment``, unique within its array: the film's number where films are
        called as cc2017's are, else from 1 on.
    name : str
        Unique: the film's, and where it begins if the film has several stretches.
    film : Path
    film_start_s : float
        Where in the film it begins, in s.
    rows : mapping
        Repetition (from 1) -> row of the run table.
    """

    split: str
    number: int
    name: str
    film: Path
    film_start_s: float
    rows: Mapping[int, RunRow]

    @property
    def array(self) -> str:
        """Return whose array its clips are in: ``train`` or ``test``."""
        return _array(self.split)

    @property
    def runs(self) -> dict[int, str]:
        """Return its runs as messages call them, by repetition."""
        return {repetition: row.run_name for repetition, row in self.rows.items()}


def stretches_of(rows: Sequence[RunRow]) -> tuple[Stretch, ...]:
    """Group the rows of one subject, in the order in which the stretches first appear.

    Stretches of one film with the same beginning are one, with as many clips as all repetitions
    have.
    """
    groups: dict[tuple[str, Path, float], dict[int, RunRow]] = {}
    for row in rows:
        key = (row.split, row.film, row.film_start_s)
        groups.setdefault(key, {})[row.repetition] = row
    names = _names([(film, start_s) for _, film, start_s in groups])
    numbers = {array: _numbers(array, list(groups)) for array in ARRAYS}
    found = []
    for key, name in zip(groups, names, strict=True):
        split, film, start_s = key
        number = numbers[_array(split)][key]
        found.append(Stretch(split, number, name, film, start_s, dict(sorted(groups[key].items()))))
    return tuple(found)


def _array(split: str) -> str:
    return "test" if split == "test" else "train"


def _numbers(
    array: str, keys: Sequence[tuple[str, Path, float]]
) -> dict[tuple[str, Path, float], int]:
    """Return the numbers of an array's stretches: by their films' names, or one after the other."""
    own = [key for key in keys if _array(key[0]) == array]
    known = [number for key in own if (number := film_number(key[1])) is not None]
    alike = len(set(known)) == len(own)
    return dict(zip(own, known if alike else range(1, len(own) + 1), strict=True))


def _names(stretches: Sequence[tuple[Path, float]]) -> list[str]:
    """Name stretches after their films, as briefly as tells them apart."""
    shared = Counter(film_name(film) for film, _ in stretches)
    names: list[str] = []
    for film, start_s in stretches:
        base = film_name(film)
        name = base if shared[base] == 1 else f"{base}@{start_s:g}s"
        while name in names:
            name = f"{name}'"
        names.append(name)
    return names


def repetitions_of(stretches: Iterable[Stretch]) -> int:
    """Return the largest number of a repetition."""
    return max((max(stretch.rows) for stretch in stretches), default=0)


def missing_runs(stretches: Sequence[Stretch]) -> list[str]:
    """Name the repetitions that some stretches of an array have and others lack."""
    most = repetitions_of(stretches)
    return [
        f"{stretch.name}_{repetition}"
        for stretch in stretches
        for repetition in range(1, most + 1)
        if repetition not in stretch.rows
    ]
