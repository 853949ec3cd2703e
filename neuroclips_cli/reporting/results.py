"""What ``evaluate`` writes: ``metrics.json`` and the lines of ``per_clip.csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neuroclips_cli.metrics import nway, pixel, suite
from neuroclips_cli.metrics.identification import Retrieval
from neuroclips_cli.metrics.statistics import summarise
from neuroclips_cli.schema import EvaluateSettings

TRUTH_CLASSES = (
    "one per frame (top-1 of the image classifier on the ground-truth frame of the same time) "
    "and one per clip (top-1 of the video classifier on the ground-truth clip)"
)
ABOUT = ("clip", "segment", "crosses_scene", "scene")


def assemble(
    protocol: EvaluateSettings,
    judges: Mapping[str, str],
    seed: int,
    scores: suite.Scores,
    found: Retrieval | None,
    scenes: np.ndarray | None,
) -> dict[str, Any]:
    """Summarise per-clip values into the content of ``metrics.json``.

    Parameters
    ----------
    protocol : EvaluateSettings
        How it was measured.
    judges : mapping
        Name of each judging network -> its reference.
    seed : int
        Of the shuffles and the bootstrap.
    scores : Scores
        Per-clip values.
    found : Retrieval or None
        Per-clip retrieval, where it was measured.
    scenes : numpy.ndarray or None
        (clips,) scene labels, for the second interval.

    Returns
    -------
    dict
        ``metrics``, ``controls``, ``chance``, ``protocol``.
    """

    def summaries(values: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {
            name: summarise(column, protocol.bootstrap_samples, seed, scenes).as_dict()
            for name, column in values.items()
        }

    names = suite.metric_names(protocol.ways)
    metrics = {name: scores.metrics[name] for name in names}
    shuffled = {name: scores.shuffled[name] for name in names if scores.shuffled}
    chance = {name: nway.chance(n) for n in protocol.ways for name in _accuracies(n)}
    if found:
        metrics |= found.metrics
        shuffled |= found.shuffled
        chance |= {
            name: min(1.0, (5 if name.endswith("_top5") else 1) / found.part)
            for name in found.metrics
        }
    return {
        "metrics": summaries(metrics),
        "controls": {
            "shuffled_fmri": summaries(shuffled),
            "ground_truth": summaries(scores.ground_truth),
            "frozen_frame": summaries(scores.frozen_frame),
        },
        "chance": chance,
        "protocol": {
            **_protocol(protocol, len(scores.metrics["ssim"]), judges),
            "ci95_scenes": None if scenes is None else "the same, whole scenes drawn",
            "retrieval_part": found.part if found else None,
            "seed": seed,
        },
    }


def _accuracies(ways: int) -> tuple[str, str]:
    return f"video_{ways}way", f"frame_{ways}way"


def _protocol(protocol: EvaluateSettings, clips: int, judges: Mapping[str, str]) -> dict[str, Any]:
    return {
        "n": clips,
        "fps": protocol.fps,
        "size": protocol.size,
        **judges,
        "nway": "exact closed form, top-1, ties at even odds",
        "ground_truth_classes": TRUTH_CLASSES,
        "ssim": pixel.SSIM_VARIANT,
        "psnr": f"data range 255, at most {pixel.PSNR_CAP_DB:g} dB",
        "frame_metrics": "mean over the frames of a clip, then over clips",
        "ci95": f"percentile bootstrap over clips, {protocol.bootstrap_samples} samples",
        "shuffles": protocol.shuffles,
        "shuffles_of_pixel_metrics": suite.pixel_shuffles(clips, protocol.shuffles),
    }


def per_clip(
    scores: suite.Scores, found: Retrieval | None, clips: Sequence[Mapping[str, str]]
) -> tuple[list[str], list[list[Any]]]:
    """One line per clip: what it is, its metrics, and the same with other clips' fMRI.

    Parameters
    ----------
    scores, found
        Per-clip values.
    clips : sequence of mapping
        What is known of each clip; the keys of `ABOUT` are taken.

    Returns
    -------
    tuple
        Header and lines; a cell is empty where a metric does not cover the clip.
    """
    about = [key for key in ABOUT if key in clips[0]]
    columns = scores.metrics | (found.metrics if found else {})
    columns |= {"ground_truth_clip_pcc": scores.ground_truth["clip_pcc"]}
    shuffled = scores.shuffled | (found.shuffled if found else {})
    columns |= {f"shuffled_{name}": values for name, values in shuffled.items()}
    rows = [
        [clip[key] for key in about]
        + ["" if np.isnan(values[i]) else f"{values[i]:.6g}" for values in columns.values()]
        for i, clip in enumerate(clips)
    ]
    return [*about, *columns], rows


def as_csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
