"""Every clip of a run, small enough that a report of 1200 of them stays one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image

from neuroclips_cli.reporting import images
from neuroclips_cli.reporting.clips import ShownClip

BUDGET = 26_000_000
"""Bytes that the pictures of all clips may take together in the report's file."""
FORMS = ((96, 80), (96, 60), (72, 50), (56, 40), (40, 30))
"""Width of a frame in pixels and WebP quality, from good to small."""
SAMPLE = 16
"""Clips that are encoded to find the form that fits the budget."""
GAP = 2
"""Gray pixels between two pictures of one row."""
FRAMES = 6
"""Frames of one clip: 3 per second for clips of 2 s, as the films are kept (paper 4.1)."""


def gallery(
    clips: Sequence[Callable[[], ShownClip]], metrics: Sequence[str], clip_s: float
) -> list[dict[str, object]]:
    """Encode every clip for the report's page, which shows some at a time and sorts them.

    Parameters
    ----------
    clips : sequence of callable
        Each reads one clip when it is called, so that only one is in memory.
    metrics : sequence of str
        Metrics to sort by; the order of every clip's ``scores``.
    clip_s : float
        How long one turn of the moving pictures lasts, in seconds.

    Returns
    -------
    list of dict
        ``number``, ``moving`` (film and reconstruction side by side), ``still`` (keyframe, and
        first and last frame of the blurry clip, side by side; empty where the run has neither),
        ``gt_caption``, ``caption`` and ``scores`` (a number or None each).
    """
    if not clips:
        return []
    form = _form(clips, clip_s)
    return [_entry(read(), metrics, clip_s, form) for read in clips]


def _form(clips: Sequence[Callable[[], ShownClip]], clip_s: float) -> tuple[int, int]:
    """Return the best form in which all clips stay within the budget, evaluated by some of them."""
    places = np.unique(np.linspace(0, len(clips) - 1, SAMPLE).round().astype(int))
    sample = [clips[place]() for place in places]
    for form in FORMS[:-1]:
        size = sum(len(str(_entry(clip, (), clip_s, form))) for clip in sample)
        if size / len(sample) * len(clips) <= BUDGET:
            return form
    return FORMS[-1]


def _entry(
    clip: ShownClip, metrics: Sequence[str], clip_s: float, form: tuple[int, int]
) -> dict[str, object]:
    width, quality = form
    both = [frames for frames in (clip.gt, clip.pred) if frames is not None]
    pair = _side_by_side([_small(_thinned(frames), width) for frames in both])
    parts = [] if clip.keyframe is None else [clip.keyframe]
    parts += [] if clip.blurry is None else [clip.blurry[0], clip.blurry[-1]]
    still = ""
    if parts:
        row = _side_by_side([_small(part[None], width) for part in parts])
        still = images.still(row[0], quality)
    scores = [clip.scores[name] for name in metrics]
    return {
        "number": clip.number,
        "moving": images.moving(pair, clip_s, quality),
        "still": still,
        "gt_caption": clip.true_caption,
        "caption": clip.caption,
        "scores": [None if np.isnan(value) else round(float(value), 4) for value in scores],
    }


def _side_by_side(clips: Sequence[np.ndarray]) -> np.ndarray:
    """Join clips, uint8 (frames, h, w, 3), along their width with a gap between them."""
    gap = np.full((*clips[0].shape[:2], GAP, 3), 127, np.uint8)
    joined = [part for clip in clips for part in (gap, clip)]
    return np.concatenate(joined[1:], axis=2)


def _thinned(frames: np.ndarray) -> np.ndarray:
    """Return `FRAMES` frames, each the one on screen at its time."""
    return np.asarray(frames[np.arange(FRAMES) * len(frames) // FRAMES])


def _small(frames: np.ndarray, width: int) -> np.ndarray:
    """Return square frames of at most ``width`` pixels; smaller ones are enlarged to it whole."""
    return np.stack([_resized(frame.tobytes(), frame.shape, width) for frame in frames])


@lru_cache(maxsize=64)
def _resized(data: bytes, shape: tuple[int, ...], width: int) -> np.ndarray:
    """Resize one frame; a frame that stands still is resized once."""
    image = Image.frombytes("RGB", (shape[1], shape[0]), data)
    method = Image.Resampling.BOX if max(shape[:2]) >= width else Image.Resampling.NEAREST
    return np.asarray(image.resize((width, width), method))
