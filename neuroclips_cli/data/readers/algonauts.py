"""Algonauts 2025 and CNeuroMod's time series: parcels in HDF5 files, one data set per run."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuroclips_cli.data.hdf5_files import tables
from neuroclips_cli.data.layout import same_file
from neuroclips_cli.data.readers.options import ReaderOptions
from neuroclips_cli.data.readers.splits import split_rule
from neuroclips_cli.data.run_table import RunRow, is_subject, subject_number
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.folders import Tree, natural_order
from neuroclips_cli.io.placeholders import what_to_fetch

TR_S = 1.49
_FILE = re.compile(r"^sub-([^_]+)_task-([^_]+)_.*\.(h5|hdf5)$")
_KEY = re.compile(r"(?:^|/)ses-([^_/]+)_task-([^_/]+?)(?:_run-0*(\d+))?(?:_timeseries)?$")
_FILM_ENDINGS = (".mkv", ".mp4", ".avi", ".mov")


@dataclass(frozen=True)
class ParcelSeries:
    """One data set: its file and name, and the entities of that name."""

    file: Path
    key: str
    session: str
    task: str
    run: int


class Algonauts:
    """``fmri/sub-01/func/sub-01_task-friends_..._bold.h5``, films ``friends_s01e01a.mkv``."""

    name = "algonauts"

    def recognizes(self, tree: Tree) -> str:
        """See :class:`neuroclips_cli.data.readers.Reader`."""
        files = [path for path in (*tree.files, *tree.dead_links) if _FILE.match(path.name)]
        return f"{len(files)} files of parcels such as {files[0].name}" if files else ""

    def run_table(self, tree: Tree, subject: str, options: ReaderOptions) -> list[RunRow]:
        """See :class:`neuroclips_cli.data.readers.Reader`.

        A film begins with the first volume; what of the run outlasts it is left out. Films that
        were shown more than once (Life, Figures) are for testing, unless the user names others.
        """
        number = subject_number(subject)
        found = _series_of(tree, number, options)
        films = _Films(tree, options)
        seen = [(series, film) for series in found if (film := films.of_task(series.task))]
        _say_missing(found, [series for series, _ in seen], films, options)
        split = _split_of(seen, options)
        rows, counts = [], Counter[Path]()
        for series, film in seen:
            counts[film] += 1
            rows.append(
                RunRow(
                    subject=f"{number:02d}",
                    session=series.session,
                    files=(series.file,),
                    key=series.key,
                    film=film,
                    film_start_s=0.0,
                    scan_start_s=0.0,
                    duration_s=None,
                    tr_s=TR_S if options.tr_s is None else options.tr_s,
                    split=split[film],
                    repetition=counts[film],
                )
            )
        options.say(f"the TR is {rows[0].tr_s:g} s: HDF5 files state none")
        return rows


def _series_of(tree: Tree, number: int, options: ReaderOptions) -> list[ParcelSeries]:
    """List the data sets of a subject's files in the order of films' names, then of runs."""
    named = [
        (path, match)
        for path in (*tree.files, *tree.dead_links)
        if (match := _FILE.match(path.name))
    ]
    own = [path for path, match in named if is_subject(match[1], number)]
    if not own:
        known = ", ".join(sorted({match[1] for _, match in named})) or "none"
        raise UserError(
            f"{tree.root} holds no HDF5 file of subject {number} (subjects found: {known}): check "
            "--dataset and --subject, or name another layout with --layout"
        )
    missing = [path for path in own if what_to_fetch(path)]
    if len(missing) == len(own):
        raise UserError(what_to_fetch(missing[0]))
    for path in missing:
        options.say(f"left out: {what_to_fetch(path)}")
    found = []
    for path in own:
        if path not in missing:
            found += _series_in(path, options)
    wanted = [word.strip() for word in options.task.split(",") if word.strip()]
    chosen = [one for one in found if not wanted or one.task in wanted]
    if not chosen:
        some = ", ".join(sorted({one.task for one in found})[:5])
        raise UserError(f"no run has the task {options.task} (such as {some}): correct data.task")
    return sorted(
        chosen, key=lambda one: (one.file.name, natural_order(one.task), one.run, one.session)
    )


def _series_in(path: Path, options: ReaderOptions) -> list[ParcelSeries]:
    found, others = [], []
    for key in tables(path):
        match = _KEY.search(key)
        if match is None:
            others.append(key)
        else:
            found.append(ParcelSeries(path, key, match[1], match[2], int(match[3] or 1)))
    if not found:
        some = ", ".join(others[:3]) or "nothing"
        raise UserError(
            f"{path} holds no data set called like ses-001_task-s01e01a, but {some}: list them in "
            "a run table (file#key) and give it with --runs"
        )
    if others:
        options.say(f"{path.name}: {len(others)} data sets such as {others[0]} are not runs")
    return found


class _Films:
    """The films by their names' last part: ``friends_s01e01a.mkv`` is the film of s01e01a."""

    def __init__(self, tree: Tree, options: ReaderOptions) -> None:
        self.where = options.films or tree.root
        paths: Iterable[Path] = (*tree.files, *tree.dead_links)
        if options.films is not None:
            paths = sorted(options.films.rglob("*"))
        self._named: dict[str, list[Path]] = defaultdict(list)
        for path in paths:
            if path.suffix.lower() in _FILM_ENDINGS:
                self._named[path.stem.rsplit("_", 1)[-1].lower()].append(path)
        self.dead: list[Path] = []

    def of_task(self, task: str) -> Path | None:
        """Return the film of a task; None if it is not there or was not fetched."""
        films = self._named.get(task.lower(), [])
        there = [film for film in films if not what_to_fetch(film)]
        if any(not same_file(there[0], film) for film in there[1:]):
            raise UserError(
                f"different films are named after task {task}, such as {there[0]} and {there[-1]}: "
                "remove all but one"
            )
        if films and not there:
            self.dead.append(films[0])
        return there[0] if there else None


def _say_missing(
    found: Sequence[ParcelSeries],
    seen: Sequence[ParcelSeries],
    films: _Films,
    options: ReaderOptions,
) -> None:
    """Say which runs are left out since their film is not there; refuse if all are."""
    lacking = sorted({one.task for one in found} - {one.task for one in seen}, key=natural_order)
    if not lacking:
        return
    some = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
    how = what_to_fetch(films.dead[0]) if films.dead else ""
    if not seen:
        raise UserError(
            how
            or f"no film of the tasks {some} is under {films.where}, such as "
            f"friends_{lacking[0]}.mkv: fetch the stimuli, or name their folder with --films"
        )
    options.say(f"runs without a film are left out: {some}{'; ' + how if how else ''}")


def _split_of(seen: Sequence[tuple[ParcelSeries, Path]], options: ReaderOptions) -> dict[Path, str]:
    """Return every film's split."""
    times = Counter(film for _, film in seen)
    repeated = [film for film, count in times.items() if count > 1]
    if options.test_films or not 0 < len(repeated) < len(times):
        split_of, rule = split_rule([(film, one.task) for one, film in seen], options.test_films)
        options.say(rule)
        return {film: split_of(film, one.task) for one, film in seen}
    options.say(
        f"{len(repeated)} films that were shown more than once are for testing, the "
        f"{len(times) - len(repeated)} others for training"
    )
    return {film: "test" if film in repeated else "train" for film in times}
