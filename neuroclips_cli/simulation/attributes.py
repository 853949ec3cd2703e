"""What higher visual cortex might know: graded attributes of what a scene shows.

Every attribute is a hand-made number from 0 to 1 (or -1 to 1 for directions); none comes from a
neural network. Videos of which nothing is known get coarse image descriptors instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.simulation.features import BIN_S, COLOR, FORM, GRID, MOTION
from neuroclips_cli.simulation.synthetic_world import COLORS, KINDS, MOTIONS, SETTINGS, Film

KIND_ATTRIBUTES = {
    # round, pointed, straight, hollow, animate, natural, symmetric, convex, playful, symbolic
    "ball": (1.0, 0.0, 0.0, 0.1, 0.2, 0.0, 0.9, 1.0, 1.0, 0.0),
    "box": (0.0, 0.3, 1.0, 0.5, 0.0, 0.0, 0.8, 1.0, 0.4, 0.0),
    "star": (0.1, 1.0, 0.6, 0.0, 0.1, 0.6, 0.9, 0.2, 0.6, 0.8),
    "ring": (0.9, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.2, 0.2, 0.4),
    "heart": (0.6, 0.5, 0.1, 0.0, 0.8, 0.4, 0.3, 0.6, 0.4, 1.0),
    "cross": (0.0, 0.4, 1.0, 0.1, 0.0, 0.0, 0.9, 0.0, 0.0, 1.0),
    "pyramid": (0.0, 0.9, 0.9, 0.3, 0.0, 0.2, 0.2, 0.9, 0.0, 0.3),
    "moon": (0.5, 0.8, 0.0, 0.7, 0.0, 1.0, 0.1, 0.1, 0.1, 0.5),
    "flower": (0.6, 0.1, 0.0, 0.1, 0.6, 1.0, 1.0, 0.4, 0.3, 0.2),
    "fish": (0.4, 0.5, 0.1, 0.0, 1.0, 0.8, 0.0, 0.7, 0.5, 0.0),
}
COLOR_ATTRIBUTES = {
    # reddish, yellowish, greenish, bluish, light, saturated
    "red": (1.0, 0.2, 0.0, 0.0, 0.3, 1.0),
    "yellow": (0.4, 1.0, 0.3, 0.0, 0.9, 0.9),
    "green": (0.0, 0.3, 1.0, 0.1, 0.5, 0.8),
    "blue": (0.0, 0.0, 0.2, 1.0, 0.1, 1.0),
    "purple": (0.6, 0.0, 0.0, 0.7, 0.2, 0.7),
    "white": (0.1, 0.1, 0.1, 0.1, 1.0, 0.0),
}
MOTION_ATTRIBUTES = {
    # rightward, downward, leftward, upward, oscillating, fast
    "resting": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "moving left": (-1.0, 0.0, 1.0, 0.0, 0.0, 0.5),
    "moving right": (1.0, 0.0, -1.0, 0.0, 0.0, 0.5),
    "rising": (0.0, -1.0, 0.0, 1.0, 0.0, 0.5),
    "falling": (0.0, 1.0, 0.0, -1.0, 0.0, 0.5),
    "swinging": (0.0, 0.0, 0.0, 0.0, 1.0, 1.0),
}
SETTING_ATTRIBUTES = {
    # open, man-made, wet, cold, dark, vegetated
    "at sea": (1.0, 0.0, 1.0, 0.4, 0.2, 0.0),
    "in the desert": (0.9, 0.0, 0.0, 0.0, 0.0, 0.1),
    "in the forest": (0.0, 0.0, 0.4, 0.3, 0.7, 1.0),
    "in the snow": (0.7, 0.0, 0.5, 1.0, 0.0, 0.1),
    "in the city": (0.1, 1.0, 0.1, 0.3, 0.9, 0.0),
    "at sunset": (0.9, 0.2, 0.2, 0.1, 0.6, 0.2),
}


@dataclass(frozen=True)
class Drive:
    """Features that drive higher vertices.

    Attributes
    ----------
    values : float32 (bins, dims)
    groups : tuple of (name, slice of dims, share of higher vertices)
    """

    values: NDArray[np.float32]
    groups: tuple[tuple[str, slice, float], ...]


def scene_attributes(film: Film) -> Drive:
    """Attributes of the scene on screen in every bin, for a film of the synthetic dataset."""
    tables: list[tuple[str, Sequence[str], Mapping[str, tuple[float, ...]], float]] = [
        ("kind", KINDS, KIND_ATTRIBUTES, 0.42),
        ("color", COLORS, COLOR_ATTRIBUTES, 0.2),
        ("motion", MOTIONS, MOTION_ATTRIBUTES, 0.2),
        ("setting", SETTINGS, SETTING_ATTRIBUTES, 0.18),
    ]
    middles = (np.arange(round(film.duration_s / BIN_S)) + 0.5) * BIN_S
    scenes = [film.scenes[film.scene_index(float(t))] for t in middles]
    columns, groups, start = [], [], 0
    for name, members, attributes, share in tables:
        table = np.array([attributes[member] for member in members], np.float32)
        columns.append(table[[getattr(scene, name) for scene in scenes]])
        groups.append((name, slice(start, start + table.shape[1]), share))
        start += table.shape[1]
    return Drive(np.concatenate(columns, axis=1), tuple(groups))


def image_descriptors(maps: NDArray[np.float32]) -> Drive:
    """Feature maps averaged over the picture's quadrants, for videos of unknown content.

    Parameters
    ----------
    maps
        float32 (bins, channels, GRID * GRID) of :func:`features.feature_maps`.
    """
    half = GRID // 2
    quadrants = maps.reshape(*maps.shape[:2], 2, half, 2, half).mean(axis=(3, 5))
    parts, groups, start = [], [], 0
    for name, channels, share in (
        ("form", FORM, 0.4),
        ("color", COLOR, 0.35),
        ("motion", MOTION, 0.25),
    ):
        part = quadrants[:, channels].reshape(len(maps), -1)
        parts.append(part)
        groups.append((name, slice(start, start + part.shape[1]), share))
        start += part.shape[1]
    return Drive(np.concatenate(parts, axis=1), tuple(groups))
