"""Stage ``report``: one self-contained HTML file and a contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from neuroclips_cli import console
from neuroclips_cli.errors import UserError
from neuroclips_cli.reporting import clips as shown
from neuroclips_cli.reporting.comparison import ComparedRun
from neuroclips_cli.reporting.contact_sheet import contact_sheet
from neuroclips_cli.reporting.gallery import gallery
from neuroclips_cli.reporting.headline import headline, in_words
from neuroclips_cli.reporting.html import BrainMaps, ReportContent, render
from neuroclips_cli.reporting.minutes import Point
from neuroclips_cli.runs.pipeline import BY_NAME
from neuroclips_cli.runs.stage import (
    open_stage,
    read_array,
    read_csv,
    read_json,
    require_upstream,
    run_folder,
    stage_state,
)
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.stages import _control_names, _over_minutes, compare

SHOWN_CHAINS = 6
RULE = (
    "Six clips drawn at random with the run's seed; then, of the others, two of the best, two "
    "around the median and two of the worst, by the mean rank of frame accuracy, video accuracy "
    "and SSIM."
)
"""How the clips at the top of the page are chosen."""
IN_WORDS = 3
"""Clips whose captions the manifest, and with it the end of the demo, repeats."""
VARIANTS = ("evaluate-without-", "evaluate-captioner-", "evaluate-fuse")
"""Beginnings of the evaluations of ablations, of another captioner, and of clips after fusion."""
CONTROL = "evaluate-control-"
SHUFFLED = "this run's clips given to other clips' films"
PARTS = {
    "ablations": "neuroclips reconstruct --without keyframe, then evaluate --run "
    "reconstruct-without-keyframe",
    "controls": "neuroclips controls",
    "brain maps": "neuroclips interpret",
    "fused clips": "neuroclips fuse",
}
"""What a report can show beyond a run's clips and metrics, and what makes it."""


def run(settings: Settings, *, overwrite: bool = False) -> Path:
    """Write ``report/index.html`` and ``report/contact_sheet.png``.

    Parameters
    ----------
    settings : Settings
        The run folder is all that matters of them.
    overwrite : bool
        Write again even if nothing changed.

    Raises
    ------
    UserError
        If preprocess, reconstruct or evaluate is missing or unfinished. Fused chains, ablations,
        controls and brain maps are shown where they are there.
    """
    inputs = require_upstream(settings, "report")
    home = run_folder(settings)
    found = [path.name for kind in (*VARIANTS, CONTROL) for path in home.glob(f"{kind}*")]
    for stage in (*BY_NAME["report"].uses, *sorted(found)):
        if stage_state(settings, stage)[0] == "done":
            inputs[stage] = home / stage
    decoders = _over_minutes.find(settings)
    if len(decoders) > 1:
        inputs |= {f"decoder {one.name}": one.results for one in decoders}
    with open_stage(settings, "report", inputs=inputs, overwrite=overwrite) as stage_:
        if not stage_.up_to_date:
            content = _collect(settings, inputs)
            stage_.write_text("index.html", render(content))
            with stage_.atomic("contact_sheet.png") as path:
                contact_sheet(content.clips).save(path, "PNG", optimize=True)
            size = (stage_.folder / "index.html").stat().st_size
            stage_.fact("bytes", size)
            stage_.fact("headline", headline(content.result, content.controls))
            stage_.fact("lag_scan", content.lag and {**content.lag, "delay_s": content.delay_s})
            stage_.fact("in_words", in_words(content.clips[:IN_WORDS]))
            console.info(f"report: {stage_.folder / 'index.html'} ({size / 1e6:.1f} MB)")
        return stage_.folder


def _collect(settings: Settings, inputs: Mapping[str, Path]) -> ReportContent:
    record = read_json(inputs["reconstruct"] / "manifest.json")
    evaluated = read_json(inputs["evaluate"] / "manifest.json")
    data = record["settings"]["data"]
    frames = read_array(inputs["preprocess"] / "frames_test.npy")
    scores = _scores(inputs["evaluate"])
    shuffled = _scores(inputs["evaluate"], "shuffled_")
    names = [name for name in map(CONTROL.__add__, _control_names.NAMES) if name in inputs]
    measured_with = ["evaluate" + compare.SHUFFLED] if shuffled else []
    tested = _against(settings, [*measured_with, *names], CONTROL)
    ablated = _against(settings, [n for n in inputs if n.startswith(VARIANTS)], "evaluate-")
    brain, chains = _brain(inputs), _chains(inputs, frames)
    film = _film(inputs, frames, scores)
    chosen = shown.select(shown.combined_score(scores), seed=record["settings"]["run"]["seed"])
    there = (ablated, names, brain, chains)
    return ReportContent(
        title=inputs["evaluate"].parent.name,
        result=read_json(inputs["evaluate"] / "metrics.json"),
        scores=scores,
        shuffled=shuffled,
        ablations=ablated,
        controls=tested,
        explained={"shuffled": SHUFFLED} | _control_names.QUICK | _control_names.GENERATED,
        brain=brain,
        missing={
            name: how for (name, how), found in zip(PARTS.items(), there, strict=True) if not found
        },
        clips=[_shown(film, row, kind) for row, kind in chosen],
        rule=RULE if len(chosen) < len(film.index) else "",
        gallery=_gallery(film, data["clip_s"]),
        metrics=list(scores),
        minutes=_minutes(settings, inputs),
        lag=_lag_scan(inputs),
        delay_s=data["delay_s"],
        chains=chains,
        clip_s=data["clip_s"],
        frame_fps=frames.shape[1] / data["clip_s"],
        settings=evaluated["settings"],
        versions={"neuroclips": evaluated["tool"]["version"], **evaluated["libraries"]},
        made=evaluated["end"] or "",
    )


def _lag_scan(inputs: Mapping[str, Path]) -> dict[str, Any] | None:
    found: dict[str, Any] | None = (
        read_json(inputs["preprocess"] / "manifest.json")["facts"].get("lag_scan") or None
    )
    return found


def _minutes(settings: Settings, inputs: Mapping[str, Path]) -> list[Point]:
    """Return results over minutes of the subject's films, where several decoders have some."""
    if not any(name.startswith("decoder ") for name in inputs):
        return []
    try:
        return compare.minutes_points(settings)
    except UserError as error:
        console.warn(f"no curve over minutes: {error}")
        return []


def _against(
    settings: Settings, names: Sequence[str], prefix: str
) -> list[tuple[str, list[ComparedRun]]]:
    """Compare the run with others of its folder; one measured in another way is left out."""
    found = []
    for name in names:
        try:
            pair = compare.paired(settings, ["evaluate", name]).runs
        except UserError as error:
            console.warn(f"the report leaves {name} out: {error}")
            continue
        found.append((name.removeprefix(prefix).removeprefix("evaluate:"), pair))
    return found


def _brain(inputs: Mapping[str, Path]) -> BrainMaps | None:
    if "interpret" not in inputs:
        return None

    picture, areas = (inputs["interpret"] / name for name in ("weights.png", "areas.csv"))
    return BrainMaps(
        np.asarray(Image.open(picture).convert("RGB")) if picture.exists() else None,
        read_csv(areas) if areas.exists() else [],
    )


@dataclass(frozen=True)
class _Film:
    """Arrays and captions of every reconstructed clip; row by row, or by the clip's number."""

    index: np.ndarray
    gt: np.ndarray
    pred: np.ndarray
    blurry: np.ndarray | None
    keyframes: np.ndarray | None
    captions: Mapping[int, str]
    true_captions: Mapping[int, str]
    scores: Mapping[str, np.ndarray]


def _film(
    inputs: Mapping[str, Path], frames: np.ndarray, scores: Mapping[str, np.ndarray]
) -> _Film:
    folder = inputs["reconstruct"]
    blurry, keyframes = (_optional(folder / f"{name}.npy") for name in ("blurry", "keyframes"))
    table = read_csv(inputs["preprocess"] / "clips.csv")
    return _Film(
        index=read_array(folder / "index.npy"),
        gt=frames,
        pred=read_array(folder / "clips.npy"),
        blurry=blurry,
        keyframes=keyframes,
        captions=_captions(folder / "captions.csv"),
        true_captions={
            int(row["clip"]): row.get("caption", "") for row in table if row["split"] == "test"
        },
        scores=scores,
    )


def _shown(film: _Film, row: int, kind: str) -> shown.ShownClip:
    number = int(film.index[row])
    return shown.ShownClip(
        number=number,
        kind=kind,
        gt=np.asarray(film.gt[number]),
        pred=np.asarray(film.pred[row]),
        blurry=None if film.blurry is None else np.asarray(film.blurry[row]),
        keyframe=None if film.keyframes is None else np.asarray(film.keyframes[row]),
        caption=film.captions.get(number, ""),
        true_caption=film.true_captions.get(number, ""),
        scores={name: float(values[row]) for name, values in film.scores.items()},
    )


def _gallery(film: _Film, clip_s: float) -> list[dict[str, object]]:
    rows = range(len(film.index))
    return gallery([partial(_shown, film, row, "") for row in rows], list(film.scores), clip_s)


def _scores(folder: Path, prefix: str = "") -> dict[str, np.ndarray]:
    """Return the metrics of every clip, as ``per_clip.csv`` has them; retrieval left out."""
    rows = read_csv(folder / "per_clip.csv")
    names = [
        name
        for name in read_json(folder / "metrics.json")["metrics"]
        if not name.startswith("retrieval") and prefix + name in rows[0]
    ]
    return {name: np.array([float(row[prefix + name] or "nan") for row in rows]) for name in names}


def _chains(inputs: Mapping[str, Path], frames: np.ndarray) -> list[shown.ShownChain]:
    """Return the longest chains of more than one scan, evenly spaced where there are many."""
    if "fuse" not in inputs:
        return []
    films = read_array(inputs["fuse"] / "clips.npy")
    rows = read_csv(inputs["fuse"] / "chains.csv")
    members: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        members.setdefault(int(row["chain"]), []).append(row)
    longest = max(len(chain) for chain in members.values())
    chosen = [chain for chain, of in members.items() if len(of) == longest and longest > 1]
    places = np.unique(np.linspace(0, len(chosen) - 1, SHOWN_CHAINS).round().astype(int))
    result = []
    for chain in [chosen[place] for place in places] if chosen else []:
        numbers = [int(row["clip"]) for row in members[chain]]
        length = sum(int(row["frames"]) for row in members[chain])
        gt = np.concatenate([frames[number] for number in numbers])
        result.append(shown.ShownChain(numbers, gt, np.asarray(films[chain][:length])))
    return result


def _optional(path: Path) -> np.ndarray | None:
    return read_array(path) if path.exists() else None


def _captions(path: Path) -> dict[int, str]:
    if not path.exists():
        return {}
    return {int(row["clip"]): row["caption"] for row in read_csv(path)}
