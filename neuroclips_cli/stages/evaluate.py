"""Stage ``evaluate``: the paper's seven metrics and more, retrieval, and their controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from neuroclips_cli import console
from neuroclips_cli.backbones import local_files
from neuroclips_cli.backbones.classifiers import load_image_classifier, load_video_classifier
from neuroclips_cli.backbones.clip import ClipBackbone, load_clip
from neuroclips_cli.backbones.loading import choose_device
from neuroclips_cli.data import clip_table
from neuroclips_cli.data.clips import array_clips
from neuroclips_cli.data.resample import ArrayClips
from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic
from neuroclips_cli.io.csv import write_csv
from neuroclips_cli.metrics import captions, evaluation
from neuroclips_cli.metrics.common_time import Pairs
from neuroclips_cli.metrics.controls import split_half_reliability
from neuroclips_cli.metrics.extra import load_extra_metrics
from neuroclips_cli.metrics.retrieval import KeyframeTokens, NotFinite, Retrieval, retrieve
from neuroclips_cli.protocols.evaluation_config import EvaluationConfig, evaluation_config
from neuroclips_cli.protocols.evaluators import EvaluatorsAtHand, find_evaluators
from neuroclips_cli.reporting import results
from neuroclips_cli.runs import model_card
from neuroclips_cli.runs.stage import read_array, read_csv, read_json
from neuroclips_cli.runtime.precision import choose_precision
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.stages import _clip_pairs, _requests
from neuroclips_cli.stages._launch import show, show_run


def run(
    settings: Settings,
    *,
    run: str = "reconstruct",
    overwrite: bool = False,
) -> Path:
    """Measure a run's reconstructions against the films.

    Parameters
    ----------
    settings : Settings
        ``evaluate`` names the protocol, which names the evaluators.
    run : str
        The reconstruction: ``reconstruct``, ``reconstruct-without-blurry`` and the like, which is
        then measured into ``evaluate-without-blurry``, or ``fuse``, the clips after fusion.
    overwrite : bool
        Measure again even if nothing changed.

    Returns
    -------
    Path
        The stage folder with ``metrics.json`` and ``per_clip.csv``.

    Raises
    ------
    UserError
        If the reconstruction is missing or is not a reconstruction.
    """
    request = _requests.evaluate(settings, run=run)
    reconstruction = Path(
        request.inputs[_requests.FUSED if run == _requests.FUSED else "reconstruct"]
    )
    data = Path(request.inputs["preprocess"])
    config = _requests.run_config(settings, data)
    found = find_evaluators(config)
    with request.open(settings, overwrite=overwrite) as stage:
        if not stage.up_to_date:
            clips = _clip_pairs.clips_of_run(reconstruction, run)
            result, header, rows = _measure_run(settings, config, found, clips, data)
            stage.write_csv("per_clip.csv", header, rows)
            stage.write_json("metrics.json", result)
            stage.fact("clips", result["protocol"]["n"])
            stage.fact("protocol", result["training_protocol"])
        folder = stage.folder
    show_run(folder, run)
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
        ``evaluate`` names the protocol, which names the evaluators.
    pred, gt : Path
        Folders of clips with matching names (mp4, mkv, avi, webm, gif, or folders of png), or
        ``.npy`` files, uint8 (clips, frames, h, w, 3). Pairs of unequal length are compared over
        the time that both clips have.
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
        If the sets do not match, a clip cannot be read, two clips have nothing in common in time,
        or ``out`` holds results already.
    """
    if (out / "metrics.json").exists() and not overwrite:
        raise UserError(
            f"{out} already holds a metrics.json: choose another folder, or --overwrite"
        )
    # where these clips come from is not known, so no embedded network may evaluate them
    config = evaluation_config(settings, synthetic=False, scans=False)
    found = find_evaluators(config)
    config, pairs = _clip_pairs.open_pairs(config, pred, gt, out, panels)
    result, header, rows = _measure_pairs(settings, config, found, pairs)
    result["protocol"] |= {"pred": str(pred), "gt": str(gt), "panels": panels}
    write_csv(out / "per_clip.csv", header, rows)
    atomic.write_json(out / "metrics.json", result)
    show(result, f"{pred} against {gt}")
    return out


def evaluate_arrays(
    settings: Settings,
    pred: np.ndarray,
    gt: np.ndarray,
    *,
    pred_fps: float | None = None,
    synthetic: bool = False,
) -> dict[str, Any]:
    """Measure two arrays of clips as :func:`run_pair` does, without files.

    Parameters
    ----------
    settings : Settings
        ``evaluate`` names the protocol, which names the evaluators.
    pred, gt : numpy.ndarray
        Numbers (clips, frames, h, w, 3); clips are paired in order, and frame rate and size may
        differ.
    pred_fps : float, optional
        Frame rate of ``pred``; by default a clip lasts ``data.clip_s`` seconds.
    synthetic : bool
        Whether the films are those of the synthetic dataset, which has evaluators of its own.

    Returns
    -------
    dict
        The content of ``metrics.json``.

    Raises
    ------
    UserError
        If an array holds no clips, or the two hold different numbers of them.
    """
    if len(pred) != len(gt):
        raise UserError(
            f"pred holds {len(pred)} clips and gt holds {len(gt)}: arrays are paired in order, so "
            "both must hold the same number"
        )
    config = evaluation_config(settings, synthetic=synthetic, scans=False)
    found = find_evaluators(config)
    pred_s = config.clip_s if pred_fps is None or pred.ndim < 2 else pred.shape[1] / pred_fps
    sets = [
        array_clips(array, name, clip_s=lasts_s, target_fps=config.fps, size=config.size)
        for name, array, lasts_s in (("pred", pred, pred_s), ("gt", gt, config.clip_s))
    ]
    config = config.at_rate_of(*(clips.fps for clips in sets))
    first, second = (replace(clips, target_fps=config.fps) for clips in sets)
    names = [f"{row:04d}" for row in range(len(pred))]
    pairs = _clip_pairs.pair_up(first, second, names, config.fps)
    return _measure_pairs(settings, config, found, pairs)[0]


def _measure_pairs(
    settings: Settings, config: EvaluationConfig, found: EvaluatorsAtHand, pairs: Pairs
) -> tuple[dict[str, Any], list[str], list[list[Any]]]:
    """Return the metrics of clips of which only the order is known, and the lines per clip."""
    scenes = clip_table.block_labels(len(pairs.names), config.clip_s)
    loaded = _evaluators(settings, config, found)
    scores = _compute_scores(settings, config, loaded, pairs, scenes)
    result = results.build_result(config, scores, None, scenes, found.left_out, pairs.unequal)
    labels = [{"scene": label} for label in scenes[0]] if scenes else [{}] * len(pairs.names)
    about = [{"clip": name, **label} for name, label in zip(pairs.names, labels, strict=True)]
    return result, *results.per_clip(config, scores, None, about, pairs.unequal)


def _measure_run(
    settings: Settings,
    config: EvaluationConfig,
    found: EvaluatorsAtHand,
    reconstruction: _clip_pairs.RunClips,
    data: Path,
) -> tuple[dict[str, Any], list[str], list[list[Any]]]:
    frames = read_array(data / "frames_test.npy")
    manifest = read_json(reconstruction.folder / "manifest.json")
    record = manifest["settings"]["reconstruct"]
    truth_fps = frames.shape[1] / config.clip_s
    config = config.at_rate_of(record["fps"], truth_fps)
    table = [row for row in read_csv(data / "clips.csv") if row["split"] == "test"]
    chosen = [table[int(i)] for i in reconstruction.index]
    pairs = _clip_pairs.pair_up(
        ArrayClips(
            reconstruction.array, reconstruction.rows, record["fps"], config.fps, config.size
        ),
        ArrayClips(frames, reconstruction.index, truth_fps, config.fps, config.size),
        [row["clip"] for row in chosen],
        config.fps,
    )
    scenes = clip_table.scene_labels(chosen)
    loaded = _evaluators(settings, config, found)
    scores = _compute_scores(settings, config, loaded, pairs, scenes)
    scores = with_captions(config, scores, reconstruction.folder, chosen, loaded)
    device = _device(settings)
    retrieved = retrieval(
        settings, config, reconstruction.folder, frames, reconstruction.index, loaded, device
    )
    result = results.build_result(config, scores, retrieved, scenes, found.left_out, pairs.unequal)
    result["subject"] = settings.run.subject
    result["training_protocol"] = manifest["facts"].get("protocol", model_card.WITHIN)
    result["controls"]["noise_ceiling"] = noise_ceiling(data)
    result["cuts"] = results.by_cuts(scores, [row["crosses_scene"] for row in chosen])
    result["protocol"]["blur_init"] = record["blur_init"]
    if scenes:
        chosen = [row | {"scene": label} for row, label in zip(chosen, scenes[0], strict=True)]
    header, rows = results.per_clip(config, scores, retrieved, chosen, pairs.unequal)
    return result, header, rows


def _evaluators(
    settings: Settings,
    config: EvaluationConfig,
    found: EvaluatorsAtHand,
) -> evaluation.Evaluators:
    """Load the evaluators that are at hand."""
    device = _device(settings)
    precision = choose_precision(settings.run.precision, device)
    return load_evaluators(config, found.present, device, precision)


def _device(settings: Settings) -> str:
    return choose_device(settings.run.device)


def _compute_scores(
    settings: Settings,
    config: EvaluationConfig,
    evaluators: evaluation.Evaluators,
    pairs: Pairs,
    scenes: tuple[list[str], str] | None,
) -> evaluation.Scores:
    """Measure all pairs of clips; ``scenes`` are labels of the clips and what they stand for."""
    options = evaluation.MeasureOptions(
        ways=config.ways,
        batch_size=config.batch_size,
        shuffles=config.shuffles,
        seed=config.seed,
        monte_carlo=config.monte_carlo,
        rules=config.protocol.rules,
        extra_metrics=load_extra_metrics(config, _device(settings)),
        scenes=tuple(scenes[0]) if scenes else None,
    )
    with console.progress(
        "measuring clips", evaluation.steps(len(pairs.names), options)
    ) as advance:
        return evaluation.measure(pairs.pred, pairs.gt, evaluators, options, advance)


def load_evaluators(
    config: EvaluationConfig, present: Sequence[str], device: str, precision: str
) -> evaluation.Evaluators:
    """Load the networks that evaluate.

    Parameters
    ----------
    config : EvaluationConfig
        Which ones, and how many classes they must know.
    present : sequence of str
        Those that are on this machine.
    device : str
        A torch device.
    precision : str
        ``float32`` or ``bfloat16``.

    Raises
    ------
    UserError
        If a network is of another kind, or knows too few classes.
    """
    names = config.evaluator_names
    image = video = clip = None
    if "image_classifier" in present:
        image = load_image_classifier(names["image_classifier"], device, precision)
    if "video_classifier" in present:
        video = load_video_classifier(names["video_classifier"], device, precision)
    if "clip" in present:
        clip = load_clip(names["clip"], device, precision)
    most, known = max(config.ways), config.protocol.rules.truth_classes
    for key, classifier in (("image_classifier", image), ("video_classifier", video)):
        if classifier is not None and classifier.classes < most + known - 1:
            raise UserError(
                f"the classifier '{names[key]}' knows {classifier.classes} classes, too few for a "
                f"{most}-way test: lower ways in [evaluate] of neuroclips.toml"
            )
    return evaluation.Evaluators(image=image, video=video, clip=clip)


def with_captions(
    config: EvaluationConfig,
    scores: evaluation.Scores,
    reconstruction: Path,
    chosen: Sequence[Mapping[str, str]],
    evaluators: evaluation.Evaluators,
) -> evaluation.Scores:
    """Add the caption similarity where every clip has a decoded and a true caption.

    Raises
    ------
    UserError
        If ``captions.csv`` holds captions of other clips than the run's.
    """
    path, embed = reconstruction / "captions.csv", getattr(evaluators.clip, "text_embeddings", None)
    if embed is None or not path.exists() or not all(row.get("caption") for row in chosen):
        return scores
    decoded = {row["clip"]: row["caption"] for row in read_csv(path)}
    if decoded.keys() != {row["clip"] for row in chosen}:
        raise UserError(
            f"{path} holds {len(decoded)} captions, and the run has {len(chosen)} other clips: run "
            "`neuroclips reconstruct --overwrite`"
        )
    if not all(decoded.values()):
        return scores
    values, shuffled = captions.similarity(
        embed([decoded[row["clip"]] for row in chosen]),
        embed([row["caption"] for row in chosen]),
        shuffles=config.shuffles,
        seed=config.seed,
    )
    return replace(scores, metrics=scores.metrics | values, shuffled=scores.shuffled | shuffled)


def retrieval(
    settings: Settings,
    config: EvaluationConfig,
    reconstruction: Path,
    frames: np.ndarray,
    index: np.ndarray,
    evaluators: evaluation.Evaluators,
    device: str,
) -> Retrieval | None:
    """Measure retrieval where the run kept tokens; None where it did not."""
    path, part = reconstruction / "tokens_brain.npy", config.retrieval_part
    if not path.exists() or len(index) < 2:
        console.info("no retrieval: it needs tokens_brain.npy and at least two clips")
        return None
    clip = token_clip(settings, config, evaluators, device)
    if clip is None:
        return None
    if len(index) < part:
        console.info(f"retrieval among all {len(index)} clips: a part of {part} needs more")
    try:
        with console.progress("measuring retrieval", len(index)) as advance:
            return retrieve(
                read_array(path),
                KeyframeTokens(
                    frames, index, clip.in_space(settings.semantics.token_space), advance
                ),
                part,
                shuffles=config.shuffles,
                seed=config.seed,
                block=config.batch_size,
            )
    except NotFinite as problem:
        raise UserError(
            f"{path} holds values that are not numbers (NaN): run `neuroclips reconstruct "
            "--overwrite`, and train again if it stays so"
        ) from problem


def token_clip(
    settings: Settings, config: EvaluationConfig, evaluators: evaluation.Evaluators, device: str
) -> ClipBackbone | Any | None:
    """Return the CLIP whose tokens were decoded, whatever evaluates the frames; None if gone."""
    reference = settings.backbones.clip
    if evaluators.clip is not None and reference == config.evaluators.clip:
        return evaluators.clip
    _, problem = local_files.find("clip", reference)
    if problem:
        console.warn(
            f"retrieval is left out, since the CLIP whose tokens were decoded ({reference}) is not "
            "on this machine: fetch it with `neuroclips models pull clip`"
        )
        return None
    return load_clip(reference, device, choose_precision(settings.run.precision, device))


def noise_ceiling(data: Path) -> dict[str, Any]:
    """Return how well the test scans repeat; of several volumes per clip, the middle one."""
    repetitions = read_array(data / "fmri_test_repetitions.npy")
    if repetitions.ndim > 3:
        repetitions = repetitions[:, :, (repetitions.shape[2] - 1) // 2]
    facts = split_half_reliability(repetitions)
    return {
        "split_half_r": None if isnan(facts["split_half_r"]) else facts["split_half_r"],
        "spearman_brown_r": None if isnan(facts["spearman_brown_r"]) else facts["spearman_brown_r"],
        "voxels": int(facts["voxels"]),
        "repetitions": int(facts["repetitions"]),
        "what": "correlation over test clips of even- with odd-numbered repetitions, median voxel",
    }
