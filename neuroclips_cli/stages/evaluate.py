"""Stage ``evaluate``: the paper's seven metrics and more, retrieval, and their controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from neuroclips_cli import artifacts, console, disk
from neuroclips_cli.config import Settings, replace_settings
from neuroclips_cli.data import clip_table
from neuroclips_cli.data.clips import FolderClips, list_clips, open_clips
from neuroclips_cli.data.panels import position
from neuroclips_cli.errors import UserError
from neuroclips_cli.metrics import captions, flow, suite
from neuroclips_cli.metrics.controls import split_half_reliability
from neuroclips_cli.metrics.identification import KeyframeTokens, Retrieval, retrieve
from neuroclips_cli.metrics.pairwise import PairMetric
from neuroclips_cli.metrics.perceptual import Lpips
from neuroclips_cli.metrics.resample import ArrayClips, ClipShape, frame_count
from neuroclips_cli.metrics.retrieval import NotFinite
from neuroclips_cli.protocols import load as load_protocol
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
    settings = _under_protocol(settings)
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
    settings = _under_protocol(settings)
    left, right = _match(list_clips(pred, "--pred"), list_clips(gt, "--gt"), pred, gt)
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
    fps = _rate(settings, *(min(shape.fps for shape in of) for of in shapes.values()))
    settings, made, true = _at(settings, fps, made, true)
    _say_resampling(settings, {o: (shapes[o], names) for o, (_, names) in sets.items()})
    scores = _scores(settings, made, true, _load_judges(settings))
    scenes = clip_table.block_labels(len(made), clip_s)
    result = _assemble(settings, scores, None, scenes)
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
    size, fps = settings.evaluate.size, _rate(settings, record["fps"], truth_fps)
    settings, pred, gt = _at(
        settings,
        fps,
        ArrayClips(clips, np.arange(len(clips)), record["fps"], fps, size),
        ArrayClips(frames, index, truth_fps, fps, size),
    )
    kinds = {"the reconstruction": pred.shapes(), "the film": gt.shapes()}
    _check_lengths(fps, {what: (shapes, ["a clip"] * len(index)) for what, shapes in kinds.items()})
    scores = _scores(settings, pred, gt, judges)
    table = [row for row in artifacts.read_csv(data / "clips.csv") if row["split"] == "test"]
    chosen = [table[int(i)] for i in index]
    scores = _with_captions(settings, scores, made, chosen, judges)
    found = _retrieval(settings, made, frames, index, judges)
    scenes = clip_table.scene_labels(chosen)
    result = _assemble(settings, scores, found, scenes)
    result["controls"]["noise_ceiling"] = _noise_ceiling(data)
    result["protocol"]["blur_init"] = record["blur_init"]
    if scenes:
        chosen = [row | {"scene": label} for row, label in zip(chosen, scenes[0], strict=True)]
    header, rows = results.per_clip(scores, found, chosen)
    return result, header, rows


def _under_protocol(settings: Settings) -> Settings:
    """Return the settings with the rate and size that the protocol fixes."""
    protocol = load_protocol(settings.evaluate.protocol)
    fixed = {key: value for key in ("fps", "size") if (value := getattr(protocol, key))}
    for key, value in fixed.items():
        by_hand = settings.origins.get(f"evaluate.{key}") in ("flag", "environment")
        if by_hand and getattr(settings.evaluate, key) != value:
            raise UserError(
                f"protocol {protocol.name} measures at {key} {value}, and evaluate.{key} asks for "
                f"{getattr(settings.evaluate, key)}: leave evaluate.{key} out, or choose protocol "
                "standard"
            )
    changes = {f"evaluate.{key}": value for key, value in fixed.items()}
    return replace_settings(settings, changes, origin=f"protocol {protocol.name}")


def _rate(settings: Settings, *own: float) -> int:
    """Return the frame rate to measure at; some protocols do not fill up slower clips."""
    if not load_protocol(settings.evaluate.protocol).never_faster:
        return settings.evaluate.fps
    return max(1, min(settings.evaluate.fps, *(int(fps + 1e-6) for fps in own)))


Clips = TypeVar("Clips", ArrayClips, FolderClips, ArrayClips | FolderClips)


def _at(settings: Settings, fps: int, pred: Clips, gt: Clips) -> tuple[Settings, Clips, Clips]:
    """Return the settings and both sets at another frame rate."""
    changed = replace_settings(settings, {"evaluate.fps": fps}, origin="protocol")
    return changed, replace(pred, target_fps=fps), replace(gt, target_fps=fps)


def _load_judges(settings: Settings) -> suite.Judges:
    from neuroclips_cli.backbones.classifiers import load_image_classifier, load_video_classifier
    from neuroclips_cli.backbones.clip import load_clip
    from neuroclips_cli.backbones.loading import choose_device

    device, names = choose_device(settings.run.device), _judge_names(settings)
    image = load_image_classifier(names["image_classifier"], device)
    video = load_video_classifier(names["video_classifier"], device)
    most = max(settings.evaluate.ways)
    known = load_protocol(settings.evaluate.protocol).rules.truth_classes
    for key, classifier in (("image_classifier", image), ("video_classifier", video)):
        if classifier.classes < most + known - 1:
            raise UserError(
                f"the classifier '{names[key]}' knows {classifier.classes} classes, too few for a "
                f"{most}-way test: lower ways in [evaluate] of neuroclips.toml"
            )
    return suite.Judges(image=image, video=video, clip=load_clip(names["clip"], device))


def _judge_names(settings: Settings) -> dict[str, str]:
    names = {judge: getattr(settings.backbones, judge) for judge in JUDGES}
    return names | ({"clip": settings.evaluate.clip} if settings.evaluate.clip else {})


def _further(settings: Settings) -> dict[str, PairMetric]:
    """Return the metrics that were asked for by name; what they need is looked for first."""
    also: dict[str, PairMetric] = {}
    if "epe" in settings.evaluate.also:
        flow.load_opencv()
        also["epe"] = flow.end_point_error
    if "lpips" in settings.evaluate.also:
        from neuroclips_cli.backbones.loading import choose_device

        also["lpips"] = Lpips(settings.evaluate.perceptual, choose_device(settings.run.device))
    return also


def _scores(
    settings: Settings,
    pred: ArrayClips | FolderClips,
    gt: ArrayClips | FolderClips,
    judges: suite.Judges,
) -> suite.Scores:
    chosen = settings.evaluate
    plan = suite.Plan(
        ways=chosen.ways,
        batch_size=chosen.batch_size,
        shuffles=chosen.shuffles,
        seed=settings.run.seed,
        monte_carlo=chosen.monte_carlo,
        rules=load_protocol(chosen.protocol).rules,
        also=_further(settings),
    )
    with console.progress("measuring clips", suite.steps(len(pred), plan)) as advance:
        return suite.measure(pred, gt, judges, plan, advance)


def _with_captions(
    settings: Settings,
    scores: suite.Scores,
    made: Path,
    chosen: Sequence[Mapping[str, str]],
    judges: suite.Judges,
) -> suite.Scores:
    """Add the caption similarity where every clip has a decoded and a true caption."""
    path, embed = made / "captions.csv", getattr(judges.clip, "text_embeddings", None)
    if embed is None or not path.exists() or not all(row.get("caption") for row in chosen):
        return scores
    decoded = {row["clip"]: row["caption"] for row in artifacts.read_csv(path)}
    if not all(decoded.get(row["clip"]) for row in chosen):
        return scores
    values, shuffled = captions.similarity(
        embed([decoded[row["clip"]] for row in chosen]),
        embed([row["caption"] for row in chosen]),
        shuffles=settings.evaluate.shuffles,
        seed=settings.run.seed,
    )
    return replace(scores, metrics=scores.metrics | values, shuffled=scores.shuffled | shuffled)


def _retrieval(
    settings: Settings, made: Path, frames: np.ndarray, index: np.ndarray, judges: suite.Judges
) -> Retrieval | None:
    path, part = made / "tokens_brain.npy", settings.evaluate.retrieval_part
    if not path.exists() or len(index) < 2:
        console.info("no retrieval: it needs tokens_brain.npy and at least two clips")
        return None
    if len(index) < part:
        console.info(f"retrieval among all {len(index)} clips: a part of {part} needs more")
    clip = judges.clip
    if settings.evaluate.clip:  # the tokens were decoded for this one, whoever judges the frames
        from neuroclips_cli.backbones.clip import load_clip
        from neuroclips_cli.backbones.loading import choose_device

        clip = load_clip(settings.backbones.clip, choose_device(settings.run.device))
    try:
        with console.progress("measuring retrieval", len(index)) as advance:
            return retrieve(
                artifacts.read_array(path),
                KeyframeTokens(frames, index, clip, advance),
                part,
                shuffles=settings.evaluate.shuffles,
                seed=settings.run.seed,
                block=settings.evaluate.batch_size,
            )
    except NotFinite as problem:
        raise UserError(
            f"{path} holds values that are no numbers (NaN): run `neuroclips reconstruct "
            "--overwrite`, and train again if it stays so"
        ) from problem


def _assemble(
    settings: Settings,
    scores: suite.Scores,
    found: Retrieval | None,
    scenes: tuple[list[str], str] | None,
) -> dict[str, Any]:
    labels, drawn = (np.array(scenes[0]), scenes[1]) if scenes else (None, "")
    protocol = load_protocol(settings.evaluate.protocol)
    names, seed = _judge_names(settings), settings.run.seed
    return results.assemble(settings.evaluate, protocol, names, seed, scores, found, labels, drawn)


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


Shapes = Mapping[str, tuple[Sequence[ClipShape], Sequence[str]]]
"""Which set -> its clips' shapes and names."""


def _say_resampling(settings: Settings, sets: Shapes) -> None:
    """Say what happens to each set, and refuse clips that do not last equally long."""
    fps, size = settings.evaluate.fps, settings.evaluate.size
    for option, (shapes, _) in sets.items():
        kinds = list(dict.fromkeys(map(str, shapes)))
        shown = "; ".join(kinds[:3]) + (f"; and {len(kinds) - 3} more kinds" if kinds[3:] else "")
        frames = frame_count(shapes[0].frames, shapes[0].fps, fps)
        console.info(
            f"{option}: {len(shapes)} clips ({shown}) brought to {frames} frames at {fps} fps, "
            f"{size} x {size} pixels: {_how(shapes, fps, size)}"
        )
    _check_lengths(fps, sets)


def _check_lengths(fps: float, sets: Shapes) -> None:
    """Refuse clips that do not last equally long, or have a single frame."""
    lengths: dict[int, str] = {}
    for option, (shapes, names) in sets.items():
        for name, shape in zip(names, shapes, strict=True):
            lengths.setdefault(frame_count(shape.frames, shape.fps, fps), f"{name} of {option}")
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
