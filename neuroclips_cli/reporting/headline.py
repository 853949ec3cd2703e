"""A run in one sentence, and its first clips in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neuroclips_cli.reporting.clips import ShownClip
from neuroclips_cli.reporting.comparison import ComparedRun
from neuroclips_cli.reporting.tables import control_name, label, number

LOOK_UP = "nearest-training-clip"
"""The control that decodes nothing new: the training clip whose scan is most alike."""


def headline(
    result: Mapping[str, Any],
    controls: Sequence[tuple[str, Sequence[ComparedRun]]],
) -> str:
    """Say how well a run did against chance, against shuffled clips and against looking up.

    Parameters
    ----------
    result : mapping
        Content of ``metrics.json``.
    controls : sequence of tuple
        Name of a control, and the comparison of the run with it.

    Returns
    -------
    str
        One sentence: the hardest accuracy of clips and of frames, and SSIM, each with what it is
        to be read against; empty where none of them was measured.
    """
    metrics, chance = result["metrics"], result.get("chance", {})
    shuffled = result.get("controls", {}).get(control_name(result), {})
    found = dict(controls).get(LOOK_UP)
    looked_up = found[1].metrics if found else {}
    parts = []
    for name in _hardest(metrics):
        against = []
        if name in chance:
            against.append(f"chance {number(name, chance[name])}")
        elif name in shuffled:
            against.append(f"shuffled {number(name, shuffled[name]['mean'])}")
        if name in looked_up:
            against.append(f"look-up {number(name, looked_up[name].mean)}")
        beside = f" ({', '.join(against)})" if against else ""
        parts.append(f"{label(name)} {number(name, metrics[name]['mean'])}{beside}")
    if not parts:
        return ""
    explained = "; look-up is the training clip with the most similar scan" if looked_up else ""
    return f"{result['protocol']['n']} clips: {', '.join(parts)}{explained}."


def _hardest(metrics: Mapping[str, Any]) -> list[str]:
    """Return the accuracy with most ways of clips and of frames, and SSIM, where measured."""
    names = []
    for kind in ("video", "frame"):
        ways = [name for name in metrics if name.startswith(f"{kind}_") and name.endswith("way")]
        names += sorted(ways, key=lambda name: int(name[len(kind) + 1 : -3]))[-1:]
    return names + [name for name in ("ssim",) if name in metrics]


def in_words(clips: Sequence[ShownClip]) -> list[str]:
    """Say what some clips showed and what was decoded, those with both captions only.

    Parameters
    ----------
    clips : sequence of ShownClip
        In the order of the sentences.

    Returns
    -------
    list of str
        Such as ``clip 7: shown "a red ball", decoded "a red box"``.
    """
    return [
        f'clip {clip.number}: shown "{clip.true_caption}", decoded "{clip.caption}"'
        for clip in clips
        if clip.true_caption and clip.caption
    ]
