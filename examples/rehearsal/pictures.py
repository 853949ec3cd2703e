"""Films of the miniature: a disc of one color that crosses a background of another."""

from __future__ import annotations

import numpy as np

COLORS = np.array(
    [[230, 40, 40], [40, 200, 60], [50, 80, 230], [235, 220, 50], [230, 90, 220], [240, 240, 240]],
    np.uint8,
)
NAMES = ("red", "green", "blue", "yellow", "pink", "white")


def scene_of(film: int, clip: int) -> tuple[int, int]:
    """Return the colors of disc and background of a clip; two clips in a row are one scene."""
    number = film * 7 + clip // 2
    disc = number % len(COLORS)
    return disc, (disc + 1 + number // len(COLORS) % (len(COLORS) - 1)) % len(COLORS)


def caption(film: int, clip: int) -> str:
    """Return a clip's caption."""
    disc, ground = scene_of(film, clip)
    return f"a {NAMES[disc]} ball over the {NAMES[ground]} sea"


def frames(film: int, clip: int, count: int, size: int) -> np.ndarray:
    """Draw a clip, uint8 (count, size, size, 3)."""
    disc, ground = scene_of(film, clip)
    y, x = np.mgrid[:size, :size] / size
    clips = np.empty((count, size, size, 3), np.uint8)
    for frame in range(count):
        center = (clip % 2 + frame / count) / 2
        inside = (x - center) ** 2 + (y - 0.5) ** 2 < 0.09
        shade = (0.5 + 0.5 * y)[..., None] * COLORS[ground]
        clips[frame] = np.where(inside[..., None], COLORS[disc], shade.astype(np.uint8))
    return clips


def features(film: int, clip: int) -> np.ndarray:
    """Return what a brain answers to: colors of disc and background, float (12,)."""
    shown = np.zeros((2, len(COLORS)))
    shown[[0, 1], list(scene_of(film, clip))] = 1
    return shown.ravel()
