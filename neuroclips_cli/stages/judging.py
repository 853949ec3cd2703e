"""The networks that judge in ``evaluate``, and what only runs have: captions and retrieval."""

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
from neuroclips_cli.errors import UserError
from neuroclips_cli.metrics import captions, evaluation, flow
from neuroclips_cli.metrics.controls import split_half_reliability
from neuroclips_cli.metrics.identification import KeyframeTokens, Retrieval, retrieve
from neuroclips_cli.metrics.pairwise import PairMetric
from neuroclips_cli.metrics.perceptual import Lpips
from neuroclips_cli.metrics.retrieval import NotFinite
from neuroclips_cli.protocols.evaluation_config import EvaluationConfig
from neuroclips_cli.runs.stage import read_array, read_csv
from neuroclips_cli.runtime.precision import choose_precision
from neuroclips_cli.settings.load import Settings


def load_judges(
    config: EvaluationConfig, present: Sequence[str], device: str, precision: str
) -> evaluation.Evaluators:
    """Load the networks that judge.

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
    names = config.judge_names
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


def further_metrics(config: EvaluationConfig, device: str) -> dict[str, PairMetric]:
    """Return the metrics that were asked for by name; what they need is looked for first."""
    also: dict[str, PairMetric] = {}
    if "epe" in config.also:
        flow.load_opencv()
        also["epe"] = flow.end_point_error
    if "lpips" in config.also:
        also["lpips"] = Lpips(config.perceptual, device)
    return also


def with_captions(
    config: EvaluationConfig,
    scores: evaluation.Scores,
    made: Path,
    chosen: Sequence[Mapping[str, str]],
    judges: evaluation.Evaluators,
) -> evaluation.Scores:
    """Add the caption similarity where every clip has a decoded and a true caption.

    Raises
    ------
    UserError
        If ``captions.csv`` holds captions of other clips than the run's.
    """
    path, embed = made / "captions.csv", getattr(judges.clip, "text_embeddings", None)
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
    made: Path,
    frames: np.ndarray,
    index: np.ndarray,
    judges: evaluation.Evaluators,
    device: str,
) -> Retrieval | None:
    """Measure retrieval where the run kept tokens; None where it did not."""
    path, part = made / "tokens_brain.npy", config.retrieval_part
    if not path.exists() or len(index) < 2:
        console.info("no retrieval: it needs tokens_brain.npy and at least two clips")
        return None
    clip = token_clip(settings, config, judges, device)
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
            f"{path} holds values that are no numbers (NaN): run `neuroclips reconstruct "
            "--overwrite`, and train again if it stays so"
        ) from problem


def token_clip(
    settings: Settings, config: EvaluationConfig, judges: evaluation.Evaluators, device: str
) -> ClipBackbone | Any | None:
    """Return the CLIP whose tokens were decoded, whoever judges the frames; None if it is gone."""
    reference = settings.backbones.clip
    if judges.clip is not None and reference == config.judges.clip:
        return judges.clip
    _, problem = local_files.find("clip", reference)
    if problem:
        console.warn(
            f"retrieval is left out, since the CLIP whose tokens were decoded ({reference}) is not "
            "on this machine: fetch it with `neuroclips models pull clip`"
        )
        return None
    return load_clip(reference, device, choose_precision(settings.run.precision, device))


def noise_ceiling(data: Path) -> dict[str, Any]:
    """Return how well the test scans repeat."""
    facts = split_half_reliability(read_array(data / "fmri_test_repetitions.npy"))
    return {
        "split_half_r": None if isnan(facts["split_half_r"]) else facts["split_half_r"],
        "spearman_brown_r": None if isnan(facts["spearman_brown_r"]) else facts["spearman_brown_r"],
        "voxels": int(facts["voxels"]),
        "repetitions": int(facts["repetitions"]),
        "what": "correlation over test clips of even- with odd-numbered repetitions, median voxel",
    }
