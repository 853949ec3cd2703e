"""Several runs in one table, with paired differences and the paper's values beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuroclips_cli.metrics.statistics import PERMUTATIONS, Difference, Summary
from neuroclips_cli.protocols.evaluation_config import SYNTHETIC_EVALUATORS
from neuroclips_cli.reporting import paper_tables
from neuroclips_cli.reporting.formats import TextTable
from neuroclips_cli.reporting.tables import label, number

HEADER = (
    "source",
    "run",
    "metric",
    "mean",
    "std",
    "n",
    "ci95_low",
    "ci95_high",
    "ci95_scenes_low",
    "ci95_scenes_high",
    "difference",
    "difference_ci95_low",
    "difference_ci95_high",
    "difference_ci95_scenes_low",
    "difference_ci95_scenes_high",
    "p",
    "p_holm",
    "tested_units",
    "evaluators",
)
"""Columns of the CSV form: one line per run and metric, then the paper's."""


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison.

    Attributes
    ----------
    name : str
        What the table calls it.
    metrics : dict
        Metric -> summary over the clips that all runs have.
    differences : dict
        Metric -> this run minus the first; empty for the first.
    published : dict
        Metric -> the paper's value of such a run.
    evaluators : str
        Whose networks evaluated, such as ``synthetic-dataset evaluators``; empty where unknown.
    """

    name: str
    metrics: Mapping[str, Summary]
    differences: Mapping[str, Difference]
    published: Mapping[str, float]
    evaluators: str = ""


def comparison_table(runs: Sequence[ComparedRun], clips: int, units: str) -> TextTable:
    """Return every metric of every run, one below the other.

    Parameters
    ----------
    runs : sequence of ComparedRun
        The first is what the others are compared with.
    clips : int
        Clips that all runs have.
    units : str
        ``scenes`` or ``clips``: what was tested.
    """
    columns = ["metric", "run", "value [95 %]", "difference [95 %]"]
    if units == "scenes":
        columns.append("[95 %, scenes drawn]")
    columns += ["p", "p (Holm)", "paper*"]
    names = list(dict.fromkeys(name for run in runs for name in run.metrics))
    rows = []
    for name in names:
        having = [run for run in runs if name in run.metrics]
        for place, run in enumerate(having):
            cells = [label(name) if place == 0 else "", run.name, _value(name, run.metrics[name])]
            cells += _difference(name, run.differences.get(name), units)
            paper = run.published.get(name)
            rows.append((*cells, "" if paper is None else number(name, paper)))
    title = (
        f"{len(runs)} runs over {clips} clips; differences from {runs[0].name}{_evaluated(runs)}"
    )
    return TextTable(title, tuple(columns), tuple(rows))


def published_table(runs: Sequence[ComparedRun]) -> TextTable:
    """Return our runs and the lines of the paper's Tables 1, 2 and 4 below each other."""
    ours: list[tuple[str, str, dict[str, tuple[float, float | None]]]] = [
        ("ours", run.name, {name: (s.mean, s.std) for name, s in run.metrics.items()})
        for run in runs
    ]
    theirs: list[tuple[str, str, dict[str, tuple[float, float | None]]]] = [
        (
            f"paper, Table {line.table}",
            line.method,
            {name: (mean, line.std.get(name)) for name, mean in line.mean.items()},
        )
        for line in paper_tables.TABLES
    ]
    rows = tuple(
        (source, method, *(_spread(name, values.get(name)) for name in paper_tables.METRICS))
        for source, method, values in (*ours, *theirs)
    )
    columns = ("source", "method", *(label(name) for name in paper_tables.METRICS))
    title = f"Beside the paper's Tables 1, 2 and 4 (mean±deviation){_evaluated(runs)}"
    return TextTable(title, columns, rows)


def _evaluated(runs: Sequence[ComparedRun]) -> str:
    """Return that the synthetic dataset's evaluators were used, if so."""
    practice = any(run.evaluators == SYNTHETIC_EVALUATORS for run in runs)
    return f"; {SYNTHETIC_EVALUATORS}" if practice else ""


def csv_rows(runs: Sequence[ComparedRun]) -> list[tuple[object, ...]]:
    """Return the lines under `HEADER`, figures with six digits."""
    rows: list[tuple[object, ...]] = []
    for run in runs:
        for name, summary in run.metrics.items():
            cells = [_digits(summary.mean), _digits(summary.std), summary.n]
            cells += [*_bounds(summary), *_difference_cells(run.differences.get(name))]
            rows.append(("ours", run.name, name, *cells, run.evaluators))
    for line in paper_tables.TABLES:
        for name, mean in line.mean.items():
            std = line.std.get(name, "")
            rest = [""] * (len(HEADER) - 5)
            rows.append((f"paper table {line.table}", line.method, name, mean, std, *rest))
    return rows


def notes(units: str) -> list[str]:
    """Return what a reader of the tables must know."""
    return [
        f"Differences are paired by clip. p: two-sided sign-flip permutation test over {units} "
        f"(all patterns where they are few, else {PERMUTATIONS} drawn); p (Holm): corrected for "
        "the number of metrics of the run.",
        "CLIP-pcc measures smoothness, not decoding.",
        "* " + paper_tables.NOTE,
    ]


def _value(name: str, summary: Summary) -> str:
    low, high = summary.ci95
    return f"{number(name, summary.mean)} [{number(name, low)}, {number(name, high)}]"


def _difference(name: str, found: Difference | None, units: str) -> list[str]:
    if found is None:
        return [""] * (4 if units == "scenes" else 3)
    interval = interval_cell(name, found.summary.ci95)
    cells = [f"{signed(name, found.summary.mean)} {interval}"]
    if units == "scenes":
        scenes = found.summary.ci95_scenes
        cells.append(interval_cell(name, scenes) if scenes else "")
    return [*cells, p_cell(found.p), p_cell(found.p_holm)]


def interval_cell(name: str, bounds: tuple[float, float]) -> str:
    """Return ``[-0.012, +0.034]`` for the bounds of a difference."""
    return f"[{signed(name, bounds[0])}, {signed(name, bounds[1])}]"


def signed(name: str, value: float) -> str:
    """Return a difference with its sign and the digits its metric deserves."""
    text = number(name, abs(value))
    if not text.strip("0."):
        return text
    return ("+" if value > 0 else "-") + text


def p_cell(p: float) -> str:
    """Return a P value with four digits."""
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _spread(name: str, pair: tuple[float, float | None] | None) -> str:
    if pair is None:
        return ""
    mean, std = pair
    return number(name, mean) + ("" if std is None else f"±{std:.2f}")


def _bounds(summary: Summary) -> list[str]:
    scenes = summary.ci95_scenes
    return [*map(_digits, summary.ci95), *(map(_digits, scenes) if scenes else ("", ""))]


def _difference_cells(found: Difference | None) -> list[object]:
    if found is None:
        return [""] * 8
    summary = found.summary
    tests = [_digits(found.p), _digits(found.p_holm), found.units]
    return [_digits(summary.mean), *_bounds(summary), *tests]


def _digits(value: float) -> str:
    return f"{value:.6g}"


LEVEL = 0.01
"""Below this corrected P a difference is pointed out."""


@dataclass(frozen=True)
class Cell:
    """One metric of one other run; every field is text, empty where there is nothing to say.

    Attributes
    ----------
    value, difference, p : str
        The other run's mean, its difference from the run with its interval, corrected P.
    verdict : str
        ``above`` or ``below`` the run where P is below `LEVEL`.
    """

    value: str = ""
    difference: str = ""
    p: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Versus:
    """A table: ``names`` of the other runs, and per metric its label, the run's value, cells."""

    names: list[str]
    rows: list[tuple[str, str, list[Cell]]]


def versus(pairs: Sequence[tuple[str, Sequence[ComparedRun]]]) -> Versus:
    """Put comparisons with the same run into one table.

    Parameters
    ----------
    pairs : sequence of tuple
        Name of the other run, and the comparison: the run first, the other second. Each pair is
        over the clips that both have, so the run's own value is taken from the pair with most.

    Returns
    -------
    Versus
    """
    own = {
        name: max((run.metrics[name] for _, (run, _) in pairs), key=lambda found: found.n)
        for name in (pairs[0][1][0].metrics if pairs else ())
    }
    rows = [
        (
            label(name),
            number(name, summary.mean),
            [_cell(name, other) for _, (_, other) in pairs],
        )
        for name, summary in own.items()
    ]
    return Versus(
        [name for name, _ in pairs], [row for row in rows if any(c.value for c in row[2])]
    )


def _cell(name: str, other: ComparedRun) -> Cell:
    if name not in other.metrics:
        return Cell()
    value = number(name, other.metrics[name].mean)
    found = other.differences.get(name)
    if found is None:
        return Cell(value)
    bounds = found.summary.ci95_scenes or found.summary.ci95
    difference = f"{signed(name, found.summary.mean)} {interval_cell(name, bounds)}"
    return Cell(value, difference, p_cell(found.p_holm), _verdict(found))


def _verdict(found: Difference) -> str:
    if found.p_holm >= LEVEL:
        return ""
    return "above" if found.summary.mean > 0 else "below"
