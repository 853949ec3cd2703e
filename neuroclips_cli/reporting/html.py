"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuroclips_cli.reporting import images, lag, tables
from neuroclips_cli.reporting.clips import ShownChain, ShownClip
from neuroclips_cli.reporting.comparison import LEVEL, ComparedRun, versus
from neuroclips_cli.reporting.distributions import histograms
from neuroclips_cli.reporting.headline import headline
from neuroclips_cli.reporting.minutes import Point, drawings

KINDS = {
    "random": "drawn at random",
    "best": "among the best",
    "median": "around the median",
    "worst": "among the worst",
    "all": "",
}
"""Why a clip is shown -> what its card says."""


@dataclass(frozen=True)
class BrainMaps:
    """What ``interpret`` found.

    Attributes
    ----------
    picture : numpy.ndarray or None
        uint8 (h, w, 3); None where positions are not known.
    areas : sequence of mapping
        Lines of ``areas.csv``; empty where no regions are known.
    """

    picture: np.ndarray | None
    areas: Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class ReportContent:
    """Everything that the report says.

    Attributes
    ----------
    title : str
        Such as ``sub-01``.
    result : mapping
        Content of ``metrics.json``.
    scores, shuffled : mapping
        Metric -> float (clips,): the run's, and the same with other clips' reconstructions.
    ablations, controls : sequence of tuple
        Name of another run, and the comparison of this run with it.
    explained : mapping
        Name of a control -> what it is.
    brain : BrainMaps or None
    missing : mapping
        Part that this report lacks -> the command that makes it.
    clips : sequence of ShownClip
        Those at the top of the page.
    rule : str
        How they were chosen.
    gallery : sequence of mapping
        Every clip, as `neuroclips_cli.reporting.gallery.gallery` gives it.
    metrics : sequence of str
        Metrics that the gallery can be sorted by, in the order of its scores.
    minutes : sequence of Point
        Results of the subject by decoders that were trained on different minutes of its films.
    lag : mapping or None
        The lag scan as ``preprocess`` notes it; None where none was made.
    delay_s : float
        Delay that the responses are read at, in s.
    chains : sequence of ShownChain
    clip_s : float
        Duration of one scan's clip in seconds.
    frame_fps : float
        Frame rate of a chain's ground truth in Hz; its duration follows from it.
    settings : mapping
        Section -> key -> value.
    versions : mapping
        Program or library -> version.
    pred : str
        When, in words.
    """

    title: str
    result: Mapping[str, Any]
    scores: Mapping[str, np.ndarray]
    shuffled: Mapping[str, np.ndarray]
    ablations: Sequence[tuple[str, Sequence[ComparedRun]]]
    controls: Sequence[tuple[str, Sequence[ComparedRun]]]
    explained: Mapping[str, str]
    brain: BrainMaps | None
    missing: Mapping[str, str]
    clips: Sequence[ShownClip]
    rule: str
    gallery: Sequence[Mapping[str, object]]
    metrics: Sequence[str]
    minutes: Sequence[Point]
    lag: Mapping[str, Any] | None
    delay_s: float
    chains: Sequence[ShownChain]
    clip_s: float
    frame_fps: float
    settings: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]
    made: str


def render(content: ReportContent) -> str:
    """Return the report as the text of an HTML file; every text in it is escaped."""
    return _template("report.html.jinja").render(
        content=content,
        rows=[(row, _bar(row.name, content.result)) for row in tables.metric_rows(content.result)],
        notes=tables.notes(content.result),
        measured_how=tables.measured_how(content.result),
        histograms=histograms(content.scores, content.shuffled),
        versus={
            "controls": versus(content.controls),
            "ablations": versus(content.ablations),
        },
        level=LEVEL,
        explained={
            name: content.explained[name]
            for name, _ in content.controls
            if name in content.explained
        },
        brain=_brain(content.brain),
        headline=headline(content.result, content.controls),
        cards=[_card(clip, content.clip_s) for clip in content.clips],
        labels=[tables.label(name) for name in content.metrics],
        minutes=drawings(content.minutes),
        lag=None if content.lag is None else lag.drawing(content.lag, content.delay_s),
        chains=[_chain(chain, content.frame_fps) for chain in content.chains],
    )


def _template(name: str) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("neuroclips_cli", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def render_decoded(title: str, subtitle: str, header: Sequence[str], rows: Sequence[Any]) -> str:
    """Return the page of decoded clips, which stands beside their videos.

    Parameters
    ----------
    title, subtitle : str
        What was decoded, and with what.
    header : sequence of str
        Names of the columns beside the video.
    rows : sequence of tuple
        Number of a clip, its keyframe (uint8 (h, w, 3), or None) and the texts of its columns.
    """
    return str(
        _template("decoded.html.jinja").render(
            title=title,
            subtitle=subtitle,
            header=header,
            rows=[
                (number, "" if still is None else images.still(still), texts)
                for number, still, texts in rows
            ],
        )
    )


def _bar(name: str, result: Mapping[str, Any]) -> dict[str, float] | None:
    """Where interval, control and chance lie on a scale of 0..100; None off that scale."""
    value = result["metrics"][name]
    control = result["controls"].get(tables.control_name(result), {}).get(name)
    numbers = value["ci95"] + (control["ci95"] if control else [])
    if min(numbers) < 0 or max(numbers) > 1:
        return None
    bar = {f"value_{key}": 100 * number for key, number in _ends(value).items()}
    if control:
        bar |= {f"control_{key}": 100 * number for key, number in _ends(control).items()}
    if name in result.get("chance", {}):
        bar["chance"] = 100 * result["chance"][name]
    return bar


def _ends(summary: Mapping[str, Any]) -> dict[str, float]:
    low, high = summary["ci95"]
    return {"mean": summary["mean"], "low": low, "width": max(high - low, 0.004)}


def _brain(maps: BrainMaps | None) -> dict[str, Any] | None:
    if maps is None:
        return None
    picture = None
    if maps.picture is not None:
        height, width = maps.picture.shape[:2]
        picture = {"source": images.still(maps.picture), "width": width, "height": height}
    return {"picture": picture, "areas": maps.areas}


def _card(clip: ShownClip, clip_s: float) -> dict[str, Any]:
    """Return what the template needs of one clip; alternative texts name what is to be seen."""
    shown = f" ({clip.true_caption})" if clip.true_caption else ""
    pair = [
        _video("Shown", f"Film shown in clip {clip.number}{shown}", clip.gt, clip_s),
        _video("Reconstruction", f"Reconstruction of clip {clip.number}", clip.pred, clip_s),
    ]
    steps = []
    if clip.blurry is not None:
        alt = f"Blurry clip decoded for clip {clip.number}"
        steps.append(_video("Blurry clip", alt, clip.blurry, clip_s))
    if clip.keyframe is not None:
        said = f" (captioned: {clip.caption})" if clip.caption else ""
        alt = f"Keyframe decoded for clip {clip.number}{said}"
        still = images.still(clip.keyframe)
        steps.append({"title": "Keyframe", "alt": alt, "still": still, "moving": None})
    scores = [
        (tables.label(name), tables.number(name, value))
        for name, value in clip.scores.items()
        if not np.isnan(value)
    ]
    return {
        "clip": clip,
        "why": KINDS[clip.kind],
        "pair": pair,
        "steps": steps,
        "scores": scores,
    }


def _chain(chain: ShownChain, fps: float) -> dict[str, Any]:
    seconds = len(chain.gt) / fps
    first, last = chain.numbers[0], chain.numbers[-1]
    which = f"clips {first} to {last}"
    return {
        "title": f"Clips {first} to {last}, {seconds:g} s",
        "parts": [
            _video("Shown", f"Film shown in {which}", chain.gt, seconds),
            _video("Fused reconstruction", f"Reconstruction of {which}", chain.pred, seconds),
        ],
    }


def _video(title: str, alt: str, frames: Any, seconds: float) -> dict[str, Any]:
    return {
        "title": title,
        "alt": alt,
        "still": images.still(frames[0]),
        "moving": images.moving(frames, seconds),
    }
