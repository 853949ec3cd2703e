"""What ``evaluate`` does with two sets of clips before measuring: names, rate, common time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from neuroclips_cli import console
from neuroclips_cli.data.clips import FolderClips, list_clips, open_clips
from neuroclips_cli.data.loaded_clips import LoadedClips, load_clips
from neuroclips_cli.data.resample import ArrayClips, ClipShape, frame_count
from neuroclips_cli.data.side_by_side import position
from neuroclips_cli.errors import UserError
from neuroclips_cli.metrics import common_time
from neuroclips_cli.metrics.common_time import NothingInCommon, Pairs, ShapedClips
from neuroclips_cli.protocols.evaluation_config import EvaluationConfig
from neuroclips_cli.runs.stage import read_array, read_csv
from neuroclips_cli.stages._requests import FUSED

SHOWN_NAMES = 8
"""Clips that a message lists by name."""
PREFIX = "gt_"
"""Before the names of the ground truth in NeuroClips' published examples."""


def match(
    left: Mapping[str, Path | int], right: Mapping[str, Path | int], pred: Path, gt: Path
) -> tuple[dict[str, Path | int], dict[str, Path | int]]:
    """Pair two sets by name; a set that is an array has no names and is paired in order.

    Parameters
    ----------
    left, right : mapping
        Name of a clip -> its file, folder or row, of ``--pred`` and ``--gt``.
    pred, gt : Path
        The two sets, for messages.

    Returns
    -------
    tuple of dict
        The same clips under the same names in the same order. In the published arrangement
        ``gt_11.gif`` belongs to ``11.gif``, in two folders or in one that is given twice.
    """
    unnamed = any(isinstance(entry, int) for entry in (*left.values(), *right.values()))
    if unnamed:
        if len(left) != len(right):
            raise UserError(
                f"--pred {pred} holds {len(left)} clips and --gt {gt} holds {len(right)}: an "
                "array is paired in order, so both must hold the same number"
            )
        console.info(f"{len(left)} pairs, matched in order")
        return dict(left), dict(right)
    left, right = _without_prefix(left, right)
    extra = {
        "--pred": [name for name in left if name not in right],
        "--gt": [name for name in right if name not in left],
    }
    if any(extra.values()):
        said = [f"only in {option}: {_listed(names)}" for option, names in extra.items() if names]
        raise UserError(
            f"the clips of --pred {pred} and --gt {gt} must have the same names "
            f"({'; '.join(said)}): rename or remove these"
        )
    console.info(f"{len(left)} pairs, matched by name")
    return dict(left), {name: right[name] for name in left}


def _without_prefix(
    left: Mapping[str, Path | int], right: Mapping[str, Path | int]
) -> tuple[Mapping[str, Path | int], Mapping[str, Path | int]]:
    """Take ``gt_`` off the ground truth's names where that is what makes the sets fit."""
    marked = {name.removeprefix(PREFIX): c for name, c in right.items() if name.startswith(PREFIX)}
    if not marked or (left.keys() == right.keys() and left != right):
        return left, right
    plain = {name: clip for name, clip in left.items() if not name.startswith(PREFIX)}
    both = left == right and plain.keys() == marked.keys()
    if both or (left.keys() == marked.keys() and len(marked) == len(right)):
        return plain if both else left, marked
    return left, right


def _listed(names: Sequence[str]) -> str:
    """Return the first names, and that there are more."""
    return ", ".join(names[:SHOWN_NAMES]) + (" ..." if len(names) > SHOWN_NAMES else "")


def pair_up(pred: ShapedClips, gt: ShapedClips, names: Sequence[str], fps: float) -> Pairs:
    """Cut both clips of every pair to their common time.

    Raises
    ------
    UserError
        If the clips of a pair have no time in common.
    """
    try:
        return common_time.pair_up(pred, gt, names, fps)
    except NothingInCommon as problem:
        raise UserError(
            f"two clips have nothing in common in time ({problem}): cut both to the same time of "
            "the film"
        ) from problem


def say_resampling(sets: Mapping[str, Sequence[ClipShape]], fps: float, size: int) -> None:
    """Say what happens to each set of clips.

    Parameters
    ----------
    sets : mapping
        Which set -> its clips' own shapes.
    fps, size
        Frame rate in Hz, and height and width in pixels, that they are brought to.
    """
    for option, shapes in sets.items():
        kinds = list(dict.fromkeys(map(str, shapes)))
        shown = "; ".join(kinds[:3]) + (f"; and {len(kinds) - 3} more kinds" if kinds[3:] else "")
        counts = sorted({frame_count(shape.frames, shape.fps, fps) for shape in shapes})
        frames = f"{counts[0]} to {counts[-1]}" if counts[1:] else f"{counts[0]}"
        console.info(
            f"{option}: {len(shapes)} clips ({shown}) brought to {frames} frames at {fps:g} fps, "
            f"{size} x {size} pixels: {_how(shapes, fps, size)}"
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


@dataclass(frozen=True)
class RunClips:
    """Reconstructed clips: ``rows`` of ``array`` show the test clips ``index``."""

    folder: Path
    array: np.ndarray
    rows: np.ndarray
    index: np.ndarray


def clips_of_run(reconstruction: Path, run: str) -> RunClips:
    """Open the clips of a run; those of fused chains are cut out of them again."""
    array = read_array(reconstruction / "clips.npy")
    if run != FUSED:
        index = np.asarray(read_array(reconstruction / "index.npy"))
        return RunClips(reconstruction, array, np.arange(len(array)), index)
    chains = read_csv(reconstruction / "chains.csv")
    frames = int(chains[0]["frames"])
    links = array.shape[1] // frames
    rows = np.array([int(row["chain"]) * links + int(row["position"]) for row in chains])
    index = np.array([int(row["clip"]) for row in chains])
    order = np.argsort(index)
    parts = array.reshape(-1, frames, *array.shape[2:])
    return RunClips(reconstruction, parts, rows[order], index[order])


def open_pairs(
    config: EvaluationConfig, pred: Path, gt: Path, out: Path, panels: str | None
) -> tuple[EvaluationConfig, Pairs]:
    """Match, decode and pair two sets of clips; return the configuration at their rate, too."""
    left, right = match(list_clips(pred, "--pred"), list_clips(gt, "--gt"), pred, gt)
    opened = [
        open_clips(
            path,
            names,
            option,
            clip_s=config.clip_s,
            target_fps=config.fps,
            size=config.size,
            panel=position(panels, option.removeprefix("--")) if panels else None,
        )
        for path, names, option in ((pred, left, "--pred"), (gt, right, "--gt"))
    ]
    sets = _decoded(config, opened, out)
    slowest = config.at_rate_of(*(shape.fps for side in sets for shape in side.shapes))
    if slowest.fps != config.fps:
        config, sets = slowest, _decoded(slowest, opened, out)
    options = {"--pred": sets[0].shapes, "--gt": sets[1].shapes}
    say_resampling(options, config.fps, config.size)
    return config, pair_up(sets[0], sets[1], list(left), config.fps)


def _decoded(
    config: EvaluationConfig, opened: Sequence[ArrayClips | FolderClips], out: Path
) -> list[ArrayClips | LoadedClips]:
    """Decode the clips of folders into a scratch file near the results; arrays stay as they are."""
    folders = [clips for clips in opened if isinstance(clips, FolderClips)]
    place = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    with console.progress("reading clips", sum(map(len, folders))) as advance:
        loaded = iter(load_clips(folders, config.fps, config.size, place, advance))
    return [
        next(loaded) if isinstance(clips, FolderClips) else replace(clips, target_fps=config.fps)
        for clips in opened
    ]
