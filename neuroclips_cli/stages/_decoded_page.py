"""The page and the contact sheet of decoded clips: what was decoded, and when it was shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neuroclips_cli.io.csv import read_csv
from neuroclips_cli.io.npy import read_array
from neuroclips_cli.reporting.clips import ShownClip
from neuroclips_cli.reporting.contact_sheet import contact_sheet
from neuroclips_cli.reporting.html import render_decoded
from neuroclips_cli.runs.stage import Stage

ON_SHEET = 12
"""Rows of the contact sheet, evenly spaced over the clips."""


def write_pages(stage: Stage, scans: str) -> None:
    """Write ``index.html`` and ``contact_sheet.png`` of a stage that holds decoded clips.

    Parameters
    ----------
    stage : Stage
        With ``index.npy``, ``clips.npy`` and ``clips.csv``; keyframes, blurry clips and captions
        are shown where they are there.
    scans : str
        What was decoded, for the page.
    """
    folder = stage.folder
    numbers, clips = read_array(folder / "index.npy"), read_array(folder / "clips.npy")
    blurry, keyframes = (_optional(folder / f"{name}.npy") for name in ("blurry", "keyframes"))
    table, captions = read_csv(folder / "clips.csv"), _captions(folder / "captions.csv")
    shown = [_shown(line) for line in table]
    places = np.unique(np.linspace(0, len(numbers) - 1, ON_SHEET).round().astype(int))
    sheet = [
        ShownClip(
            number=int(numbers[row]),
            kind=shown[row],
            gt=None,
            pred=np.asarray(clips[row]),
            blurry=None if blurry is None else np.asarray(blurry[row]),
            keyframe=None if keyframes is None else np.asarray(keyframes[row]),
            caption=captions.get(int(numbers[row]), ""),
            true_caption="",
            scores={},
        )
        for row in places
    ]
    with stage.atomic("contact_sheet.png") as path:
        contact_sheet(sheet).save(path, "PNG", optimize=True)
    header = ("shown at (s)", "volume of its response", *(("caption",) if captions else ()))
    rows = []
    for row, number in enumerate(numbers.tolist()):
        still = None if keyframes is None else np.asarray(keyframes[row])
        said: Sequence[str] = (captions.get(number, ""),) if captions else ()
        rows.append((number, still, (table[row]["onset_s"], table[row]["volume"], *said)))
    title = f"{folder.parent.name} {folder.name}"
    text = render_decoded(title, f"{len(rows)} clips decoded from {scans}", header, rows)
    stage.write_text("index.html", text)


def _shown(line: dict[str, str]) -> str:
    volume = f", volume {line['volume']}" if line["volume"] else ""
    return f"{line['onset_s']} s{volume}"


def _optional(path: Path) -> np.ndarray | None:
    return read_array(path) if path.exists() else None


def _captions(path: Path) -> dict[int, str]:
    rows = read_csv(path) if path.exists() else []
    return {int(row["clip"]): row["caption"] for row in rows}
