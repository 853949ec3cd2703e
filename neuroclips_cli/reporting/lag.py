"""The lag scan of ``preprocess`` as a drawing: decoding against the delay of the responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuroclips_cli.reporting.minutes import HEIGHT, WIDTH


@dataclass(frozen=True)
class LagDrawing:
    """Decoding against delay, on a plane of `WIDTH` by `HEIGHT`, y downward.

    Attributes
    ----------
    points : str
        ``x,y`` pairs of the line.
    marks : list of tuple of float
        (x, y) of the scanned delays.
    best, configured : float
        x of the delay that decodes best, and of the one that the run has.
    nothing : float
        y below which no delay decodes: two standard errors above 0.
    delays, values : list of tuple of (float, str)
        Ticks of the abscissa and of the ordinate: place and text.
    summary : str
        The same in words.
    """

    points: str
    marks: list[tuple[float, float]]
    best: float
    configured: float
    nothing: float
    delays: list[tuple[float, str]]
    values: list[tuple[float, str]]
    summary: str


def drawing(scan: Mapping[str, Any], delay_s: float) -> LagDrawing:
    """Draw a lag scan.

    Parameters
    ----------
    scan : mapping
        ``delays_s``, ``correlation``, ``best_s`` and ``error``, as ``preprocess`` notes them.
    delay_s : float
        The delay that the run's responses are read at, in s.

    Examples
    --------
    >>> from neuroclips_cli.reporting.lag import drawing
    >>> scan = {"delays_s": [0, 2, 4], "correlation": [0.0, 0.5, 0.25], "best_s": 2.5, "error": 0.1}
    >>> drawing(scan, 4.0).points
    '0.0,160.0 160.0,0.0 320.0,80.0'
    >>> drawing(scan, 4.0).summary
    'Decoded best 2.5 s after a clip (0.50); at the delay of 4 s 0.25; nothing below 0.20.'
    """
    delays, found, nothing = scan["delays_s"], scan["correlation"], 2 * scan["error"]
    last = max(*delays, delay_s)
    low, high = min(0.0, *found), max(*found, nothing)

    def x(seconds: float) -> float:
        return round(seconds / last * WIDTH, 1)

    def y(value: float) -> float:
        return round(HEIGHT * (1 - (value - low) / (high - low)), 1)

    marks = [(x(seconds), y(value)) for seconds, value in zip(delays, found, strict=True)]
    here = float(np.interp(delay_s, delays, found))
    every = max(1, -(-len(delays) // 11))
    return LagDrawing(
        points=" ".join(f"{one},{other}" for one, other in marks),
        marks=marks,
        best=x(scan["best_s"]),
        configured=x(delay_s),
        nothing=y(nothing),
        delays=[(x(seconds), f"{seconds:g} s") for seconds in delays[::every]],
        values=[(y(value), f"{value:.2f}") for value in (low, (low + high) / 2, high)],
        summary=(
            f"Decoded best {scan['best_s']:.1f} s after a clip ({max(found):.2f}); at the delay of "
            f"{delay_s:g} s {here:.2f}; nothing below {nothing:.2f}."
        ),
    )
