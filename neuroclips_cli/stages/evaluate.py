"""Stage ``evaluate``: the seven metrics of the paper's Table 1, retrieval, and their controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from neuroclips_cli import artifacts, console, disk
from neuroclips_cli.config import Settings
from neuroclips_cli.data.clips import FolderClips, list_clips, open_clips
from neuroclips_cli.data.panels import position
from neuroclips_cli.errors import UserError
from neuroclips_cli.metrics import suite
from neuroclips_cli.metrics.controls import split_half_reliability
from neuroclips_cli.metrics.identification import KeyframeTokens, Retrieval, retrieve
from neuroclips_cli.metrics.resample import ArrayClips, ClipShape, frame_count
from neuroclips_cli.reporting import results, tables

JUDGES = ("image_classifier", "video_classifier", "clip")


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
    made = artifacts.require_stage(settings, run, name)
    data = artifacts.require_stage(settings, "preprocess", name)
    with artifacts.open_stage(
        settings,
        name,
        sections=["evaluate"],
        inputs={"reconstruct": made, "preprocess": data},
        overwrite=overwrite,
        extra={judge: getattr(settings.backbones, judge) for judge in JUDGES},
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
    left, right = _match(list_clips(pred, "--pred"), list_clips(gt, "--gt"), pred, gt)
    clip_s, fps, size = settings.data.clip_s, settings.evaluate.fps, settings.evaluate.size
    place = {which: position(panels, which) if panels else None for which in ("pred", "gt")}
    made = open_clips(
        pred, left, "--pred", clip_s=clip_s, target_fps=fps, size=size, panel=place["pred"]
    )
    true = open_clips(
        gt, right, "--gt", clip_s=clip_s, target_fps=fps, size=size, panel=place["gt"]
    )
    _say_resampling(settings, {"--pred": (made, list(left)), "--gt": (true, list(right))})
    scores = _scores(settings, made, true, _load_judges(settings))
    result = _assemble(settings, scores, None, None)
    result["protocol"] |= {"pred": str(pred), "gt": str(gt), "panels": panels}
    header, rows = results.per_clip(scores, None, [{"clip": name} for name in left])
    disk.write_text(out / "per_clip.csv", results.as_csv(header, rows))
    disk.write_json(out / "metrics.json", result)
    show(result, f"{pred} against {gt}")
    return out


def show(result: Mapping[str, Any], title: str) -> None:
    """Print the metric table and what must be known to read it."""
    rows = [row.cells() for row in tables.metric_rows(result)]
    console.table(f"{title} ({result['protocol']['n']} clips)", tables.COLUMNS, rows)
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
    protocol = settings.evaluate
    pred = ArrayClips(clips, np.arange(len(clips)), record["fps"], protocol.fps, protocol.size)
    truth_fps = frames.shape[1] / settings.data.clip_s
    gt = ArrayClips(frames, index, truth_fps, protocol.fps, protocol.size)
    scores = _scores(settings, pred, gt, judges)
    found = _retrieval(settings, made, frames, index, judges)
    table = [row for row in artifacts.read_csv(data / "clips.csv") if row["split"] == "test"]
    chosen = [table[int(i)] for i in index]
    scenes = [row.get("scene", "") for row in chosen]
    result = _assemble(settings, scores, found, np.array(scenes) if all(scenes) else None)
    result["controls"]["noise_ceiling"] = _noise_ceiling(data)
    result["protocol"]["blur_init"] = record["blur_init"]
    header, rows = results.per_clip(scores, found, chosen)
    return result, header, rows


def _load_judges(settings: Settings) -> suite.Judges:
    from neuroclips_cli.backbones.classifiers import load_image_classifier, load_video_classifier
    from neuroclips_cli.backbones.clip import load_clip
    from neuroclips_cli.backbones.loading import choose_device

    device, names = choose_device(settings.run.device), settings.backbones
    image = load_image_classifier(names.image_classifier, device)
    video = load_video_classifier(names.video_classifier, device)
    for ref, classifier in ((names.image_classifier, image), (names.video_classifier, video)):
        if classifier.classes < max(settings.evaluate.ways):
            raise UserError(
                f"the classifier '{ref}' knows {classifier.classes} classes, too few for a "
                f"{max(settings.evaluate.ways)}-way test: lower ways in [evaluate] of "
                "neuroclips.toml"
            )
    return suite.Judges(image=image, video=video, clip=load_clip(names.clip, device))


def _scores(
    settings: Settings,
    pred: ArrayClips | FolderClips,
    gt: ArrayClips | FolderClips,
    judges: suite.Judges,
) -> suite.Scores:
    protocol = settings.evaluate
    plan = suite.Plan(protocol.ways, protocol.batch_size, protocol.shuffles, settings.run.seed)
    with console.progress("measuring clips", suite.steps(len(pred), plan)) as advance:
        return suite.measure(pred, gt, judges, plan, advance)


def _retrieval(
    settings: Settings, made: Path, frames: np.ndarray, index: np.ndarray, judges: suite.Judges
) -> Retrieval | None:
    path = made / "tokens_brain.npy"
    if not path.exists() or len(index) < 2:
        console.info("no retrieval: it needs tokens_brain.npy and at least two clips")
        return None
    with console.progress("measuring retrieval", len(index)) as advance:
        return retrieve(
            artifacts.read_array(path),
            KeyframeTokens(frames, index, judges.clip, advance),
            settings.evaluate.retrieval_part,
            shuffles=settings.evaluate.shuffles,
            seed=settings.run.seed,
            block=settings.evaluate.batch_size,
        )


def _assemble(
    settings: Settings, scores: suite.Scores, found: Retrieval | None, scenes: np.ndarray | None
) -> dict[str, Any]:
    judges = {judge: getattr(settings.backbones, judge) for judge in JUDGES}
    return results.assemble(settings.evaluate, judges, settings.run.seed, scores, found, scenes)


def _noise_ceiling(data: Path) -> dict[str, Any]:
    facts = split_half_reliability(artifacts.read_array(data / "fmri_test_repetitions.npy"))
    return {
        "split_half_r": None if isnan(facts["split_half_r"]) else facts["split_half_r"],
        "spearman_brown_r": None if isnan(facts["spearman_brown_r"]) else facts["spearman_brown_r"],
        "voxels": int(facts["voxels"]),
        "repetitions": int(facts["repetitions"]),
        "what": "correlation over test clips of even- with odd-numbered repetitions, median voxel",
    }


def _match(
    left: dict[str, Path | int], right: dict[str, Path | int], pred: Path, gt: Path
) -> tuple[dict[str, Path | int], dict[str, Path | int]]:
    """Pair two sets by name; a set that is an array has no names and is paired in order."""
    unnamed = any(isinstance(entry, int) for entry in (*left.values(), *right.values()))
    if unnamed:
        if len(left) != len(right):
            raise UserError(
                f"--pred {pred} holds {len(left)} clips and --gt {gt} holds {len(right)}: an "
                "array is paired in order, so both must hold the same number"
            )
        console.info(f"{len(left)} pairs, matched in order")
        return left, right
    extra = {
        "--pred": sorted(left.keys() - right.keys()),
        "--gt": sorted(right.keys() - left.keys()),
    }
    if any(extra.values()):
        said = [
            f"only in {option}: {', '.join(names[:8])}" + (" ..." if len(names) > 8 else "")
            for option, names in extra.items()
            if names
        ]
        raise UserError(
            f"the clips of --pred {pred} and --gt {gt} must have the same names "
            f"({'; '.join(said)}): rename or remove these"
        )
    console.info(f"{len(left)} pairs, matched by name")
    return left, {name: right[name] for name in left}


def _say_resampling(
    settings: Settings, sets: Mapping[str, tuple[ArrayClips | FolderClips, list[str]]]
) -> None:
    """Say what happens to each set, and refuse clips that do not last equally long."""
    fps, size = settings.evaluate.fps, settings.evaluate.size
    lengths: dict[int, str] = {}
    for option, (clips, names) in sets.items():
        shapes = clips.shapes()
        for name, shape in zip(names, shapes, strict=True):
            lengths.setdefault(frame_count(shape.frames, shape.fps, fps), f"{name} of {option}")
        kinds = list(dict.fromkeys(map(str, shapes)))
        shown = "; ".join(kinds[:3]) + (f"; and {len(kinds) - 3} more kinds" if kinds[3:] else "")
        frames = frame_count(shapes[0].frames, shapes[0].fps, fps)
        console.info(
            f"{option}: {len(shapes)} clips ({shown}) brought to {frames} frames at {fps} fps, "
            f"{size} x {size} pixels: {_how(shapes, fps, size)}"
        )
    if len(lengths) > 1:
        (first, one), (second, two) = list(lengths.items())[:2]
        raise UserError(
            f"all clips must last equally long: {one} has {first / fps:g} s and {two} has "
            f"{second / fps:g} s; cut them to the same duration"
        )
    if min(lengths) < 2:
        raise UserError(
            f"the clips have one frame at {fps} fps, and CLIP-pcc needs two: give longer clips "
            "or raise fps in [evaluate]"
        )


def _how(shapes: Sequence[ClipShape], fps: float, size: int) -> str:
    """Return what resampling does to these clips, in words."""
    done = []
    if any(abs(shape.fps - fps) > 1e-6 for shape in shapes):
        done.append("nearest frame in time")
    if any((shape.height, shape.width) != (size, size) for shape in shapes):
        done.append("area average or bilinear resize")
    if any(shape.height != shape.width for shape in shapes):
        done.append("aspect ratio changed")
    return ", ".join(done) or "nothing to do"
