"""How ``evaluate`` measures: protocol, judges, scores, retrieval, captions, and the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from neuroclips_cli import artifacts, console
from neuroclips_cli.config import Settings
from neuroclips_cli.data.clips import FolderClips
from neuroclips_cli.errors import UserError
from neuroclips_cli.metrics import captions, flow, suite
from neuroclips_cli.metrics.controls import split_half_reliability
from neuroclips_cli.metrics.identification import KeyframeTokens, Retrieval, retrieve
from neuroclips_cli.metrics.pairwise import PairMetric
from neuroclips_cli.metrics.perceptual import Lpips
from neuroclips_cli.metrics.resample import ArrayClips
from neuroclips_cli.metrics.retrieval import NotFinite
from neuroclips_cli.protocols import load as load_protocol
from neuroclips_cli.reporting import results

JUDGES = ("image_classifier", "video_classifier", "clip")


def load_judges(settings: Settings) -> suite.Judges:
    """Load the networks of ``[backbones]`` that judge; too few classes are a user error."""
    from neuroclips_cli.backbones.classifiers import load_image_classifier, load_video_classifier
    from neuroclips_cli.backbones.clip import load_clip
    from neuroclips_cli.backbones.loading import choose_device
    from neuroclips_cli.precision import choose_precision

    device, names = choose_device(settings.run.device), _judge_names(settings)
    precision = choose_precision(settings.run.precision, device)
    image = load_image_classifier(names["image_classifier"], device, precision)
    video = load_video_classifier(names["video_classifier"], device, precision)
    most = max(settings.evaluate.ways)
    known = load_protocol(settings.evaluate.protocol).rules.truth_classes
    for key, classifier in (("image_classifier", image), ("video_classifier", video)):
        if classifier.classes < most + known - 1:
            raise UserError(
                f"the classifier '{names[key]}' knows {classifier.classes} classes, too few for a "
                f"{most}-way test: lower ways in [evaluate] of neuroclips.toml"
            )
    return suite.Judges(image=image, video=video, clip=load_clip(names["clip"], device, precision))


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


def score(
    settings: Settings,
    pred: ArrayClips | FolderClips,
    gt: ArrayClips | FolderClips,
    judges: suite.Judges,
    scenes: Sequence[str] | None,
) -> suite.Scores:
    """Measure all pairs of clips by the protocol in force; ``scenes`` are labels of the clips."""
    chosen = settings.evaluate
    plan = suite.Plan(
        ways=chosen.ways,
        batch_size=chosen.batch_size,
        shuffles=chosen.shuffles,
        seed=settings.run.seed,
        monte_carlo=chosen.monte_carlo,
        rules=load_protocol(chosen.protocol).rules,
        also=_further(settings),
        scenes=None if scenes is None else tuple(scenes),
    )
    with console.progress("measuring clips", suite.steps(len(pred), plan)) as advance:
        return suite.measure(pred, gt, judges, plan, advance)


def with_captions(
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


def retrieval(
    settings: Settings, made: Path, frames: np.ndarray, index: np.ndarray, judges: suite.Judges
) -> Retrieval | None:
    """Measure retrieval where the run kept tokens; None where it did not."""
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
        from neuroclips_cli.precision import choose_precision

        device = choose_device(settings.run.device)
        precision = choose_precision(settings.run.precision, device)
        clip = load_clip(settings.backbones.clip, device, precision)
    try:
        with console.progress("measuring retrieval", len(index)) as advance:
            return retrieve(
                artifacts.read_array(path),
                KeyframeTokens(
                    frames, index, clip.in_space(settings.semantics.token_space), advance
                ),
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


def assemble(
    settings: Settings,
    scores: suite.Scores,
    found: Retrieval | None,
    scenes: tuple[list[str], str] | None,
) -> dict[str, Any]:
    """Return the content of ``metrics.json``."""
    labels, drawn = (np.array(scenes[0]), scenes[1]) if scenes else (None, "")
    protocol = load_protocol(settings.evaluate.protocol)
    names, seed = _judge_names(settings), settings.run.seed
    return results.assemble(settings.evaluate, protocol, names, seed, scores, found, labels, drawn)


def noise_ceiling(data: Path) -> dict[str, Any]:
    """Return how well the test scans repeat."""
    facts = split_half_reliability(artifacts.read_array(data / "fmri_test_repetitions.npy"))
    return {
        "split_half_r": None if isnan(facts["split_half_r"]) else facts["split_half_r"],
        "spearman_brown_r": None if isnan(facts["spearman_brown_r"]) else facts["spearman_brown_r"],
        "voxels": int(facts["voxels"]),
        "repetitions": int(facts["repetitions"]),
        "what": "correlation over test clips of even- with odd-numbered repetitions, median voxel",
    }
