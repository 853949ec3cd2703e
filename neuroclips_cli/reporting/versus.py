"""A run beside others over the same clips: value, paired difference, and what the test says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuroclips_cli.metrics.comparison import Difference
from neuroclips_cli.reporting.comparison import ComparedRun, interval_cell, p_cell, signed
from neuroclips_cli.reporting.tables import label, number

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
