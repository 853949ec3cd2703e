"""The run table: which stretch of which film was seen when, in which run of which subject.

Every reader of a layout (:mod:`neuroclips_cli.data.readers`) ends in this table, and users may
write it themselves as ``runs.tsv``: tab-separated, ``n/a`` for what is not there, as in BIDS.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import sha256, write_text
from neuroclips_cli.io.csv import read_table, table_text
from neuroclips_cli.io.placeholders import require_content, what_to_fetch
from neuroclips_cli.settings.parse import nearest

SPLITS = ("train", "test", "val")
NOT_THERE = "n/a"
COLUMNS = (
    *("subject", "session", "file", "film", "film_start_s", "scan_start_s", "duration_s", "tr_s"),
    *("split", "repetition", "mask", "confounds", "first_volume_s"),
)
_NEEDED = ("subject", "file", "film", "split")
_HDF5 = (".h5", ".hdf5")
_ROUNDING_S = 1e-6


@dataclass(frozen=True)
class RunRow:
    """One stretch of one film, seen in one run.

    Attributes
    ----------
    subject : str
        Label without ``sub-``, such as ``01`` or ``100610``.
    session : str
        Label without ``ses-``; empty if there is none.
    files : tuple of Path
        The run: one file, or two for hemispheres (left, right).
    key : str
        The data set inside an HDF5 file, such as ``ses-001_task-s01e01a``; empty otherwise.
    film : Path
    film_start_s : float
        Where in the film the stretch begins, in s; at least 0.
    scan_start_s : float or None
        When that moment was shown, in s after the scan began; at least 0. None: the film ends
        ``data.trailing_volumes`` before the run does, after 1 or 2 leading volumes, as in cc2017.
    duration_s : float or None
        Length of the stretch in s. None: up to the end of the film or of the run.
    tr_s : float or None
        Time between two volumes in s. None: to be read from the sidecar or the header.
    split : str
        ``train``, ``test``, or ``val``: training films that are held out for validation.
    repetition : int
        From 1.
    mask : Path or None
        Brain mask of a volumetric run.
    confounds : Path or None
        Table of confounds.
    first_volume_s : float or None
        When the first volume was measured, in s after the scan began (BIDS: ``StartTime``). None:
        as the sidecar beside the file says.
    tr_source, first_volume_source : str
        Where a reader found ``tr_s`` and ``first_volume_s``; no columns of the table.
    """

    subject: str
    session: str
    files: tuple[Path, ...]
    key: str
    film: Path
    film_start_s: float
    scan_start_s: float | None
    duration_s: float | None
    tr_s: float | None
    split: str
    repetition: int
    mask: Path | None = None
    confounds: Path | None = None
    first_volume_s: float | None = None
    tr_source: str = field(default="run table", compare=False)
    first_volume_source: str = field(default="run table", compare=False)

    @property
    def run(self) -> tuple[tuple[Path, ...], str]:
        """Return what tells one run from another: its files and the key inside them."""
        return self.files, self.key

    @property
    def run_name(self) -> str:
        """Return the run's files as they are called in messages."""
        return ", ".join(map(str, self.files)) + (f"#{self.key}" if self.key else "")


def subject_number(label: str) -> int:
    """Return a subject's number: ``1``, ``01``, ``0001`` and ``sub-01`` are the same.

    Raises
    ------
    UserError
        If the label is not a number from 1.
    """
    word = label.strip().lower().removeprefix("sub-")
    if not word.isdecimal() or int(word) < 1:
        raise UserError(
            f"the subject {label!r} is not a number: list its runs in a run table with a number of "
            "your choice as subject, and give that table with --runs"
        )
    return int(word)


def is_subject(label: str, number: int) -> bool:
    """Tell whether a label such as ``0001`` is a subject's number; labels of letters are not."""
    word = label.strip().lower().removeprefix("sub-")
    return word.isdecimal() and int(word) == number


def read_run_table(path: Path) -> list[RunRow]:
    """Read ``runs.tsv``.

    Parameters
    ----------
    path
        Tab-separated, with a header line; columns in any order. ``subject``, ``file``, ``film`` and
        ``split`` are needed; ``n/a``, or a column that is not there, stands for no session, the
        film's beginning, cc2017's convention for ``scan_start_s``, the rest of the film, the TR of
        the sidecar, and repetitions in the order of the rows. Relative paths count from its folder.

    Raises
    ------
    UserError
        If it is not such a table; the message names the line.
    """
    if not path.is_file():
        raise UserError(
            f"no run table at {path}: give a file with the columns {', '.join(COLUMNS)}"
        )
    require_content(path)
    columns, lines = read_table(path, "\t")
    _check_columns(path, columns)
    seen: dict[object, int] = defaultdict(int)
    rows = [_row(path, number, line, seen) for number, line in lines]
    if not rows:
        raise UserError(f"{path} holds no runs: write one line per run and film")
    return rows


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    for name in columns:
        if name not in COLUMNS:
            raise UserError(
                f"{path} has the unknown column {name!r}{nearest(name, COLUMNS)}: the columns of a "
                f"run table, separated by tabs, are {', '.join(COLUMNS)}"
            )
        if columns.count(name) > 1:
            raise UserError(f"{path} has the column {name!r} twice: remove one")
    for name in _NEEDED:
        if name not in columns:
            raise UserError(f"{path} lacks the column {name!r}: add it, separated by tabs")


def _row(path: Path, number: int, line: dict[str, Any], seen: dict[object, int]) -> RunRow:
    """Read one line; ``seen`` counts the repetitions that carry no number."""
    where = f"{path}, line {number}"
    if None in line or None in line.values():
        raise UserError(f"{where} has other columns than the header line: correct it")
    text = {
        str(name): "" if value.strip() == NOT_THERE else value.strip()
        for name, value in line.items()
    }
    for name in _NEEDED:
        if not text[name]:
            raise UserError(f"{where} lacks its {name}: write one")
    split = text["split"].lower()
    if split not in SPLITS:
        raise UserError(
            f"{where} has the split {text['split']!r}{nearest(split, SPLITS)}: write train, test "
            "or val"
        )
    subject_number(text["subject"])
    files, key = named_files(path.parent, text["file"])
    start = _number(where, text, "film_start_s", least=0.0)
    row = RunRow(
        subject=text["subject"].removeprefix("sub-"),
        session=text.get("session", "").removeprefix("ses-"),
        files=files,
        key=key,
        film=_path(path.parent, text["film"]),
        film_start_s=0.0 if start is None else start,
        scan_start_s=_number(where, text, "scan_start_s", least=0.0),
        duration_s=_number(where, text, "duration_s", least=_ROUNDING_S),
        tr_s=_number(where, text, "tr_s", least=_ROUNDING_S),
        split=split,
        repetition=0,
        mask=_optional_path(path.parent, text.get("mask", "")),
        confounds=_optional_path(path.parent, text.get("confounds", "")),
        first_volume_s=_number(where, text, "first_volume_s", least=0.0),
    )
    stretch = (subject_number(row.subject), split, row.film, row.film_start_s)
    seen[stretch] += 1
    repetition = _number(where, text, "repetition", least=1)
    if repetition is not None and repetition != int(repetition):
        raise UserError(f"{where} has the repetition {repetition:g}: write a whole number from 1")
    return replace(row, repetition=seen[stretch] if repetition is None else int(repetition))


def _number(where: str, text: dict[str, str], name: str, least: float) -> float | None:
    value = text.get(name, "")
    if not value:
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < least:
        wanted = "above 0" if 0 < least < 1 else f"from {least:g}"
        raise UserError(f"{where} has {name} = {value!r}: write a number {wanted}, or n/a")
    return number


def named_files(folder: Path, text: str) -> tuple[tuple[Path, ...], str]:
    """Read ``left,right`` or ``file#key``; a file that exists under the whole name is that file.

    Parameters
    ----------
    folder
        What relative paths count from.
    text
        As the column ``file`` has it.

    Returns
    -------
    tuple of Path, str
        The files, and the data set inside an HDF5 file (empty otherwise).
    """
    if _path(folder, text).exists():
        return (_path(folder, text),), ""
    name, mark, key = text.rpartition("#")
    if mark and name.lower().endswith(_HDF5):
        return (_path(folder, name),), key
    return tuple(_path(folder, part.strip()) for part in text.split(",")), ""


def _path(folder: Path, text: str) -> Path:
    return folder / Path(text).expanduser()


def _optional_path(folder: Path, text: str) -> Path | None:
    return _path(folder, text) if text else None


def write_run_table(path: Path, rows: Iterable[RunRow]) -> Path:
    """Write ``runs.tsv``; paths are relative to its folder where both share more than the root.

    The same rows give the same bytes; :func:`read_run_table` reads them back.
    """
    return write_text(path, run_table_text(rows, path.parent))


def run_table_text(rows: Iterable[RunRow], folder: Path | None) -> str:
    """Return the text of ``runs.tsv``.

    Parameters
    ----------
    rows
        The table.
    folder
        Where it will lie, for relative paths; None leaves the paths as they are.
    """
    lines = []
    for row in rows:
        files = ",".join(_shown(file, folder) for file in row.files)
        lines.append(
            (
                row.subject,
                row.session or NOT_THERE,
                f"{files}#{row.key}" if row.key else files,
                _shown(row.film, folder),
                _seconds(row.film_start_s),
                _seconds(row.scan_start_s),
                _seconds(row.duration_s),
                _seconds(row.tr_s),
                row.split,
                row.repetition,
                _shown(row.mask, folder),
                _shown(row.confounds, folder),
                _seconds(row.first_volume_s),
            )
        )
    return table_text(COLUMNS, lines, "\t")


def _seconds(value: float | None) -> str:
    return NOT_THERE if value is None else f"{value:.9g}"


def _shown(path: Path | None, folder: Path | None) -> str:
    if path is None:
        return NOT_THERE
    if folder is None:
        return path.as_posix()
    here, there = (Path(os.path.abspath(p)) for p in (folder, path))
    if here.parts[:2] != there.parts[:2]:
        return there.as_posix()
    return Path(os.path.relpath(there, here)).as_posix()


def rows_of_subject(rows: Sequence[RunRow], subject: int, table: str) -> list[RunRow]:
    """Return the rows of one subject; ``table`` names the table in the message.

    Raises
    ------
    UserError
        If there are none.
    """
    own = [row for row in rows if is_subject(row.subject, subject)]
    if not own:
        known = ", ".join(sorted({row.subject for row in rows}))
        raise UserError(
            f"{table} holds no run of subject {subject} (subjects found: {known or 'none'}): "
            "correct --subject or the table"
        )
    return own


def check_run_table(rows: Sequence[RunRow], *, test_only: bool = False) -> None:
    """Refuse a table that contradicts itself or names files that are not there.

    Parameters
    ----------
    rows
        The rows of one subject.
    test_only
        Test runs alone will do.

    Raises
    ------
    UserError
        If a file is missing or was not fetched, a film is unknown, two rows overlap in a run or
        give one repetition twice, or the same stretch of a film is in two splits (leakage).
    """
    _check_files(rows)
    _check_overlap(rows)
    _check_repetitions(rows)
    check_leakage(rows)
    splits = {row.split for row in rows}
    if "train" not in splits and not (test_only and "test" in splits):
        raise UserError(
            "the run table holds no training runs: mark the runs to learn from with split train, "
            "or take the voxels that others have in common, with --common"
        )


def _check_files(rows: Sequence[RunRow]) -> None:
    known: set[Path] = set()
    absent: dict[Path, str] = {}
    for row in rows:
        named: list[tuple[Path | None, str]] = [(file, "run") for file in row.files]
        named += [(row.film, "film"), (row.mask, "mask"), (row.confounds, "table of confounds")]
        for path, what in named:
            if path is None or path in known:
                continue
            known.add(path)
            if sentence := what_to_fetch(path):
                absent[path] = sentence
            elif not path.exists():
                absent[path] = (
                    f"the {what} {path} of the run table is not there: correct the path (relative "
                    "ones count from the table's folder), or fetch the file"
                )
    if absent:
        more = f" ({len(absent)} files are missing so)" if len(absent) > 1 else ""
        raise UserError(next(iter(absent.values())) + more)


def _check_overlap(rows: Sequence[RunRow]) -> None:
    """Two rows of a run may not share volumes: one moment shows one film."""
    runs: dict[object, list[RunRow]] = defaultdict(list)
    for row in rows:
        runs[row.run].append(row)
    for found in runs.values():
        if len(found) > 1 and any(row.scan_start_s is None for row in found):
            raise UserError(
                f"{found[0].run_name} has {len(found)} rows of the run table, one of them without "
                "scan_start_s: write when each film began"
            )
        ordered = sorted(found, key=lambda row: row.scan_start_s or 0.0)
        for first, second in zip(ordered, ordered[1:], strict=False):
            end = math.inf if first.duration_s is None else _start(first) + first.duration_s
            if end > _start(second) + _ROUNDING_S:
                until = "the end of its film" if math.isinf(end) else f"{end:g} s"
                raise UserError(
                    f"two rows of {first.run_name} overlap: {first.film.name} from "
                    f"{_start(first):g} s to {until}, {second.film.name} from "
                    f"{_start(second):g} s; correct onset or duration (scan_start_s, duration_s)"
                )


def _start(row: RunRow) -> float:
    return row.scan_start_s or 0.0


def _check_repetitions(rows: Sequence[RunRow]) -> None:
    seen: dict[object, RunRow] = {}
    for row in rows:
        key = (row.split, row.film, row.film_start_s, row.repetition)
        before = seen.setdefault(key, row)
        if before is not row:
            raise UserError(
                f"repetition {row.repetition} of {row.film.name} from {row.film_start_s:g} s is in "
                f"the run table twice, {before.run_name} and {row.run_name}: number the repetitions"
            )


def check_leakage(rows: Sequence[RunRow]) -> None:
    """Refuse films, or stretches of films, that are in two splits; copies of a film are one.

    Raises
    ------
    UserError
        Names both rows.
    """
    content = _contents({row.film for row in rows})
    films: dict[str, list[RunRow]] = defaultdict(list)
    for row in rows:
        films[content[row.film]].append(row)
    for found in films.values():
        for number, first in enumerate(found):
            for second in found[number + 1 :]:
                if first.split != second.split and _share_film(first, second):
                    raise UserError(
                        f"{first.film} from {first.film_start_s:g} s is a {first.split} film in "
                        f"{first.run_name} and a {second.split} film in {second.run_name}: results "
                        "on films that were trained on mean nothing (leakage); give every stretch "
                        "of a film one split"
                    )


def _contents(films: Iterable[Path]) -> dict[Path, str]:
    """Return a word per film that is the same for the same file and for copies of it."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for film in films:
        by_size[film.stat().st_size if film.is_file() else -1].append(film)
    words = {}
    for size, alike in by_size.items():
        for film in alike:
            single = size < 0 or len({os.path.realpath(f) for f in alike}) == 1
            words[film] = os.path.realpath(film) if single else sha256(film)
    return words


def _share_film(first: RunRow, second: RunRow) -> bool:
    spans = [
        (row.film_start_s, row.film_start_s + (row.duration_s or math.inf))
        for row in (first, second)
    ]
    latest, earliest = max(span[0] for span in spans), min(span[1] for span in spans)
    return earliest - latest > _ROUNDING_S
