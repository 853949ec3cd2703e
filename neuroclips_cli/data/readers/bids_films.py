"""Which film a run shows, and when: from its events, or by the name of its task."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from neuroclips_cli.data.video_checks import SUFFIXES
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.csv import read_table
from neuroclips_cli.io.folders import walk
from neuroclips_cli.io.placeholders import require_content

_NOT_THERE = ("", "n/a")
_FILM = "stim_file"
ODDBALL = re.compile(r"odd[-_ ]?ball", re.IGNORECASE)
_OFFSET = "film_start_s"


@dataclass(frozen=True)
class Shown:
    """One stretch of a film in a run; see :class:`neuroclips_cli.data.run_table.RunRow`."""

    film: Path
    film_start_s: float
    scan_start_s: float
    duration_s: float | None


class Films:
    """Films below some folders, found by the paths that events name or by the name of a task.

    Parameters
    ----------
    folders
        Where to look, the most likely first; those that do not exist are left out.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders: list[Path] = []
        self._all: dict[str, Path] = {}
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for folder in folders:
            if not folder.is_dir() or any(folder.samefile(known) for known in self.folders):
                continue
            self.folders.append(folder)
            tree = walk(folder)
            for path in (*tree.files, *tree.dead_links):
                if path.suffix.lower() in (*SUFFIXES, ".gif") and str(path) not in self._all:
                    self._all[str(path)] = path
                    self._by_name[path.name.lower()].append(path)

    def named(self, text: str, where: str) -> Path:
        """Return the film that events name, by its path below a folder or by its name alone.

        Parameters
        ----------
        text
            As in the column ``stim_file``: relative to ``stimuli/``.
        where
            File and line, for the message.

        Raises
        ------
        UserError
            If it is not there, or several films have its name.
        """
        relative = PurePosixPath(text.replace("\\", "/"))
        if ".." in relative.parts:
            raise UserError(f"{where} names the film {text}, outside stimuli/: correct it")
        for folder in self.folders:
            for path in (folder / relative, folder.parent / relative):
                if path.is_file() or path.is_symlink():
                    return path
        alike = self._by_name.get(relative.name.lower(), [])
        if len(alike) == 1:
            return alike[0]
        if alike:
            raise UserError(
                f"{where} names the film {text}, and {len(alike)} films have that name "
                f"({', '.join(map(str, alike[:3]))}): put it where {_FILM} says"
            )
        raise UserError(
            f"{where} names the film {text}, which does not exist: put it in "
            f"{self.folders[0] if self.folders else 'stimuli/ of the raw data set'}, or name the "
            "films' folder with data.films"
        )

    def of_task(self, task: str) -> Path | None:
        """Return the film called like a task: ``s01e02a.mkv``, or ``friends_s01e02a.mkv``.

        Raises
        ------
        UserError
            If several films are.
        """
        label = task.lower()
        found: dict[bool, list[Path]] = defaultdict(list)
        for name, paths in self._by_name.items():
            stem = name.rpartition(".")[0]
            if stem == label or stem.endswith((f"_{label}", f"-{label}")):
                found[stem == label] += paths
        for exact in (True, False):
            if len(found[exact]) > 1:
                raise UserError(
                    f"several films are named after task-{task}: "
                    f"{', '.join(map(str, found[exact][:3]))}; keep one of them"
                )
            if found[exact]:
                return found[exact][0]
        return None

    def examples(self) -> str:
        """Name some films, for a message."""
        if not self._all:
            where = " or ".join(map(str, self.folders)) or "stimuli/"
            return f"no film is in {where}"
        names = [path.name for path in self._all.values()]
        return f"films found: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"


def shown_by_events(events: Path, films: Films) -> list[Shown] | None:
    """Return the films that an ``events.tsv`` names, in the order in which they were shown.

    Rows without a film (``n/a``) are fixations or questions, and are passed over, as are rows
    whose ``trial_type`` is an oddball. A film
    that began before the first volume (a negative onset) is taken from there on. The column
    ``film_start_s``, where there is one, says at which moment of the film a row begins.

    Returns
    -------
    list of Shown, or None if the table has no column ``stim_file`` or no film in it

    Raises
    ------
    UserError
        If the table cannot be read, or a film of it is not there.
    """
    shown = []
    for number, row in _rows(events):
        text = row.get(_FILM, "").strip()
        if text in _NOT_THERE or ODDBALL.search(row.get("trial_type", "")):
            continue
        where = f"{events}, line {number}"
        onset = _seconds(where, row, "onset", needed=True)
        duration = _seconds(where, row, "duration", needed=False)
        start = _seconds(where, row, _OFFSET, needed=False) or 0.0
        if onset is None or start < 0 or (duration is not None and duration <= 0):
            raise UserError(
                f"{where} has duration {duration:g} or {_OFFSET} {start:g}: write seconds above 0"
            )
        film = films.named(text, where)
        late = max(0.0, -onset)
        left = None if duration is None else duration - late
        if left is None or left > 0:
            shown.append(Shown(film, start + late, max(0.0, onset), left))
    return sorted(shown, key=lambda one: one.scan_start_s) or None


def only_event(events: Path) -> tuple[float, float | None] | None:
    """Return onset and duration of the only event of a run that names no film.

    Returns
    -------
    (float, float or None), or None if there are no events

    Raises
    ------
    UserError
        If there are several: which of them is the film is not guessed.
    """
    rows = list(_rows(events))
    if not rows:
        return None
    if len(rows) > 1:
        raise UserError(
            f"{events} has {len(rows)} events and no film among them: add a column {_FILM} with "
            "the film of every event that is one (n/a elsewhere), or list the runs in a table and "
            "give it with --runs"
        )
    number, row = rows[0]
    onset = _seconds(f"{events}, line {number}", row, "onset", needed=True) or 0.0
    duration = _seconds(f"{events}, line {number}", row, "duration", needed=False)
    if onset < 0:
        raise UserError(
            f"{events}, line {number} begins before the first volume: add a column {_FILM}"
        )
    return onset, duration or None


def _rows(path: Path) -> Sequence[tuple[int, Mapping[str, str]]]:
    require_content(path)
    columns, rows = read_table(path, "\t")
    for name in ("onset", "duration"):
        if name not in columns:
            raise UserError(f"{path} lacks the column {name!r}: add it, separated by tabs")
    for number, row in rows:
        if None in row or None in row.values():
            raise UserError(
                f"{path}, line {number} has other columns than the header line: correct it"
            )
    return rows


def _seconds(where: str, row: Mapping[str, str], name: str, *, needed: bool) -> float | None:
    text = row.get(name, "").strip()
    if text in _NOT_THERE and not needed:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where} has {name} {text!r}: write a number of seconds")
    return value
