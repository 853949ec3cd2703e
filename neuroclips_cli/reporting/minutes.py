"""Accuracy against the minutes of a subject's films: table, terminal chart, drawing for HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuroclips_cli.metrics.statistics import Difference, Summary
from neuroclips_cli.reporting.comparison import p_cell, signed
from neuroclips_cli.reporting.formats import TextTable
from neuroclips_cli.reporting.tables import label, number

SCRATCH = "scratch"
"""Mode of a decoder that was trained on the subject alone: what the others are compared with."""
METRICS = (
    "retrieval_fmri_to_image",
    "retrieval_fmri_to_image_top5",
    "image_50way",
    "video_50way",
    "ssim",
)
"""What is drawn, where it was measured."""
ORDER = (SCRATCH, "ridge", "embedder", "full", "closed-form", "unseen", "pooled")
WIDTH, HEIGHT = 320.0, 160.0
"""Of the drawing's plane in its own units, y downward."""
COLUMNS = 48
"""Characters of the terminal chart."""
HEADER = (
    *("metric", "mode", "minutes", "run", "mean", "low", "high", "n"),
    *("difference", "difference_low", "difference_high", "p", "tested_units"),
)
"""Columns of the CSV form; differences are from ``scratch`` with the same minutes."""


@dataclass(frozen=True)
class Point:
    """One decoder's result on a subject.

    Attributes
    ----------
    run : str
        The decoder's folder.
    mode : str
        How it came to decode the subject: ``scratch``, ``ridge``, ``unseen`` ...
    minutes : float
        Of the subject's films that it was trained on; 0 for ``unseen``.
    metrics : mapping
        Metric -> summary over the clips that all decoders have.
    differences : mapping
        Metric -> this result minus ``scratch`` with the same minutes; empty without one.
    """

    run: str
    mode: str
    minutes: float
    metrics: Mapping[str, Summary]
    differences: Mapping[str, Difference]


@dataclass(frozen=True)
class Curve:
    """One mode in the drawing.

    Attributes
    ----------
    mode : str
    points : str
        ``x,y`` pairs of the line.
    marks : list of tuple of float
        (x, y, y of the interval's upper end, y of its lower end).
    """

    mode: str
    points: str
    marks: list[tuple[float, float, float, float]]


@dataclass(frozen=True)
class Drawing:
    """A metric against minutes, on a plane of `WIDTH` by `HEIGHT`.

    Attributes
    ----------
    label : str
        Of the metric.
    curves : list of Curve
        One per mode.
    minutes : list of tuple of (float, str)
        Ticks of the abscissa: place and text.
    values : list of tuple of (float, str)
        Ticks of the ordinate.
    summary : str
        The same in words.
    """

    label: str
    curves: list[Curve]
    minutes: list[tuple[float, str]]
    values: list[tuple[float, str]]
    summary: str


def interval(summary: Summary) -> tuple[float, float]:
    """Return the 95 % interval over scenes where these are known, else over clips."""
    return summary.ci95_scenes or summary.ci95


def in_order(points: Sequence[Point]) -> list[Point]:
    """Sort by minutes, then by mode as `ORDER` has them; other modes come last."""

    def key(point: Point) -> tuple[float, int, str, str]:
        place = ORDER.index(point.mode) if point.mode in ORDER else len(ORDER)
        return point.minutes, place, point.mode, point.run

    return sorted(points, key=key)


def minutes_table(metric: str, points: Sequence[Point]) -> TextTable:
    """Return one line per decoder, with a chart of values and intervals on one scale."""
    shown = [point for point in in_order(points) if metric in point.metrics]
    low, high = _range([interval(point.metrics[metric]) for point in shown])
    rows = []
    for point in shown:
        summary, difference = point.metrics[metric], point.differences.get(metric)
        ends = interval(summary)
        cells = ["", "", ""]
        if difference is not None:
            bounds = interval(difference.summary)
            cells = [
                signed(metric, difference.summary.mean),
                f"[{signed(metric, bounds[0])}, {signed(metric, bounds[1])}]",
                p_cell(difference.p),
            ]
        bar = _bar((*ends, summary.mean), low, high)
        value = f"{number(metric, summary.mean)} [{number(metric, ends[0])}, "
        value += f"{number(metric, ends[1])}]"
        rows.append((f"{point.minutes:g}", point.mode, value, bar, *cells))
    scale = f"{number(metric, low)} to {number(metric, high)}"
    columns = ("minutes", "mode", "value [95 %]", scale, "minus scratch", "[95 %]", "p")
    return TextTable(f"{label(metric)} over minutes of the subject's films", columns, tuple(rows))


def _bar(values: tuple[float, float, float], low: float, high: float) -> str:
    """Draw an interval and its mean with characters: ``  ├──●─┤``."""
    start, end, mean = (round((v - low) / (high - low) * (COLUMNS - 1)) for v in values)
    line = [" "] * start + ["─"] * (end - start + 1) + [" "] * (COLUMNS - 1 - end)
    line[start], line[end], line[mean] = "├", "┤", "●"
    return "".join(line)


def _range(bounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    low, high = min(b[0] for b in bounds), max(b[1] for b in bounds)
    return (low, high) if high > low else (low - 0.05, low + 0.05)


def drawings(points: Sequence[Point]) -> list[Drawing]:
    """Draw every metric of `METRICS` that a point has."""
    measured = [metric for metric in METRICS if any(metric in p.metrics for p in points)]
    return [drawing(metric, points) for metric in measured]


def drawing(metric: str, points: Sequence[Point]) -> Drawing:
    """Place a metric's values on a plane: minutes to the right, the metric upward.

    Parameters
    ----------
    metric : str
        A metric that at least one point has.
    points : sequence of Point
        In any order.
    """
    shown = [point for point in in_order(points) if metric in point.metrics]
    low, high = _range([interval(point.metrics[metric]) for point in shown])
    last = max(point.minutes for point in shown) or 1.0

    def x(minutes: float) -> float:
        return round(minutes / last * WIDTH, 1)

    def y(value: float) -> float:
        return round(HEIGHT * (1 - (value - low) / (high - low)), 1)

    curves = []
    for mode in dict.fromkeys(sorted((p.mode for p in shown), key=_place)):
        own = [point for point in shown if point.mode == mode]
        marks = []
        for point in own:
            summary = point.metrics[metric]
            bottom, top = interval(summary)
            marks.append((x(point.minutes), y(summary.mean), y(top), y(bottom)))
        curves.append(Curve(mode, " ".join(f"{mark[0]},{mark[1]}" for mark in marks), marks))
    ticks = sorted({point.minutes for point in shown})
    return Drawing(
        label(metric),
        curves,
        [(x(minutes), f"{minutes:g}") for minutes in ticks],
        [(y(value), number(metric, value)) for value in (low, (low + high) / 2, high)],
        "; ".join(
            f"{point.mode}, {point.minutes:g} min: {number(metric, point.metrics[metric].mean)}"
            for point in shown
        ),
    )


def _place(mode: str) -> int:
    return ORDER.index(mode) if mode in ORDER else len(ORDER)


def csv_rows(points: Sequence[Point]) -> list[tuple[object, ...]]:
    """Return the lines under `HEADER`, with six digits."""
    lines: list[tuple[object, ...]] = []
    for point in in_order(points):
        for metric, summary in point.metrics.items():
            values = [f"{v:.6g}" for v in (summary.mean, *interval(summary))]
            found = point.differences.get(metric)
            tested: list[object] = [""] * 5
            if found is not None:
                gap = (found.summary.mean, *interval(found.summary), found.p)
                tested = [*(f"{v:.6g}" for v in gap), found.units]
            where = (metric, point.mode, f"{point.minutes:g}", point.run)
            lines.append((*where, *values, summary.n, *tested))
    return lines
