"""The metric table as plain rows, for the terminal and for HTML alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuroclips_cli.metrics.extra import EXTRA_METRICS
from neuroclips_cli.protocols.evaluation_config import SYNTHETIC_EVALUATORS
from neuroclips_cli.reporting.paper_tables import of_subject

LABELS = {
    "clip_pcc": "CLIP-pcc (smoothness)",
    "clip_similarity": "CLIP similarity",
    "pixel_pearson": "pixel correlation",
    "hue_similarity": "hue (cosine)",
    "caption_similarity": "caption similarity",
    **{name: metric.label for name, metric in EXTRA_METRICS.items()},
    "ssim": "SSIM",
    "psnr": "PSNR (dB)",
    "retrieval_fmri_to_image": "fMRI to image, top-1",
    "retrieval_fmri_to_image_top5": "fMRI to image, top-5",
    "retrieval_image_to_fmri": "image to fMRI, top-1",
    "retrieval_image_to_fmri_top5": "image to fMRI, top-5",
}

DIGITS = {"psnr": 2, **{name: metric.digits for name, metric in EXTRA_METRICS.items()}}
"""Digits behind the point, where they are not 3."""
CONTROLS = {"shuffled_fmri": "shuffled fMRI", "shuffled_pairs": "shuffled pairs"}
"""The re-paired control of a run, and of clips that no scan was decoded to."""
SHOWN_PAIRS = 8
"""Pairs that a note lists by name."""
PAPER_NOTE = (
    "* Paper: NeuroClips on cc2017 (Table 1; retrieval: Table 4, 300 candidates), clips after "
    "fusion, for orientation. Not comparable with other films or evaluators; its accuracies count "
    "three ground-truth classes (chance 0.750 and 0.058), as protocol neuroclips does."
)
COLUMNS = {
    "metric": "label",
    "value [95 %]": "value",
    "SD": "deviation",
    "[95 %, scenes]": "scenes",
    "Monte Carlo (s.e.)": "sampled",
    "shuffled": "control",
    "chance": "chance",
    "paper*": "paper",
}
"""Heading -> what a `MetricRow` calls it."""


@dataclass(frozen=True)
class MetricRow:
    """One line of the table; every field is text, empty where there is nothing to say."""

    name: str
    label: str
    value: str
    control: str
    chance: str
    paper: str
    deviation: str = ""
    scenes: str = ""
    sampled: str = ""


def label(name: str) -> str:
    """Return what a metric is called in a table: ``video_50way`` -> ``video 50-way``."""
    if name in LABELS:
        return LABELS[name]
    kind, _, ways = name.partition("_")
    return f"{kind} {ways.removesuffix('way')}-way" if ways.endswith("way") else name


def number(name: str, value: float) -> str:
    """Return a value with the digits its metric deserves."""
    return f"{value:.{DIGITS.get(name, 3)}f}"


def with_interval(name: str, summary: Mapping[str, Any] | None) -> str:
    """Return ``0.812 [0.790, 0.834]``; empty without a summary."""
    if not summary:
        return ""
    return f"{number(name, summary['mean'])} {_interval(name, summary['ci95'])}"


def _interval(name: str, bounds: Sequence[float] | None) -> str:
    return f"[{number(name, bounds[0])}, {number(name, bounds[1])}]" if bounds else ""


def _sampled(found: Mapping[str, float] | None) -> str:
    return f"{found['mean']:.4f} ({found['standard_error']:.4f})" if found else ""


def text_table(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return headings and lines of the table, without columns that are empty throughout."""
    rows = metric_rows(result)
    used = [name for name, kept in COLUMNS.items() if any(getattr(row, kept) for row in rows)]
    heading = f"{CONTROLS[control_name(result)]} [95 %]"
    shown = [heading if name == "shuffled" else name for name in used]
    return shown, [[getattr(row, COLUMNS[name]) for name in used] for row in rows]


def control_name(result: Mapping[str, Any]) -> str:
    """Return what the re-paired control is called in ``controls``."""
    return next((name for name in CONTROLS if name in result.get("controls", {})), "shuffled_fmri")


def measured_how(result: Mapping[str, Any]) -> str:
    """Return how many clips were measured how, and of what decoder if not the subject's own."""
    protocol = result["protocol"]
    said = [f"{protocol['n']} clips", f"protocol {protocol['protocol']}"]
    if result.get("training_protocol", "within") != "within":
        said.append(f"decoder {result['training_protocol']}")
    if protocol.get("evaluators") == SYNTHETIC_EVALUATORS:
        said.append(SYNTHETIC_EVALUATORS)
    return ", ".join(said)


def sentence(words: str) -> str:
    """Return words with a capital at the beginning and a full stop at the end."""
    return f"{words[0].upper()}{words[1:]}."


def unequal_words(unequal: Sequence[Mapping[str, Any]], pairs: int) -> str:
    """Return how many pairs are of unequal length, and which: entries of ``unequal_pairs``."""
    names = [
        f"{pair['clip']} ({pair['pred_s']:.3g} s against {pair['gt_s']:.3g} s)"
        for pair in unequal[:SHOWN_PAIRS]
    ]
    more = " ..." if len(unequal) > SHOWN_PAIRS else ""
    return (
        f"{len(unequal)} of {pairs} pairs of unequal length, compared over the time that both "
        f"clips have: {', '.join(names)}{more}"
    )


def metric_rows(result: Mapping[str, Any]) -> list[MetricRow]:
    """Turn the content of ``metrics.json`` into the lines of the table.

    Parameters
    ----------
    result : mapping
        ``metrics``, ``controls`` and ``chance`` as `neuroclips_cli.stages.evaluate` writes them.

    Returns
    -------
    list of MetricRow
        In the order of ``metrics``.
    """
    control = result.get("controls", {}).get(control_name(result), {})
    paper = of_subject(result.get("subject"))
    known = result.get("chance", {})
    drawn = result.get("monte_carlo", {}).get("metrics", {})
    return [
        MetricRow(
            name=name,
            label=label(name),
            value=with_interval(name, summary),
            control=with_interval(name, control.get(name)),
            chance=number(name, known[name]) if name in known else "",
            paper=number(name, paper[name]) if name in paper else "",
            deviation=number(name, summary["std"]),
            scenes=_interval(name, summary.get("ci95_scenes")),
            sampled=_sampled(drawn.get(name)),
        )
        for name, summary in result["metrics"].items()
    ]


def notes(result: Mapping[str, Any]) -> list[str]:
    """Return what a reader of the table must know: the other controls and the paper's caveat."""
    said = [sentence(result["left_out"])] if result.get("left_out") else []
    if result.get("unequal_pairs"):
        words = unequal_words(result["unequal_pairs"], result["protocol"]["n"])
        said.append(words + ".")
    controls = result.get("controls", {})
    truth = controls.get("ground_truth", {}).get("clip_pcc")
    frozen = controls.get("frozen_frame", {}).get("clip_pcc")
    if truth and frozen:
        said.append(
            "CLIP-pcc measures smoothness, not decoding: the ground truth has "
            f"{number('clip_pcc', truth['mean'])}, a frozen frame "
            f"{number('clip_pcc', frozen['mean'])}."
        )
    moved = controls.get("shuffled_scenes", {})
    if moved:
        values = ", ".join(f"{label(n)} {number(n, s['mean'])}" for n, s in moved.items())
        whose = "scans" if control_name(result) == "shuffled_fmri" else "clips"
        said.append(f"With the {whose} of other scenes: {values}.")
    said += _cuts(result.get("cuts", {}))
    said += _of_protocol(result.get("protocol", {}), result.get("chance", {}))
    ceiling = controls.get("noise_ceiling", {})
    if ceiling.get("split_half_r") is not None:
        said.append(
            f"Test scans repeat with a median split-half correlation of "
            f"{ceiling['split_half_r']:.2f} over {ceiling['voxels']} voxels "
            f"({ceiling['spearman_brown_r']:.2f} for all {ceiling['repetitions']} repetitions)."
        )
    said.append(PAPER_NOTE)
    return said


def _cuts(cuts: Mapping[str, Any]) -> list[str]:
    """Return how clips that a film cut goes through compare with the others."""
    if len(cuts) < 2:
        return []
    within, crossing = cuts["within"], cuts["crossing"]
    pairs = ", ".join(
        f"{label(n)} {number(n, value)} ({number(n, within['metrics'][n])})"
        for n, value in crossing["metrics"].items()
    )
    return [
        f"The {crossing['n']} clips that cross a film cut, beside the {within['n']} others in "
        f"brackets: {pairs}."
    ]


def _of_protocol(protocol: Mapping[str, Any], chance: Mapping[str, float]) -> list[str]:
    """Return what sets a published protocol apart from the standard one, and other evaluators."""
    if protocol.get("protocol", "standard") == "standard":
        return _other_evaluators(protocol)
    levels = ", ".join(f"{label(name)} {level:.3f}" for name, level in chance.items())
    levels = f" (chance: {levels})" if levels else ""
    said = [
        f"Protocol {protocol['protocol']} ({protocol['source']}). Ground-truth classes: "
        f"{protocol['ground_truth_classes']}{levels}. SSIM: {protocol['ssim']}. "
        f"CLIP-pcc: {protocol['clip_pcc']}. Remarks: {'; '.join(protocol['remarks'])}."
    ]
    return said + _other_evaluators(protocol)


def _other_evaluators(protocol: Mapping[str, Any]) -> list[str]:
    """Return that the evaluators are not those of the protocol, if so."""
    said = []
    other = [
        f"{protocol[evaluator]} instead of {published}"
        for evaluator, published in protocol.get("published_evaluators", {}).items()
        if published != protocol[evaluator]
    ]
    if other:
        said.append(
            f"Evaluators are not the protocol's ({'; '.join(other)}): the figures cannot be "
            "compared with the published ones."
        )
    return said
