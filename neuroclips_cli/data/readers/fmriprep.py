"""fMRIPrep's derivatives, with the raw BIDS tree and its events beside them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from neuroclips_cli.data.bids import BidsName, Inherited, parse_name, repetition_time
from neuroclips_cli.data.readers.bids_films import Films, Shown, only_event, shown_by_events
from neuroclips_cli.data.readers.bids_runs import (
    BidsRun,
    OutputSpace,
    choose_space,
    files_of,
    find_runs,
    outputs,
    tables_of_confounds,
)
from neuroclips_cli.data.readers.options import ReaderOptions
from neuroclips_cli.data.readers.splits import split_rule
from neuroclips_cli.data.run_table import RunRow, subject_number
from neuroclips_cli.data.slice_timing import AT_ONCE, FirstVolume, first_volume
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.folders import Tree, natural_order
from neuroclips_cli.io.placeholders import is_annexed, what_to_fetch
from neuroclips_cli.signal.confounds import unsteady_volumes

_RAW_FOLDERS = ("rawdata", "raw", "bids", "sourcedata")
_DESCRIPTION = "dataset_description.json"
_REST = "rest"
_SAME_LENGTH_S = 1.0
"""Showings of a film whose lengths by their events differ by less are repetitions."""


class Fmriprep:
    """Any data set after fMRIPrep: CIFTI, hemispheres as GIFTI, or volumes with a brain mask."""

    name = "fmriprep"

    def recognizes(self, tree: Tree) -> str:
        """See :class:`neuroclips_cli.data.readers.Reader`."""
        runs = [path for those in outputs(tree).values() for path, *_ in those]
        return f"{len(runs)} preprocessed runs such as {runs[0].name}" if runs else ""

    def run_table(self, tree: Tree, subject: str, options: ReaderOptions) -> list[RunRow]:
        """See :class:`neuroclips_cli.data.readers.Reader`.

        Every decision that the user did not make is said by ``options.say``: the space, where the
        TR stands, what told the films, which runs are left out, and what made a film a test film.
        """
        root, runs = _runs_of(tree, subject_number(subject), options)
        space = choose_space(runs, options.space, options.volumetric, tree.dead_links)
        raw = options.raw or _raw_tree(root, runs[0])
        films = Films(_film_folders(root, raw, options))
        reading = _Reading(root, raw, space, films, options)
        runs = reading.fetched(runs, set(tree.dead_links))
        options.say(f"{len(runs)} runs are read in {space.called}")
        shown = [(run, one) for run in runs for one in reading.shown(run)]
        reading.require_films({one.film for _, one in shown})
        split_of, rule = split_rule(
            [(one.film, run.get("task")) for run, one in shown], options.test_films
        )
        options.say(rule)
        rows = [reading.row(run, one, split_of(one.film, run.get("task"))) for run, one in shown]
        reading.say_sources()
        reading.say_unsteady(rows)
        return number_repetitions(rows)


class _Reading:
    """Turns a subject's runs into rows, and collects what is to be said once."""

    def __init__(
        self,
        root: Path,
        raw: Path | None,
        space: OutputSpace,
        films: Films,
        options: ReaderOptions,
    ) -> None:
        self._root, self._raw, self._space, self._films = root, raw, space, films
        self._options = options
        self._inherited = Inherited(root, *([raw] if raw else []))
        self._sources: dict[str, list[BidsRun]] = defaultdict(list)
        self._steps: dict[float, list[Path]] = {}
        self._timing: dict[str, tuple[float | None, FirstVolume | None]] = {}
        self._listed: dict[Path, list[tuple[BidsName, Path]]] = {}

    def fetched(self, runs: Sequence[BidsRun], dead: set[Path]) -> list[BidsRun]:
        """Leave out runs whose files were not fetched; refuse where none was."""
        absent = [run for run in runs if not dead.isdisjoint(self._needed(run))]
        if len(absent) == len(runs):
            first = next(path for path in self._needed(runs[0]) if path in dead)
            raise UserError(self._what_to_fetch(absent, first))
        if absent:
            self._options.say(
                f"{len(absent)} of {len(runs)} runs are left out since they were not fetched: "
                f"{_some(run.stem for run in absent)}"
            )
        return [run for run in runs if run not in absent]

    def _needed(self, run: BidsRun) -> list[Path]:
        """Return the files of a run that will be read."""
        more = [self._mask(run), self._confounds(run) if self._options.confounds else None]
        return [*files_of(run, self._space), *(path for path in more if path is not None)]

    def _what_to_fetch(self, runs: Sequence[BidsRun], absent: Path) -> str:
        """Say in one sentence how to get the files of runs, and what belongs to them."""
        if not is_annexed(absent):
            return f"{what_to_fetch(absent)} ({len(runs)} runs are missing so)"
        first = files_of(runs[0], self._space)[0]
        ending = first.name[len(os.path.commonprefix([first.name, f"{runs[0].stem}_"])) :]
        patterns = [_pattern(runs, self._root, ending.replace("hemi-L", "hemi-*"))]
        if self._space.kind == "volumes":
            mask = ending.replace("desc-preproc_bold", "desc-brain_mask")
            patterns.append(_pattern(runs, self._root, mask))
        if self._options.confounds:
            patterns.append(_pattern(runs, self._root, "desc-confounds_*.tsv"))
        return (
            f"the {len(runs)} runs of {runs[0].stem.split('_')[0]} in {self._space.called} were "
            f"not fetched: run `datalad get {' '.join(patterns)}` (or `git annex get` with the "
            f"same files) in {self._root}"
        )

    def shown(self, run: BidsRun) -> list[Shown]:
        """Return what a run shows: by its events, or the film of its task."""
        task = run.get("task")
        events = self._events(run)
        if events is not None and (found := shown_by_events(events, self._films)):
            self._sources["films and their onsets are those of stim_file in events.tsv"].append(run)
            return found
        film = self._films.of_task(task)
        if film is None:
            if task.lower().startswith(_REST):
                self._sources[f"task-{task} shows no film and is left out"].append(run)
                return []
            raise UserError(self._no_film(run, events))
        event = only_event(events) if events is not None else None
        if event is not None:
            self._sources["films are those called like a run's task, from its event on"].append(run)
            return [Shown(film, 0.0, *event)]
        self._sources[
            "films are those called like a run's task, taken to begin with its first volume"
        ].append(run)
        return [Shown(film, 0.0, 0.0, None)]

    def _events(self, run: BidsRun) -> Path | None:
        """Return the events of a run: of the raw tree, or of the derivative."""
        for root in (self._raw, self._root):
            if root is not None:
                found = next(self._inherited.files(_beside(run, root), "events", ".tsv"), None)
                if found is not None:
                    return found
        return None

    def _no_film(self, run: BidsRun, events: Path | None) -> str:
        task = run.get("task")
        told = (
            f"{events} names none in a column stim_file"
            if events is not None
            else f"there is no events.tsv of it in {self._raw or 'a raw BIDS tree (data.raw)'}"
        )
        return (
            f"{run.stem} has no film: {told}, and no film is named after its task {task!r} "
            f"({self._films.examples()}); name the films' folder with data.films, or the tasks to "
            "read with data.task"
        )

    def require_films(self, films: Iterable[Path]) -> None:
        """Refuse films that were not fetched."""
        dead = sorted(film for film in films if not film.exists())
        if dead:
            more = f" ({len(dead)} films are missing so)" if len(dead) > 1 else ""
            raise UserError(f"the film {what_to_fetch(dead[0])}{more}")

    def row(self, run: BidsRun, shown: Shown, split: str) -> RunRow:
        """Return one row of the run table; repetitions are counted later."""
        if run.stem not in self._timing:
            step = self._step(run)
            self._timing[run.stem] = step, self._first_volume(run, step)
        step, first = self._timing[run.stem]
        return RunRow(
            subject=run.get("sub"),
            session=run.get("ses"),
            files=files_of(run, self._space),
            key="",
            film=shown.film,
            film_start_s=shown.film_start_s,
            scan_start_s=shown.scan_start_s,
            duration_s=shown.duration_s,
            tr_s=step,
            split=split,
            repetition=1,
            mask=self._mask(run),
            confounds=self._table(run),
            first_volume_s=first.seconds if first else None,
            tr_source="sidecar",
            first_volume_source=first.source if first else "",
        )

    def _table(self, run: BidsRun) -> Path | None:
        """Return the table of confounds; one that is not needed may be missing or not fetched."""
        path = self._confounds(run)
        return path if path is not None and (self._options.confounds or path.exists()) else None

    def _step(self, run: BidsRun) -> float | None:
        """Return the TR of a run's sidecars: of this copy, of its other copies, of the raw run."""
        for path in (*self._copies(run), *self._raw_run(run)):
            found = repetition_time(self._inherited, path)
            if found is not None:
                self._steps.setdefault(found[0], []).append(found[1])
                return found[0]
        self._sources[
            "no sidecar states a RepetitionTime: the series' own step or data.tr_s is taken"
        ].append(run)
        return None

    def _first_volume(self, run: BidsRun, step: float | None) -> FirstVolume | None:
        """Return when a run's first volume was measured, None where no TR tells yet.

        By the sidecars of its copies; slice times are the raw run's.
        """
        if step is None:
            return None
        paths = (*self._copies(run), *self._raw_run(run))
        found = first_volume([partial(self._inherited.value, path) for path in paths], step)
        if found.source != AT_ONCE:
            self._sources[
                f"the first volume counts as measured at {found.seconds:g} s (by {found.source})"
            ].append(run)
        return found

    def _copies(self, run: BidsRun) -> list[Path]:
        """Return the files of a run in all spaces, the one that is read first."""
        others = sorted(path for copy in run.copies.values() for path in copy.values())
        return [files_of(run, self._space)[0], *others]

    def _raw_run(self, run: BidsRun) -> list[Path]:
        return [] if self._raw is None else [_beside(run, self._raw)]

    def _mask(self, run: BidsRun) -> Path | None:
        """Return the brain mask of volumes: in the same space, at the same resolution.

        Raises
        ------
        UserError
            If there is none, and the user gave no mask either; the masks that there are, are
            listed.
        """
        if self._space.kind != "volumes":
            return None
        wanted = files_of(run, self._space)[0]
        own = parse_name(wanted.name)
        masks = [
            (name, path)
            for name, path in self._names(wanted.parent)
            if name.suffix == "mask" and name.extension.startswith(".nii")
        ]
        for name, path in masks:
            if own and name.get("desc") == "brain" and name.without("desc") == own.without("desc"):
                return path
        if self._options.volumetric:
            return None
        raise UserError(
            f"{wanted} has no brain mask of the same space beside it (masks found: "
            f"{_some(path.name for _, path in masks) or 'none'}): give one on its grid with --mask"
        )

    def _confounds(self, run: BidsRun) -> Path | None:
        """Return the table of confounds: the run's entities, but those of its copies.

        Raises
        ------
        UserError
            If there are several, or a strategy is set and there is none.
        """
        chosen = tables_of_confounds(self._names(run.folder), run.key)
        if len(chosen) > 1:
            raise UserError(
                f"{run.stem} has several tables of confounds, "
                f"{', '.join(path.name for path in chosen)} in {run.folder}: keep the one of this "
                "run"
            )
        if not chosen and self._options.confounds:
            raise UserError(
                f"{run.stem} has no {run.stem}_desc-confounds_timeseries.tsv in {run.folder}: add "
                "it, or leave data.confounds empty"
            )
        return chosen[0] if chosen else None

    def _names(self, folder: Path) -> list[tuple[BidsName, Path]]:
        """List a folder once."""
        if folder not in self._listed:
            parsed = ((parse_name(path.name), path) for path in sorted(folder.iterdir()))
            self._listed[folder] = [(name, path) for name, path in parsed if name is not None]
        return self._listed[folder]

    def say_sources(self) -> None:
        """Say once for all runs where films and steps come from."""
        for source, runs in self._sources.items():
            self._options.say(f"{source} ({len(runs)} runs)")
        for step, sidecars in self._steps.items():
            self._options.say(
                f"{len(sidecars)} runs have a TR of {step:g} s by sidecars such as {sidecars[0]}"
            )

    def say_unsteady(self, rows: Sequence[RunRow]) -> None:
        """Say which films begin before the scanner is in a steady state."""
        early = [
            (row, count)
            for row in rows
            if row.confounds is not None
            and (count := unsteady_volumes(row.confounds))
            and (row.scan_start_s or 0.0) < count * (row.tr_s or self._options.tr_s or 1.0)
        ]
        if early:
            row, count = early[0]
            regressed = "are taken out of the regression" if self._options.confounds else "are kept"
            self._options.say(
                f"{len(early)} films begin before the steady state, such as {row.film.name} in "
                f"{row.files[0].name}, whose first {count} volumes fMRIPrep marks as outliers; "
                f"they {regressed}"
            )


def _runs_of(tree: Tree, subject: int, options: ReaderOptions) -> tuple[Path, list[BidsRun]]:
    """Return the derivative that is read, and the runs of the tasks and sessions chosen."""
    found = find_runs(tree, subject)
    if not found:
        known = ", ".join(sorted(outputs(tree), key=natural_order)) or "none"
        raise UserError(
            f"{tree.root} holds no preprocessed run of subject {subject} (subjects found: {known}):"
            " check --dataset and --subject"
        )
    roots = sorted(found, key=lambda root: (not root.name.lower().startswith("fmriprep"), root))
    if len(roots) > 1 and _is_fmriprep(roots[0]) == _is_fmriprep(roots[1]):
        raise UserError(
            f"subject {subject} was preprocessed more than once, in {roots[0]} and {roots[1]}: "
            "give one of them as --dataset"
        )
    root = roots[0]
    runs = [
        run
        for run in found[root]
        if _chosen(run.get("task"), options.task) and _chosen(run.get("ses"), options.session)
    ]
    if not runs:
        tasks = sorted({run.get("task") for run in found[root]}, key=natural_order)
        sessions = sorted({run.get("ses") for run in found[root]} - {""}, key=natural_order)
        raise UserError(
            f"no run of subject {subject} has the task {options.task or 'any'!r} and the session "
            f"{options.session or 'any'!r}: tasks are {_some(tasks)}, sessions "
            f"{_some(sessions) or 'not named'}"
        )
    return root, runs


def _is_fmriprep(root: Path) -> bool:
    return root.name.lower().startswith("fmriprep")


def _chosen(label: str, wanted: str) -> bool:
    """Tell whether a label is among those that a setting lists, separated by commas."""
    return not wanted or label in [word.strip() for word in wanted.split(",")]


def _raw_tree(root: Path, run: BidsRun) -> Path | None:
    """Find the raw data set of a derivative: around it, beside it, or in its ``sourcedata``."""
    label = f"sub-{run.get('sub')}"
    top = Path(os.path.abspath(root))
    around = list(top.parents[:3])
    beside = [top.parent / name for name in _RAW_FOLDERS]
    inside = sorted(_folders(top / "sourcedata"))
    for folder in (*around, *beside, *inside):
        if (folder / label).is_dir():
            return folder
    return next((folder for folder in around if (folder / _DESCRIPTION).is_file()), None)


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _film_folders(root: Path, raw: Path | None, options: ReaderOptions) -> list[Path]:
    """Return where films may lie; where the user named a folder, there alone."""
    if options.films is not None:
        return [options.films]
    top = Path(os.path.abspath(root))
    places = [*([raw] if raw else []), top, *top.parents[:3]]
    return [place / "stimuli" for place in places]


def _beside(run: BidsRun, root: Path) -> Path:
    """Return the name that a run would have in another tree."""
    folder = root / f"sub-{run.get('sub')}"
    if run.get("ses"):
        folder /= f"ses-{run.get('ses')}"
    return folder / "func" / f"{run.stem}_bold.nii.gz"


def _some(labels: Iterable[str]) -> str:
    """Name a few of many labels."""
    every = list(labels)
    return f"{', '.join(every[:5])}{f' and {len(every) - 5} more' if len(every) > 5 else ''}"


def _pattern(runs: Sequence[BidsRun], root: Path, ending: str) -> str:
    """Write the names of runs' files as a pattern of the shell, relative to the derivative."""
    names = {run.name.entities["sub"] for run in runs}
    subject = f"sub-{names.pop()}" if len(names) == 1 else "sub-*"
    tasks = {run.get("task") for run in runs}
    task = f"task-{tasks.pop()}_" if len(tasks) == 1 else ""
    depth = len(runs[0].folder.relative_to(root).parts) - 2
    return "/".join([subject, *["ses-*"] * depth, "func", f"*{task}*{ending}"]).replace("**", "*")


def number_repetitions(rows: Sequence[RunRow]) -> list[RunRow]:
    """Count the repetitions of every stretch of film over the runs, in the order of the rows.

    Scanners' clocks write 9.98 s and 10.01 s for the same clip: showings of one film from one
    moment on, of nearly the same length, are given the shortest of these.
    """
    shown: dict[tuple[Path, float], list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        shown[row.film, round(row.film_start_s, 3)].append(place)
    numbered = list(rows)
    for places in shown.values():
        lengths = [length for place in places if (length := rows[place].duration_s) is not None]
        alike = len(lengths) == len(places) and max(lengths) - min(lengths) < _SAME_LENGTH_S
        for repetition, place in enumerate(places, start=1):
            length = min(lengths) if alike else rows[place].duration_s
            numbered[place] = replace(rows[place], repetition=repetition, duration_s=length)
    return numbered
