"""Stage ``evaluate``: the paper's seven metrics and more, retrieval, and their controls."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neuroclips_cli import artifacts, console, disk
from neuroclips_cli.config import Settings
from neuroclips_cli.data import clip_table
from neuroclips_cli.data.clips import FolderClips, list_clips, open_clips
from neuroclips_cli.data.panels import position
from neuroclips_cli.errors import UserError
from neuroclips_cli.metrics.resample import ArrayClips
from neuroclips_cli.reporting import results, tables
from neuroclips_cli.stages.judging import (
    JUDGES,
    assemble,
    noise_ceiling,
    retrieval,
    score,
    with_captions,
)
from neuroclips_cli.stages.judging import load_judges as _load_judges
from neuroclips_cli.stages.pairing import (
    at_rate,
    check_lengths,
    match,
    rate,
    say_resampling,
    under_protocol,
)


def run(settings: Settings, *, run: str = "reconstruct", overwrite: bool = False) -> Path:
    """Measure a run's reconstructions against the films.

    Parameters
    ----------
    settings : Settings
        ``evaluate`` is the protocol, ``backbones`` the judges.
    run : str
        The reconstruction: ``reconstruct``, or ``reconstruct-without-blurry`` and the like,
        which is then measured into ``evaluate-without-blurry``.
    overwrite : bool
        Measure again even if nothing changed.

    Returns
    -------
    Path
        The stage folder with ``metrics.json`` and ``per_clip.csv``.

    Raises
    ------
    UserError
        If the reconstruction is missing or is no reconstruction.
    """
    if run != "reconstruct" and not run.startswith("reconstruct-"):
        raise UserError(
            f"'{run}' is not a reconstruction: --run takes reconstruct or "
            "reconstruct-without-<keyframe|blurry>"
        )
    name = "evaluate" + run.removeprefix("reconstruct")
    settings = under_protocol(settings)
    made = artifacts.require_stage(settings, run, name)
    data = artifacts.require_stage(settings, "preprocess", name)
    with artifacts.open_stage(
        settings,
        name,
        sections=["evaluate"],
        inputs={"reconstruct": made, "preprocess": data},
        overwrite=overwrite,
        extra={judge: getattr(settings.backbones, judge) for judge in JUDGES}
        | {"precision": settings.run.precision},
    ) as stage:
        if not stage.up_to_date:
            result, header, rows = _measure_run(settings, made, data)
            stage.write_csv("per_clip.csv", header, rows)
            stage.write_json("metrics.json", result)
            stage.fact("clips", result["protocol"]["n"])
        folder = stage.folder
    show(artifacts.read_json(folder / "metrics.json"), f"{folder.parent.name}: {run}")
    return folder


def run_pair(
    settings: Settings,
    pred: Path,
    gt: Path,
    out: Path,
    *,
    panels: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Measure any set of clips against any other, brought to the protocol's rate and size.

    Parameters
    ----------
    settings : Settings
        ``evaluate`` is the protocol, ``backbones`` the judges.
    pred, gt : Path
        Folders of clips with matching names (mp4, mkv, avi, webm, gif, or folders of png), or
        ``.npy`` files, uint8 (clips, frames, h, w, 3).
    out : Path
        Folder for ``metrics.json`` and ``per_clip.csv``.
    panels : str, optional
        ``gt|pred`` or ``pred|gt``: each clip shows both side by side, and ``pred`` and ``gt`` are
        the same folder.
    overwrite : bool
        Replace earlier results in ``out``.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    UserError
        If the sets do not match, a clip cannot be read, or ``out`` holds results already.
    """
    if (out / "metrics.json").exists() and not overwrite:
        raise UserError(
            f"{out} already holds a metrics.json: choose another folder, or --overwrite"
        )
    settings = under_protocol(settings)
    left, right = match(list_clips(pred, "--pred"), list_clips(gt, "--gt"), pred, gt)
    clip_s, fps, size = settings.data.clip_s, settings.evaluate.fps, settings.evaluate.size
    place = {which: position(panels, which) if panels else None for which in ("pred", "gt")}
    made = open_clips(
        pred, left, "--pred", clip_s=clip_s, target_fps=fps, size=size, panel=place["pred"]
    )
    true = open_clips(
        gt, right, "--gt", clip_s=clip_s, target_fps=fps, size=size, panel=place["gt"]
    )
    sets: dict[str, tuple[ArrayClips | FolderClips, list[str]]]
    sets = {"--pred": (made, list(left)), "--gt": (true, list(right))}
    shapes = {option: clips.shapes() for option, (clips, _) in sets.items()}
    fps = rate(settings, *(min(shape.fps for shape in of) for of in shapes.values()))
    settings, made, true = at_rate(settings, fps, made, true)
    say_resampling(settings, {o: (shapes[o], names) for o, (_, names) in sets.items()})
    scenes = clip_table.block_labels(len(made), clip_s)
    scores = score(settings, made, true, _load_judges(settings), scenes and scenes[0])
    result = assemble(settings, scores, None, scenes)
    result["protocol"] |= {"pred": str(pred), "gt": str(gt), "panels": panels}
    labels = [{"scene": label} for label in scenes[0]] if scenes else [{}] * len(made)
    about = [{"clip": name, **label} for name, label in zip(left, labels, strict=True)]
    header, rows = results.per_clip(scores, None, about)
    disk.write_text(out / "per_clip.csv", results.as_csv(header, rows))
    disk.write_json(out / "metrics.json", result)
    show(result, f"{pred} against {gt}")
    return out


def show(result: Mapping[str, Any], title: str) -> None:
    """Print the metric table and what must be known to read it."""
    protocol = result["protocol"]
    said = f"{protocol['n']} clips, protocol {protocol.get('protocol', 'standard')}"
    console.table(f"{title} ({said})", *tables.text_table(result))
    for note in tables.notes(result):
        console.info(note)


def _measure_run(
    settings: Settings, made: Path, data: Path
) -> tuple[dict[str, Any], list[str], list[list[Any]]]:
    clips = artifacts.read_array(made / "clips.npy")
    index = np.asarray(artifacts.read_array(made / "index.npy"))
    frames = artifacts.read_array(data / "frames_test.npy")
    record = artifacts.read_json(made / "manifest.json")["settings"]["reconstruct"]
    judges = _load_judges(settings)
    truth_fps = frames.shape[1] / settings.data.clip_s
    size, fps = settings.evaluate.size, rate(settings, record["fps"], truth_fps)
    settings, pred, gt = at_rate(
        settings,
        fps,
        ArrayClips(clips, np.arange(len(clips)), record["fps"], fps, size),
        ArrayClips(frames, index, truth_fps, fps, size),
    )
    kinds = {"the reconstruction": pred.shapes(), "the film": gt.shapes()}
    check_lengths(fps, {what: (shapes, ["a clip"] * len(index)) for what, shapes in kinds.items()})
    table = [row for row in artifacts.read_csv(data / "clips.csv") if row["split"] == "test"]
    chosen = [table[int(i)] for i in index]
    scenes = clip_table.scene_labels(chosen)
    scores = score(settings, pred, gt, judges, scenes and scenes[0])
    scores = with_captions(settings, scores, made, chosen, judges)
    found = retrieval(settings, made, frames, index, judges)
    result = assemble(settings, scores, found, scenes)
    result["controls"]["noise_ceiling"] = noise_ceiling(data)
    result["cuts"] = results.by_cuts(scores, [row["crosses_scene"] for row in chosen])
    result["protocol"]["blur_init"] = record["blur_init"]
    if scenes:
        chosen = [row | {"scene": label} for row, label in zip(chosen, scenes[0], strict=True)]
    header, rows = results.per_clip(scores, found, chosen)
    return result, header, rows
