"""How a metric is spread over the clips, drawn as bars beside the shuffled control's outline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neuroclips_cli.reporting.tables import label, number

BINS = 20
HEIGHT = 40.0


@dataclass(frozen=True)
class Histogram:
    """One metric over the clips, on a drawing 100 wide and `HEIGHT` high, y downward.

    Attributes
    ----------
    label : str
    low, high : str
        Ends of the axis.
    bars : list of tuple of float
        (x, y, width, height).
    outline : str
        Points of the control's steps; empty without one.
    summary : str
        The same in words.
    """

    label: str
    low: str
    high: str
    bars: list[tuple[float, float, float, float]]
    outline: str
    summary: str


def histograms(
    values: Mapping[str, np.ndarray], controls: Mapping[str, np.ndarray]
) -> list[Histogram]:
    """Draw every metric that any clip has a value of.

    Parameters
    ----------
    values, controls : mapping
        Metric -> float (clips,), NaN where a clip has none; ``controls`` may lack metrics.

    Returns
    -------
    list of Histogram
    """
    drawn = []
    for name, column in values.items():
        known = column[~np.isnan(column)]
        control = controls.get(name, np.empty(0))
        if len(known):
            drawn.append(_histogram(name, known, control[~np.isnan(control)]))
    return drawn


def _histogram(name: str, values: np.ndarray, control: np.ndarray) -> Histogram:
    both = np.concatenate([values, control])
    low, high = float(both.min()), float(both.max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    counts = [np.histogram(of, edges)[0] for of in (values, control)]
    unit, width = HEIGHT / max(count.max() for count in counts), 100 / BINS
    bars = [
        (round(place * width, 2), round(HEIGHT - unit * n, 2), width, round(unit * n, 2))
        for place, n in enumerate(counts[0])
        if n
    ]
    return Histogram(
        label(name),
        number(name, low),
        number(name, high),
        bars,
        _steps(counts[1] * unit, width) if len(control) else "",
        _summary(name, values, control),
    )


def _steps(heights: np.ndarray, width: float) -> str:
    """Return the points of a line over the tops of bars that are not drawn."""
    places = [
        f"{x:.2f},{HEIGHT - height:.2f}"
        for place, height in enumerate(heights)
        for x in (place * width, (place + 1) * width)
    ]
    return " ".join([f"0,{HEIGHT:.2f}", *places, f"100,{HEIGHT:.2f}"])


def _summary(name: str, values: np.ndarray, control: np.ndarray) -> str:
    low, middle, high = (number(name, q) for q in np.percentile(values, [25, 50, 75]))
    said = f"median {middle}, middle half {low} to {high}"
    if len(control):
        said += f"; control {number(name, float(np.median(control)))}"
    return said
