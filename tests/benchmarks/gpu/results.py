"""What was measured: one record per row, written after each, and a table that fits a screen."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from neuroclips_cli.settings.load import load_settings
from tests.benchmarks.gpu.cases import SCALED
from tests.benchmarks.gpu.work import PROFILES

COUNTS = Path(__file__).with_name("counts.json")
"""Operations, bytes and computed memory of every case at full size; ``--device meta`` writes it."""
LONGEST = 11_000
"""Characters of the table."""


@dataclass
class Row:
    """One case in one precision.

    Attributes
    ----------
    case, mode : str
        Which.
    items : int
        Clips, images or frames in one call.
    seconds : float
        Of one call, median; 0 where it failed.
    spread : float
        (slowest - fastest) / median.
    calls : int
        Timed ones.
    rate : float
        Operations per second; 0 where they were not counted.
    of_peak : float
        Share of the card's measured product in this precision, 0..1.
    memory, computed : int
        Largest allocation, and what the package computes for it, in bytes; 0: unknown.
    idle : float or None
        Share of the time in which the device did nothing, 0..1.
    error : str
        Why there is no figure.
    """

    case: str
    mode: str
    items: int = 0
    seconds: float = 0.0
    spread: float = 0.0
    calls: int = 0
    rate: float = 0.0
    of_peak: float = 0.0
    memory: int = 0
    computed: int = 0
    idle: float | None = None
    error: str = ""

    @property
    def each(self) -> float:
        """Seconds for one item."""
        return self.seconds / max(self.items, 1)


@dataclass
class Results:
    """All rows of a run, and the file that holds them.

    Attributes
    ----------
    machine : dict
        Card, driver, versions, size.
    peaks : dict
        See :func:`tests.benchmarks.gpu.timing.ceilings`.
    out : Path, optional
        JSON, replaced after each row.
    """

    machine: dict[str, str]
    peaks: dict[str, float] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    out: Path | None = None

    def add(self, row: Row) -> None:
        """Keep a row, and write all of them."""
        self.rows.append(row)
        said = row.error or f"{1e3 * row.seconds:.1f} ms"
        print(f"{row.case}, {row.mode}: {said}", flush=True)
        self.write()

    def write(self) -> None:
        """Replace the file."""
        if self.out is None:
            return
        content = {
            "machine": self.machine,
            "peaks": self.peaks,
            "rows": [asdict(row) for row in self.rows],
            "scaled": self.scaled(),
        }
        there = self.out.with_suffix(".part")
        there.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(there, self.out)

    def scaled(self) -> dict[str, dict[str, float]]:
        """Seconds for one keyframe and one clip, put together from their timed parts."""
        chosen = load_settings({"run.profile": PROFILES[self.machine["size"]]}, environ={})
        found: dict[str, dict[str, float]] = {}
        for what, parts in SCALED.items():
            for mode in dict.fromkeys(row.mode.split(",")[0] for row in self.rows):
                total = 0.0
                for case, times in parts:
                    often = getattr(chosen.reconstruct, times) if times else 1
                    each = self._each(case, mode)
                    total = total + often * each if each else float("nan")
                if total == total:
                    found.setdefault(what, {})[mode] = total
        return found

    def _each(self, case: str, mode: str) -> float:
        """Seconds for one item; the released way counts under one name whatever its precision."""
        for row in self.rows:
            if row.case == case and row.seconds and row.mode.split(",")[0] == mode:
                return row.each
        return 0.0

    def table(self) -> str:
        """Return what was measured as text of at most ``LONGEST`` characters."""
        lines = [", ".join(f"{name} {value}" for name, value in self.machine.items())]
        rates = [f"{k} {v / 1e12:.0f} TFLOP/s" for k, v in self.peaks.items() if k != "copy"]
        lines.append(
            f"measured peaks: {', '.join(rates)}; copy {self.peaks.get('copy', 0) / 1e12:.2f} TB/s"
        )
        lines.append(
            f"{'mode':18} {'items':>5} {'ms':>9} {'ms/item':>9} {'spread':>6} {'TFLOP/s':>7} "
            f"{'peak%':>5} {'GB':>5} {'comp.':>5} {'x rel.':>6} {'idle%':>5}"
        )
        for case in dict.fromkeys(row.case for row in self.rows):
            lines.append(case)
            lines += [self._line(row) for row in self.rows if row.case == case]
        for what, modes in self.scaled().items():
            shown = ", ".join(f"{mode} {seconds:.2f}" for mode, seconds in modes.items())
            lines.append(f"one {what}, scaled from its timed parts, s: {shown}")
        text = "\n".join(lines)
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]}\n..."

    def _line(self, row: Row) -> str:
        if row.error:
            return f"{row.mode:18} {row.error[:80]}"
        theirs = 0.0 if row.mode.startswith("released") else self._each(row.case, "released")
        cells: list[tuple[Any, str, int]] = [
            (row.items, "d", 5),
            (1e3 * row.seconds, ".2f", 9),
            (1e3 * row.each, ".3f", 9),
            (row.spread, ".2f", 6),
            (row.rate / 1e12, ".1f", 7),
            (100 * row.of_peak, ".0f", 5),
            (row.memory / 1e9, ".1f", 5),
            (row.computed / 1e9, ".1f", 5),
            (theirs / row.each, ".2f", 6),
        ]
        shown = [
            f"{value:>{width}{kind}}" if value else " " * width for value, kind, width in cells
        ]
        idle = "" if row.idle is None else f"{100 * row.idle:.0f}"
        return f"{row.mode:18} {' '.join(shown)} {idle:>5}".rstrip()


def read_counts(size: str) -> dict[str, dict[str, Any]]:
    """Return what was counted for every case; nothing at tiny size."""
    if size != "full" or not COUNTS.is_file():
        return {}
    counted: dict[str, dict[str, Any]] = json.loads(COUNTS.read_text(encoding="utf-8"))
    return counted
