"""What ``evaluate`` does with two sets of clips before measuring: rate, names, lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from neuroclips_cli import console
from neuroclips_cli.config import Settings, replace_settings
from neuroclips_cli.data.clips import FolderClips
from neuroclips_cli.errors import UserError
from neuroclips_cli.metrics.resample import ArrayClips, ClipShape, frame_count
from neuroclips_cli.protocols import load as load_protocol


def under_protocol(settings: Settings) -> Settings:
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


def rate(settings: Settings, *own: float) -> int:
    """Return the frame rate to measure at; some protocols do not fill up slower clips."""
    if not load_protocol(settings.evaluate.protocol).never_faster:
        return settings.evaluate.fps
    return max(1, min(settings.evaluate.fps, *(int(fps + 1e-6) for fps in own)))


Clips = TypeVar("Clips", ArrayClips, FolderClips, ArrayClips | FolderClips)


def at_rate(settings: Settings, fps: int, pred: Clips, gt: Clips) -> tuple[Settings, Clips, Clips]:
    """Return the settings and both sets at another frame rate."""
    changed = replace_settings(settings, {"evaluate.fps": fps}, origin="protocol")
    return changed, replace(pred, target_fps=fps), replace(gt, target_fps=fps)


def match(
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


def say_resampling(settings: Settings, sets: Shapes) -> None:
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
    check_lengths(fps, sets)


def check_lengths(fps: float, sets: Shapes) -> None:
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
