"""What ``evaluate`` writes: ``metrics.json`` and the lines of ``per_clip.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from neuroclips_cli.metrics import evaluation, nway, pixel
from neuroclips_cli.metrics.common_time import UnequalPair
from neuroclips_cli.metrics.extra import EXTRA_METRICS
from neuroclips_cli.metrics.retrieval import Retrieval
from neuroclips_cli.metrics.statistics import summarize
from neuroclips_cli.protocols.evaluation_config import EvaluationConfig
from neuroclips_cli.protocols.rules import ProtocolRules

TRUTH_CLASSES = (
    "one per frame (top-1 of the image classifier on the ground-truth frame of the same time) "
    "and one per clip (top-1 of the video classifier on the ground-truth clip)"
)
PAIRS = {"adjacent": "adjacent frames", "all": "all pairs of a clip's frames"}
CLIP_PCC = "mean cosine of the CLIP embeddings of {pairs}"
EXTRA = {
    "clip_similarity": "cosine of the CLIP embeddings with the ground-truth frame of the same time",
    "pixel_pearson": "Pearson correlation of a frame's RGB values",
    "hue_similarity": "cosine of 8-bit hues, red and blue exchanged (Mind-Animator as coded)",
    "caption_similarity": "cosine of the CLIP text embeddings of decoded and true caption",
    **{name: metric.definition for name, metric in EXTRA_METRICS.items()},
}
"""Definitions of the metrics beyond the paper's Table 1."""
ABOUT = ("clip", "segment", "crosses_scene", "scene", "evaluators", "compared_s")


def build_result(
    config: EvaluationConfig,
    scores: evaluation.Scores,
    found: Retrieval | None,
    scenes: tuple[Sequence[str], str] | None,
    left_out: str = "",
    unequal: Sequence[UnequalPair] = (),
) -> dict[str, Any]:
    """Summarize per-clip values into the content of ``metrics.json``.

    Parameters
    ----------
    config : EvaluationConfig
        How it was measured.
    scores : Scores
        Per-clip values.
    found : Retrieval or None
        Per-clip retrieval, where it was measured.
    scenes : tuple or None
        Label of each clip's scene, for the second interval, and what the labels stand for.
    left_out : str
        Which metrics lack their evaluators; empty if none does.
    unequal : sequence of UnequalPair
        Pairs that were compared over a part of their time.

    Returns
    -------
    dict
        ``metrics``, ``controls``, ``chance``, ``protocol``, and where there is something to say
        ``monte_carlo``, ``left_out`` and ``unequal_pairs``.
    """
    labels, drawn = (np.asarray(scenes[0]), scenes[1]) if scenes else (None, "")

    def summaries(values: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {
            name: summarize(column, config.bootstrap_samples, config.seed, labels).as_dict()
            for name, column in values.items()
        }

    metrics = dict(scores.metrics)
    shuffled = {name: scores.shuffled[name] for name in metrics if name in scores.shuffled}
    known = config.protocol.rules.truth_classes
    chance = {
        name: nway.chance(n, known)
        for n in config.ways
        for name in _accuracies(n)
        if name in metrics
    }
    if found:
        metrics |= found.metrics
        shuffled |= found.shuffled
        chance |= {
            name: min(1.0, (5 if name.endswith("_top5") else 1) / found.part)
            for name in found.metrics
        }
    result: dict[str, Any] = {
        "metrics": summaries(metrics),
        "controls": {
            config.control: summaries(shuffled),
            "shuffled_scenes": summaries(
                {
                    n: scores.shuffled_scenes[n]
                    for n in scores.metrics
                    if n in scores.shuffled_scenes
                }
            ),
            "ground_truth": summaries(scores.ground_truth),
            "frozen_frame": summaries(scores.frozen_frame),
        },
        "chance": chance,
        "protocol": {
            **_protocol(config, len(scores.metrics["ssim"])),
            "extra_metrics": {name: EXTRA[name] for name in metrics if name in EXTRA},
            "ci95_scenes": None if labels is None else f"the same, whole {drawn} drawn",
            "retrieval_part": found.part if found else None,
            "seed": config.seed,
        },
    }
    if scores.monte_carlo:
        result["monte_carlo"] = _monte_carlo(scores, config.monte_carlo)
    if left_out:
        result["left_out"] = left_out
    if unequal:
        result["unequal_pairs"] = [asdict(pair) for pair in unequal]
    return result


def _monte_carlo(scores: evaluation.Scores, trials: int) -> dict[str, Any]:
    """Return the sampled accuracies beside the exact ones.

    ``standard_error`` is that of the mean from drawing alone; ``published_deviation`` is what
    papers print behind their figures, the binomial error of one draw of a clip, averaged.
    """
    found = {
        name: {
            "mean": float(values.mean()),
            "standard_error": float(np.sqrt(np.sum(errors**2)) / len(errors)),
            "exact": float(scores.metrics[name].mean()),
            "published_deviation": float(errors.mean()),
        }
        for name, (values, errors) in scores.monte_carlo.items()
    }
    return {"trials": trials, "metrics": found}


def _accuracies(ways: int) -> tuple[str, str]:
    return f"video_{ways}way", f"frame_{ways}way"


def _protocol(config: EvaluationConfig, clips: int) -> dict[str, Any]:
    protocol, rules = config.protocol, config.protocol.rules
    return {
        "n": clips,
        "protocol": protocol.name,
        "source": protocol.source,
        "remarks": list(protocol.remarks),
        "fps": config.fps,
        "size": config.size,
        "evaluators": config.evaluated_by,
        **config.evaluator_names,
        "published_evaluators": asdict(protocol.evaluators),
        "nway": "exact closed form, top-1, ties at even odds",
        "ground_truth_classes": _truth_classes(rules),
        "clip_pcc": _clip_pcc(rules),
        "ssim": pixel.WHAT[rules.ssim],
        "psnr": f"data range 255, at most {pixel.PSNR_CAP_DB:g} dB",
        "frame_metrics": "mean over the frames of a clip, then over clips",
        "ci95": f"percentile bootstrap over clips, {config.bootstrap_samples} samples",
        "shuffles": config.shuffles,
        "shuffles_of_pixel_metrics": evaluation.pixel_shuffles(clips, config.shuffles),
    }


def _truth_classes(rules: ProtocolRules) -> str:
    if rules.truth_classes == 1:
        return TRUTH_CLASSES
    return (
        f"the {rules.truth_classes} most probable of the ground-truth frame or clip; a draw is won "
        "if any of them beats the distractors"
    )


def _clip_pcc(rules: ProtocolRules) -> str:
    said = CLIP_PCC.format(pairs=PAIRS[rules.pairs])
    if rules.similarity_gate > -1:
        limit = f"{rules.similarity_gate:g}"
        said += f"; 0 where the clip's CLIP similarity with the ground truth is <= {limit}"
    return said


def by_cuts(scores: evaluation.Scores, crosses: Sequence[str]) -> dict[str, Any]:
    """Return means over the clips within one scene and over those that a film cut goes through.

    Parameters
    ----------
    scores : Scores
        Per-clip values.
    crosses : sequence of str
        ``crosses_scene`` of ``clips.csv`` for each clip: 1, 0, or empty if unknown.

    Returns
    -------
    dict
        ``within`` and ``crossing``, each with ``n`` and the means by metric; empty where cuts are
        unknown.
    """
    if not all(crosses):
        return {}
    crossing = np.array([word == "1" for word in crosses])
    return {
        name: {
            "n": int(rows.sum()),
            "metrics": {m: float(np.nanmean(v[rows])) for m, v in scores.metrics.items()},
        }
        for name, rows in (("within", ~crossing), ("crossing", crossing))
        if rows.any()
    }


def per_clip(
    config: EvaluationConfig,
    scores: evaluation.Scores,
    found: Retrieval | None,
    clips: Sequence[Mapping[str, str]],
    unequal: Sequence[UnequalPair] = (),
) -> tuple[list[str], list[list[Any]]]:
    """One line per clip: what it is, its metrics, and the same of the shuffled control.

    Parameters
    ----------
    config : EvaluationConfig
        How it was measured.
    scores, found
        Per-clip values.
    clips : sequence of mapping
        What is known of each clip; the keys of `ABOUT` are taken.
    unequal : sequence of UnequalPair
        Pairs that were compared over a part of their time.

    Returns
    -------
    tuple
        Header and lines; a cell is empty where a metric does not cover the clip.
    """
    if config.label:
        clips = [{**clip, "evaluators": config.label} for clip in clips]
    if unequal:
        seconds = {pair.clip: f"{pair.compared_s:.6g}" for pair in unequal}
        clips = [{**clip, "compared_s": seconds.get(clip["clip"], "")} for clip in clips]
    about = [key for key in ABOUT if key in clips[0]]
    columns = scores.metrics | (found.metrics if found else {})
    columns |= {f"ground_truth_{name}": of for name, of in scores.ground_truth.items()}
    columns |= {"ground_truth_brightness": scores.brightness}
    shuffled = scores.shuffled | (found.shuffled if found else {})
    columns |= {f"shuffled_{name}": values for name, values in shuffled.items()}
    for name, (values, errors) in scores.monte_carlo.items():
        columns |= {f"monte_carlo_{name}": values, f"monte_carlo_se_{name}": errors}
    rows = [
        [clip[key] for key in about]
        + ["" if np.isnan(values[i]) else f"{values[i]:.6g}" for values in columns.values()]
        for i, clip in enumerate(clips)
    ]
    return [*about, *columns], rows
