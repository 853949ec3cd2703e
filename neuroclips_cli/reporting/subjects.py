"""Runs of several subjects in the layout of the paper's Tables 1 and 4: a row each, their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neuroclips_cli.reporting import paper_tables
from neuroclips_cli.reporting.formats import TextTable
from neuroclips_cli.reporting.tables import label, number

HEADER = ("source", "run", "subject", "metric", "mean", "std", "n", "evaluators")
"""Columns of the CSV form; ``subject`` is empty in lines of a mean over subjects."""


@dataclass(frozen=True)
class Figure:
    """A metric of a run: mean and standard deviation over clips, and their number."""

    mean: float
    std: float
    n: int


@dataclass(frozen=True)
class SubjectRun:
    """An evaluated run of one subject.

    Attributes
    ----------
    run : str
        What the run is called.
    subject : int
        Whose it is.
    figures : mapping
        Metric -> what was measured.
    evaluators : str
        Whose networks evaluated.
    """

    run: str
    subject: int
    figures: Mapping[str, Figure]
    evaluators: str


def mean_over_subjects(runs: Sequence[SubjectRun]) -> dict[str, Figure]:
    """Average the metrics that every subject has.

    Parameters
    ----------
    runs : sequence of SubjectRun
        The same run of several subjects.

    Returns
    -------
    dict
        Metric -> mean of the subjects' means, every subject counting alike (Table 1), and the
        standard deviation (ddof 1) over all clips of all subjects.
    """
    shared = [name for name in runs[0].figures if all(name in run.figures for run in runs)]
    return {name: _pooled([run.figures[name] for run in runs]) for name in shared}


def _pooled(figures: Sequence[Figure]) -> Figure:
    n = np.array([figure.n for figure in figures], float)
    means = np.array([figure.mean for figure in figures])
    squares = np.array([figure.std**2 * (figure.n - 1) for figure in figures])
    total = n.sum()
    around = squares.sum() + (n * (means - (n * means).sum() / total) ** 2).sum()
    return Figure(float(means.mean()), float(np.sqrt(around / max(total - 1, 1))), int(total))


def subjects_table(groups: Sequence[Sequence[SubjectRun]]) -> TextTable:
    """Return every run's subjects and their mean, and the paper's rows below.

    Parameters
    ----------
    groups : sequence
        One group for each run: its subjects.
    """
    rows: list[tuple[str, ...]] = []
    for group in groups:
        for run in group:
            rows.append(("ours", f"{run.run}, subject {run.subject}", *_cells(run.figures)))
        mean = f"{group[0].run}, mean of {len(group)} subjects"
        rows.append(("ours", mean, *_cells(mean_over_subjects(group))))
    for line in (*paper_tables.TABLE_1, *paper_tables.TABLE_4):
        means, stds = line.mean, line.std
        cells = (_cell(name, means.get(name), stds.get(name)) for name in paper_tables.METRICS)
        rows.append((f"paper, Table {line.table}", line.method, *cells))
    columns = ("source", "method", *(label(name) for name in paper_tables.METRICS))
    evaluators = {run.evaluators for group in groups for run in group} - {""}
    title = "; ".join(["Subjects beside the paper's Tables 1 and 4 (mean±deviation)", *evaluators])
    return TextTable(title, columns, tuple(rows))


def csv_rows(groups: Sequence[Sequence[SubjectRun]]) -> list[tuple[object, ...]]:
    """Return the lines under `HEADER`, figures with six digits."""
    lines: list[tuple[object, ...]] = []
    for group in groups:
        parts = [(str(run.subject), run.figures) for run in group]
        for subject, figures in (*parts, ("", mean_over_subjects(group))):
            for name, figure in figures.items():
                values = (f"{figure.mean:.6g}", f"{figure.std:.6g}", figure.n)
                lines.append(("ours", group[0].run, subject, name, *values, group[0].evaluators))
    for line in (*paper_tables.TABLE_1, *paper_tables.TABLE_4):
        for name, mean in line.mean.items():
            source, std = f"paper table {line.table}", line.std.get(name, "")
            lines.append((source, line.method, "", name, mean, std, "", ""))
    return lines


def _cells(figures: Mapping[str, Figure]) -> list[str]:
    return [
        _cell(name, figures[name].mean, figures[name].std) if name in figures else ""
        for name in paper_tables.METRICS
    ]


def _cell(name: str, mean: float | None, std: float | None) -> str:
    if mean is None:
        return ""
    return number(name, mean) + ("" if std is None else f"±{std:.2f}")
