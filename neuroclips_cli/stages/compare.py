"""``neuroclips compare``: several evaluated runs in one table, beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neuroclips_cli import console
from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic
from neuroclips_cli.io.csv import table_text
from neuroclips_cli.metrics.statistics import paired_differences, shared_clips, summarize
from neuroclips_cli.reporting import comparison, formats, minutes, paper_tables
from neuroclips_cli.reporting import subjects as subject_rows
from neuroclips_cli.reporting.subjects import Figure, SubjectRun
from neuroclips_cli.runs.locations import run_folder
from neuroclips_cli.runs.model_card import WITHIN
from neuroclips_cli.runs.stage import read_csv, read_json, require_stage
from neuroclips_cli.settings.load import Settings, replace_settings
from neuroclips_cli.settings.parse import parse_subject
from neuroclips_cli.stages import _over_minutes

FORMATS = {"terminal": "", "markdown": ".md", "latex": ".tex", "csv": ".csv"}
IGNORED_KEYS = (
    "n",
    "pred",
    "gt",
    "seed",
    "ci95",
    "ci95_scenes",
    "blur_init",
    "shuffles",
    "shuffles_of_pixel_metrics",
    "retrieval_part",
    "extra_metrics",
    "source",
    "remarks",
    "published_evaluators",
)
"""Entries of a protocol that do not decide the value of a metric; retrieval is seen to apart."""
SAME_FILMS = 0.9
"""Correlation over clips of two measurements of the films' brightness: other films have less."""


SHUFFLED = ":shuffled"
"""After a run, its ``shuffled_fmri`` control: the same reconstructions given to other clips."""


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes
    ----------
    runs : list of ComparedRun
        In the order asked for.
    clips : int
        Clips that all runs have.
    units : str
        ``scenes`` or ``clips``: what was permuted.
    left_out : list of str
        What to say of runs that have more clips.
    unlike : list of str
        What to say of decoders that were not trained on the same data.
    """

    runs: list[comparison.ComparedRun]
    clips: int
    units: str
    left_out: list[str]
    unlike: list[str]


@dataclass(frozen=True)
class _Run:
    """An evaluation as it was read; ``rows`` is per_clip.csv by clip.

    ``prefix`` stands before the columns of a control that was measured with the run.
    """

    name: str
    folder: Path
    prefix: str
    result: dict[str, Any]
    rows: dict[str, dict[str, str]]

    def column(self, name: str, clips: Sequence[str]) -> np.ndarray:
        """Return a column in the order of ``clips``; NaN where a cell is empty."""
        return np.array([float(self.rows[clip][name] or "nan") for clip in clips])


def run(
    settings: Settings,
    runs: Sequence[str],
    *,
    kind: str | None = None,
    out: Path | None = None,
    overwrite: bool = False,
) -> list[comparison.ComparedRun]:
    """Compare evaluated runs clip by clip with the first of them.

    Parameters
    ----------
    settings : Settings
        ``run`` says which subject a run's name belongs to, ``evaluate.bootstrap_samples`` how
        many samples the intervals take.
    runs : sequence of str
        At least two: folders of an evaluation (or of a subject), or names such as
        ``reconstruct-without-keyframe`` and ``evaluate``. With ``:shuffled`` behind it stands for
        the control in which other clips' scans were decoded.
    kind : str, optional
        ``terminal``, ``markdown``, ``latex`` or ``csv``; by default what the ending of ``out``
        says, else ``terminal``.
    out : Path, optional
        File to write; standard output by default.
    overwrite : bool
        Replace ``out``.

    Returns
    -------
    list of ComparedRun

    Raises
    ------
    UserError
        If a run has no evaluation, or they have no clip or protocol in common.
    """
    chosen = _format(kind, out, overwrite)
    found = paired(settings, runs)
    _write(found, chosen, out)
    for said in found.left_out:
        console.info(said)
    return found.runs


def over_subjects(
    settings: Settings,
    runs: Sequence[str],
    subjects: str,
    *,
    kind: str | None = None,
    out: Path | None = None,
    overwrite: bool = False,
) -> list[list[SubjectRun]]:
    """Show runs of several subjects and their mean in the layout of the paper's Tables 1 and 4.

    Parameters
    ----------
    settings : Settings
        ``run.workdir`` holds the subjects' run folders.
    runs : sequence of str
        Names of evaluated runs, such as ``evaluate`` and ``fuse``.
    subjects : str
        Numbers such as ``1,2,3``, or ``all`` that have the first of the runs.
    kind, out, overwrite
        As :func:`run` takes them.

    Returns
    -------
    list of list of SubjectRun
        For each run its subjects.

    Raises
    ------
    UserError
        If a subject lacks a run, or they were measured by different protocols.
    """
    chosen = _format(kind, out, overwrite)
    numbers = _subjects(settings, subjects, runs[0])
    groups, read = [], []
    for word in runs:
        found = [
            _read(replace_settings(settings, {"run.subject": number}), word) for number in numbers
        ]
        read += found
        groups.append([_of_subject(word, *pair) for pair in zip(numbers, found, strict=True)])
    _check(read)
    _emit(
        [subject_rows.subjects_table(groups)],
        [
            *_unlike_protocols(read),
            "CLIP-pcc measures smoothness, not decoding.",
            paper_tables.NOTE,
        ],
        table_text(subject_rows.HEADER, subject_rows.csv_rows(groups)),
        chosen,
        out,
    )
    return groups


def over_minutes(
    settings: Settings,
    decoders: Sequence[str],
    *,
    kind: str | None = None,
    out: Path | None = None,
    overwrite: bool = False,
) -> list[minutes.Point]:
    """Show accuracy against the minutes of a subject's films that decoders were trained on.

    Unlike :func:`run` it compares different protocols, and says which each is.

    Parameters
    ----------
    settings : Settings
        ``run.workdir`` and ``run.subject``.
    decoders : sequence of str
        Folders of decoders, such as ``adapted-04-10min-ridge``; all that have results of the
        subject by default.
    kind, out, overwrite
        As :func:`run` takes them.

    Returns
    -------
    list of Point

    Raises
    ------
    UserError
        If fewer than two decoders have results, or these were measured differently.
    """
    chosen = _format(kind, out, overwrite)
    points = minutes_points(settings, decoders)
    drawn = [m for m in minutes.METRICS if any(m in point.metrics for point in points)]
    notes = [
        "scratch: trained on these minutes of the subject alone; differences from it are paired by "
        "clip. Intervals are over scenes where these are known. p: sign-flip test, not corrected.",
    ]
    _emit(
        [minutes.minutes_table(metric, points) for metric in drawn],
        notes,
        table_text(minutes.HEADER, minutes.csv_rows(points)),
        chosen,
        out,
    )
    return points


def minutes_points(settings: Settings, decoders: Sequence[str] = ()) -> list[minutes.Point]:
    """Return what :func:`over_minutes` shows, and print nothing."""
    found = _over_minutes.find(settings, decoders)
    return _over_minutes.points(settings, found, lambda runs: paired(settings, runs).runs)


def _subjects(settings: Settings, words: str, run_: str) -> list[int]:
    """Return the numbers of subjects that were asked for."""
    if words == "all":
        name = _evaluation(run_)
        found = sorted(run_folder(settings).parent.glob(f"sub-*/{name}/metrics.json"))
        numbers = [path.parts[-3].removeprefix("sub-") for path in found]
        if not numbers:
            raise UserError(
                f"no subject in {run_folder(settings).parent} has {name}: evaluate one first"
            )
        return [parse_subject(number) for number in numbers]
    numbers = [word for word in words.replace(" ", ",").split(",") if word]
    if not numbers or len(set(map(parse_subject, numbers))) < len(numbers):
        raise UserError(f"--subjects {words!r} names no subject, or one twice: write 1,2,3 or all")
    return [parse_subject(number) for number in numbers]


def _of_subject(word: str, subject: int, item: _Run) -> SubjectRun:
    figures = {
        name: Figure(summary["mean"], summary["std"], summary["n"])
        for name, summary in item.result["metrics"].items()
    }
    return SubjectRun(word, subject, figures, item.result["protocol"].get("evaluators", ""))


def paired(settings: Settings, runs: Sequence[str]) -> Comparison:
    """Compare evaluated runs clip by clip with the first of them, and print nothing.

    Parameters
    ----------
    settings, runs
        As :func:`run` takes them.

    Returns
    -------
    Comparison

    Raises
    ------
    UserError
        If a run has no evaluation, or they have no clip or protocol in common.
    """
    if len(runs) < 2:
        raise UserError("a comparison needs two runs at least: name another one")
    read = [_read(settings, word) for word in runs]
    if len({item.name for item in read}) < len(read):
        read = [replace(item, name=word) for item, word in zip(read, runs, strict=True)]
    _check(read)
    clips = shared_clips([list(item.rows) for item in read])
    if not clips:
        raise UserError(
            f"{read[0].folder} and {read[1].folder} have no clip in common: compare evaluations of "
            "the same films"
        )
    _check_films(read, clips)
    scenes = _scenes(read[0], clips)
    left_out = [
        f"{item.name}: {len(clips)} of its {len(item.rows)} clips, those that all runs have"
        for item in read
        if len(item.rows) > len(clips)
    ]
    return Comparison(
        _compare(settings, read, clips, scenes),
        len(clips),
        "clips" if scenes is None else "scenes",
        left_out,
        _unlike_protocols(read),
    )


def _format(kind: str | None, out: Path | None, overwrite: bool) -> str:
    endings = {ending: name for name, ending in FORMATS.items() if ending}
    if kind is None:
        kind = endings.get(out.suffix.lower(), "terminal") if out else "terminal"
    if kind not in FORMATS:
        raise UserError(f"--format {kind} is unknown: choose one of {', '.join(FORMATS)}")
    if out is not None and kind == "terminal":
        raise UserError(
            f"--out {out} has no ending that says what to write: end it in .md, .tex or .csv, or "
            "give --format"
        )
    if out is not None and out.exists() and not overwrite:
        raise UserError(f"{out} exists already: choose another name, or --overwrite")
    return kind


def _find(settings: Settings, word: str) -> tuple[str, Path]:
    """Return name and folder of the evaluation that a word on the command line stands for."""
    path = Path(word)
    for folder in (path, path / "evaluate"):
        if (folder / "metrics.json").is_file():
            inside = (folder / "manifest.json").is_file()
            return "/".join(folder.resolve().parts[-2 if inside else -1 :]), folder
    name = _evaluation(word)
    if name == "evaluate" or name.startswith("evaluate-"):
        return word, require_stage(settings, name, "compare")
    where = "holds no metrics.json" if path.is_dir() else "is neither a folder nor a run"
    raise UserError(
        f"{word} {where}: give the folder of an evaluation, or a name such as evaluate or "
        "reconstruct-without-keyframe"
    )


def _evaluation(word: str) -> str:
    """Return the folder of a run's evaluation: ``reconstruct-without-blurry``, ``fuse`` ..."""
    if word == "fuse":
        return "evaluate-fuse"
    return "evaluate" + word.removeprefix("reconstruct") if word.startswith("reconstruct") else word


def _read(settings: Settings, word: str) -> _Run:
    name, folder = _find(settings, word.removesuffix(SHUFFLED))
    prefix = "shuffled_" if word.endswith(SHUFFLED) else ""
    name += SHUFFLED if prefix else ""
    record = folder / "manifest.json"
    if record.is_file() and read_json(record)["state"] != "done":
        raise UserError(f"the evaluation in {folder} is unfinished: run neuroclips evaluate again")
    result = read_json(folder / "metrics.json")
    if not isinstance(result, dict) or not {"metrics", "protocol"} <= result.keys():
        raise UserError(f"{folder / 'metrics.json'} is not a result of neuroclips evaluate")
    table = folder / "per_clip.csv"
    if not table.is_file():
        raise UserError(
            f"{folder} lacks per_clip.csv, by which clips are paired: run neuroclips evaluate again"
        )
    rows = read_csv(table)
    by_clip = {row.get("clip", ""): row for row in rows}
    if not rows or "" in by_clip or len(by_clip) < len(rows):
        raise UserError(
            f"{table} does not name every clip once in a column 'clip': run neuroclips evaluate "
            "again"
        )
    if prefix and not any(column.startswith(prefix) for column in rows[0]):
        raise UserError(
            f"{folder} was evaluated without the shuffled control: set evaluate.shuffles and "
            "evaluate again"
        )
    return _Run(name, folder, prefix, result, by_clip)


def _check(runs: Sequence[_Run]) -> None:
    """Refuse runs that are the same or were measured differently."""
    first = runs[0]
    for number, other in enumerate(runs):
        if any(_identity(other) == _identity(earlier) for earlier in runs[:number]):
            raise UserError(f"{other.name} is named twice: compare different runs")
        ours, theirs = (item.result["protocol"] for item in (first, other))
        for key in dict.fromkeys([*ours, *theirs]):
            if key not in IGNORED_KEYS and ours.get(key) != theirs.get(key):
                raise UserError(
                    f"{first.folder} and {other.folder} were measured by different protocols "
                    f"({key}: {ours.get(key)!r} and {theirs.get(key)!r}): evaluate both alike"
                )


def _identity(item: _Run) -> tuple[Path, str]:
    return item.folder.resolve(), item.prefix


def _check_films(runs: Sequence[_Run], clips: Sequence[str]) -> None:
    """Refuse clips that have the same names but show different films."""
    key, first = "ground_truth_brightness", runs[0]
    for other in runs[1:]:
        if len(clips) < 3 or not all(key in run.rows[clips[0]] for run in (first, other)):
            continue
        columns = [run.column(key, clips) for run in (first, other)]
        if min(map(np.ptp, columns)) > 0 and np.corrcoef(columns)[0, 1] < SAME_FILMS:
            raise UserError(
                f"the clips of {first.folder} and {other.folder} have the same names but show "
                "different films: compare evaluations against the same ground truth"
            )


def _scenes(first: _Run, clips: Sequence[str]) -> np.ndarray | None:
    labels = [first.rows[clip].get("scene", "") for clip in clips]
    return np.array(labels) if all(labels) else None


def _compare(
    settings: Settings, runs: Sequence[_Run], clips: Sequence[str], scenes: np.ndarray | None
) -> list[comparison.ComparedRun]:
    samples, seed = settings.evaluate.bootstrap_samples, settings.run.seed
    columns = [_columns(item, clips) for item in runs]
    parts = [item.result["protocol"].get("retrieval_part") for item in runs]
    compared = []
    for item, values, part in zip(runs, columns, parts, strict=True):
        base = columns[0]
        if part != parts[0]:  # among another number of candidates retrieval is another task
            base = {k: v for k, v in base.items() if not k.startswith("retrieval")}
        differences = {}
        if item is not runs[0]:
            differences = paired_differences(values, base, scenes, samples=samples, seed=seed)
        summaries = {k: summarize(v, samples, seed, scenes) for k, v in values.items()}
        paper = paper_tables.counterpart(_role(item), item.result.get("subject"))
        evaluators = item.result["protocol"].get("evaluators", "")
        compared.append(
            comparison.ComparedRun(item.name, summaries, differences, paper, evaluators)
        )
    return compared


def _columns(item: _Run, clips: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the metrics that every clip has a cell for, where any of these clips has a value."""
    known = [n for n in item.result["metrics"] if item.prefix + n in item.rows[clips[0]]]
    columns = {name: item.column(item.prefix + name, clips) for name in known}
    return {name: values for name, values in columns.items() if not np.isnan(values).all()}


def _role(item: _Run) -> str:
    """Return what the run is called in its run folder; empty for any other evaluation."""
    in_run_folder = (item.folder / "manifest.json").is_file()
    return item.folder.resolve().name if in_run_folder and not item.prefix else ""


def _write(found: Comparison, kind: str, out: Path | None) -> None:
    tables = [
        comparison.comparison_table(found.runs, found.clips, found.units),
        comparison.published_table(found.runs),
    ]
    text = table_text(comparison.HEADER, comparison.csv_rows(found.runs))
    _emit(tables, [*found.unlike, *comparison.notes(found.units)], text, kind, out)


def _unlike_protocols(runs: Sequence[_Run]) -> list[str]:
    """Say what decoders were trained on where not all were trained on the same."""
    protocols = {str(one.folder): one.result.get("training_protocol", WITHIN) for one in runs}
    if len(set(protocols.values())) < 2:
        return []
    named = ", ".join(f"{name} {protocol}" for name, protocol in protocols.items())
    return [f"Unlike protocols: decoders were not trained on the same data ({named})."]


def _emit(
    tables: Sequence[formats.TextTable],
    notes: Sequence[str],
    as_csv: str,
    kind: str,
    out: Path | None,
) -> None:
    """Print tables or write them in a format; ``as_csv`` is what the CSV form holds."""
    if kind == "terminal":
        for table in tables:
            console.table(table.title, table.columns, table.rows)
        for note in notes:
            console.info(note)
        return
    if kind == "csv":
        text = as_csv
    else:
        text = (formats.markdown if kind == "markdown" else formats.latex)(tables, notes)
    if out is None:
        console.out(text)
    else:
        atomic.write_text(out, text)
        console.info(f"comparison written to {out}")
