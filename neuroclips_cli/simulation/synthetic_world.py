"""The synthetic dataset: a procedural film world with known content.

Every scene shows one object of some kind and color that moves in some way in some setting.
A film is a sequence of scenes with cuts at random times. Positions are in units of half the
picture's width, from -1 (left, top) to 1 (right, bottom).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KINDS = ("ball", "box", "star", "ring", "heart", "cross", "pyramid", "moon", "flower", "fish")
COLORS = ("red", "yellow", "green", "blue", "purple", "white")
MOTIONS = ("resting", "moving left", "moving right", "rising", "falling", "swinging")
SETTINGS = (
    "at sea",
    "in the desert",
    "in the forest",
    "in the snow",
    "in the city",
    "at sunset",
)

NOVEL_EVERY = 4
"""One in so many combinations of kind, color and setting belongs to the test films."""

_COLOR_RGB = np.array(
    [
        [0.90, 0.12, 0.10],
        [0.98, 0.86, 0.10],
        [0.15, 0.78, 0.22],
        [0.12, 0.30, 0.95],
        [0.66, 0.20, 0.80],
        [0.97, 0.97, 0.97],
    ],
    dtype=np.float32,
)
_DIRECTIONS = {1: (-1.0, 0.0), 2: (1.0, 0.0), 3: (0.0, -1.0), 4: (0.0, 1.0)}
_REACH = 0.55
_OUTLINE = 0.16
_EXTENT = 1.25  # no shape reaches further than this many radii


@dataclass(frozen=True)
class Scene:
    """One uncut piece of film.

    Attributes
    ----------
    kind, color, motion, setting : int
        Indices into :data:`KINDS`, :data:`COLORS`, :data:`MOTIONS`, :data:`SETTINGS`.
    duration_s : float
        Length in seconds.
    seed : int
        Draws everything else: size, path, speed, horizon, light, texture.
    """

    kind: int
    color: int
    motion: int
    setting: int
    duration_s: float
    seed: int


@dataclass(frozen=True)
class Film:
    """Scenes in order; ``starts_s[i]`` is the onset of ``scenes[i]`` in seconds."""

    scenes: tuple[Scene, ...]
    starts_s: tuple[float, ...]
    duration_s: float

    def scene_index(self, time_s: float) -> int:
        """Return the index of the scene on screen at a time (seconds from film onset)."""
        return int(np.searchsorted(self.starts_s, time_s + 1e-9, side="right") - 1)


@dataclass(frozen=True)
class _Look:
    """What a scene's seed decides."""

    radius: float
    start: tuple[float, float]
    speed: float
    swing_s: float
    phase: float
    horizon: float
    light: float
    tint: NDArray[np.floating]
    texture: NDArray[np.floating]


def is_novel(scene: Scene) -> bool:
    """Tell whether a scene's combination of kind, color and setting belongs to the test films.

    A quarter of the combinations does. Each kind occurs in each color, and each kind and each color
    in each setting, in both splits; only the three together are new, as no scene of cc2017's test
    films occurs in its training films.

    Examples
    --------
    >>> from itertools import product
    >>> scenes = [Scene(k, c, 0, s, 2.0, 0) for k, c, s in product(range(10), range(6), range(6))]
    >>> sum(is_novel(scene) for scene in scenes), len(scenes)
    (89, 360)
    """
    return (scene.kind + scene.color + scene.setting) % NOVEL_EVERY == 0


def draw_scene(rng: np.random.Generator, duration_s: float, *, novel: bool | None = None) -> Scene:
    """Draw a scene with uniformly distributed attributes.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    duration_s : float
        Length in seconds.
    novel : bool, optional
        Only combinations of the test films (True) or of the training films (False), see
        `is_novel`; by default any.
    """
    while True:
        scene = Scene(
            kind=int(rng.integers(len(KINDS))),
            color=int(rng.integers(len(COLORS))),
            motion=int(rng.integers(len(MOTIONS))),
            setting=int(rng.integers(len(SETTINGS))),
            duration_s=float(duration_s),
            seed=int(rng.integers(2**31)),
        )
        if novel is None or is_novel(scene) == novel:
            return scene


def draw_film(
    rng: np.random.Generator,
    duration_s: float,
    shortest_s: float = 8.0,
    longest_s: float = 12.0,
    *,
    novel: bool | None = None,
) -> Film:
    """Draw a film whose scenes last between two bounds and whose cuts fall at random times.

    The last scene is cut by the end of the film and may be shorter; ``novel`` as in `draw_scene`.
    """
    scenes: list[Scene] = []
    starts: list[float] = []
    clock = 0.0
    while clock < duration_s - 1e-9:
        length = float(rng.uniform(shortest_s, longest_s))
        scenes.append(draw_scene(rng, min(length, duration_s - clock), novel=novel))
        starts.append(clock)
        clock += length
    return Film(tuple(scenes), tuple(starts), float(duration_s))


def caption(scene: Scene, with_motion: bool = False) -> str:
    """Describe a scene in words, such as ``a red ball moving left at sea``."""
    motion = f" {MOTIONS[scene.motion]}" if with_motion else ""
    return f"a {COLORS[scene.color]} {KINDS[scene.kind]}{motion} {SETTINGS[scene.setting]}"


def image_class(scene: Scene) -> int:
    """Return the class of a frame: kind x color, 0 to 59."""
    return scene.kind * len(COLORS) + scene.color


def video_class(scene: Scene) -> int:
    """Return the class of a clip: kind x setting (what happens where), 0 to 59."""
    return scene.kind * len(SETTINGS) + scene.setting


def image_class_names() -> list[str]:
    """Return the 60 names in the order of :func:`image_class`."""
    return [f"{color} {kind}" for kind in KINDS for color in COLORS]


def video_class_names() -> list[str]:
    """Return the 60 names in the order of :func:`video_class`."""
    return [f"{kind} {setting}" for kind in KINDS for setting in SETTINGS]


def object_path(scene: Scene, times_s: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the object's center, shape (times, 2) as (x, y), at times from scene onset."""
    return _path(scene, _look(scene), np.asarray(times_s, dtype=np.float32))


def render_scene(scene: Scene, times_s: NDArray[np.floating], size: int = 64) -> NDArray[np.uint8]:
    """Draw a scene.

    Parameters
    ----------
    scene : Scene
        What to draw.
    times_s : array of shape (times,)
        Seconds from the onset of the scene.
    size : int
        Height and width in pixels.

    Returns
    -------
    array of uint8, shape (times, size, size, 3)
        RGB frames.
    """
    look = _look(scene)
    axis = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1).astype(np.float32)
    background = _background(scene.setting, look, axis)
    path = _path(scene, look, np.asarray(times_s, dtype=np.float32))
    frames = np.empty((len(path), size, size, 3), dtype=np.uint8)
    frames[:] = np.clip(background, 0, 1) * 255 + 0.5
    for frame, center in zip(frames, path, strict=True):
        columns, rows = (_span(axis, float(c), _EXTENT * look.radius) for c in center)
        x = ((axis[columns] - center[0]) / look.radius)[None, :]
        y = ((axis[rows] - center[1]) / look.radius)[:, None]
        x, y = np.broadcast_arrays(x, y)
        ink, cover = _object(scene, x, y, look.radius * size / 2)
        seen = background[rows, columns] * (1 - cover) + ink * cover
        frame[rows, columns] = np.clip(seen, 0, 1) * 255 + 0.5
    return frames


def _span(axis: NDArray[np.floating], center: float, reach: float) -> slice:
    """Return the pixels within a distance of a center."""
    return slice(*np.searchsorted(axis, (center - reach, center + reach)))


def _object(
    scene: Scene, x: NDArray[np.floating], y: NDArray[np.floating], pixels_per_unit: float
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return color (..., 3) and cover (..., 1) of the object at positions in its radii."""
    inside, detail = _shape(scene.kind, x, y)
    cover = np.clip(0.5 - inside * pixels_per_unit, 0, 1)[..., None]
    core = np.clip(0.5 - (inside + _OUTLINE) * pixels_per_unit, 0, 1)[..., None]
    shade = np.clip(0.92 - 0.14 * (x + y), 0.6, 1.15)[..., None] * detail[..., None]
    ink = _COLOR_RGB[scene.color] * shade * core + np.float32(0.04) * (1 - core)
    return ink, cover


def render_film(
    film: Film,
    fps: float,
    size: int = 64,
    start_s: float = 0.0,
    stop_s: float | None = None,
) -> NDArray[np.uint8]:
    """Draw a film or a part of it, uint8 of shape (frames, size, size, 3).

    Frame ``i`` shows the film at ``start_s + i / fps``.
    """
    stop = film.duration_s if stop_s is None else stop_s
    times = start_s + np.arange(round((stop - start_s) * fps)) / fps
    index = np.searchsorted(film.starts_s, times + 1e-9, side="right") - 1
    frames = np.empty((len(times), size, size, 3), dtype=np.uint8)
    for scene in np.unique(index):
        chosen = index == scene
        frames[chosen] = render_scene(
            film.scenes[scene], times[chosen] - film.starts_s[scene], size
        )
    return frames


def _look(scene: Scene) -> _Look:
    rng = np.random.default_rng(scene.seed)
    radius = float(rng.uniform(0.42, 0.54))
    speed = min(0.2, 2 * _REACH / max(scene.duration_s, 1.0)) * float(rng.uniform(0.85, 1.0))
    x, y = rng.uniform(-0.3, 0.3, size=2)
    across = (float(x), float(y))
    if scene.motion in _DIRECTIONS:
        # The path is centered in the picture, so that the object stays in view all the time.
        dx, dy = _DIRECTIONS[scene.motion]
        half = speed * scene.duration_s / 2
        start = (-dx * half if dx else across[0], -dy * half if dy else across[1])
    else:
        start = across
    return _Look(
        radius=radius,
        start=start,
        speed=speed,
        swing_s=float(rng.uniform(2.2, 3.2)),
        phase=float(rng.uniform(0, 2 * np.pi)),
        horizon=float(rng.uniform(-0.25, 0.35)),
        light=float(rng.uniform(0.82, 1.12)),
        tint=rng.uniform(-0.05, 0.05, size=3).astype(np.float32),
        texture=rng.uniform(0, 1, size=8).astype(np.float32),
    )


def _path(scene: Scene, look: _Look, times_s: NDArray[np.floating]) -> NDArray[np.floating]:
    path = np.empty((len(times_s), 2), dtype=np.float32)
    path[:] = look.start
    if scene.motion in _DIRECTIONS:
        path += times_s[:, None] * look.speed * np.array(_DIRECTIONS[scene.motion], np.float32)
    elif scene.motion == MOTIONS.index("swinging"):
        path[:, 0] = 0.45 * np.sin(2 * np.pi * times_s / look.swing_s + look.phase)
    return path


def _background(setting: int, look: _Look, axis: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the setting as float RGB of shape (size, size, 3), roughly 0 to 1."""
    x, y = np.meshgrid(axis, axis)
    a, b, c = (float(v) for v in look.texture[:3])
    painters = (_sea, _desert, _forest, _snow, _city, _sunset)
    picture = painters[setting](x, y, look.horizon, a, b, c)
    return ((picture + look.tint) * look.light).astype(np.float32)


def _blend(
    weight: NDArray[np.floating], one: tuple[float, ...], zero: tuple[float, ...]
) -> NDArray[np.floating]:
    w = np.clip(weight, 0, 1)[..., None]
    return w * np.array(one, np.float32) + (1 - w) * np.array(zero, np.float32)


def _below(y: NDArray[np.floating], line: NDArray[np.floating] | float) -> NDArray[np.floating]:
    return np.clip((y - line) * 16 + 0.5, 0, 1)


def _sea(
    x: NDArray[np.floating], y: NDArray[np.floating], horizon: float, a: float, b: float, c: float
) -> NDArray[np.floating]:
    waves = 0.5 + 0.5 * np.sin(14 * y + 2.5 * np.sin(3 * x + 6 * a) + 6 * b)
    water = _blend(waves, (0.10, 0.42, 0.62), (0.03, 0.22, 0.42))
    sky = _blend((y + 1) / 2, (0.78, 0.90, 0.96), (0.42, 0.68, 0.92))
    w = _below(y, horizon)[..., None]
    return w * water + (1 - w) * sky


def _desert(
    x: NDArray[np.floating], y: NDArray[np.floating], horizon: float, a: float, b: float, c: float
) -> NDArray[np.floating]:
    dune = horizon + 0.18 * np.sin(2.6 * x + 6.3 * a)
    second = horizon + 0.45 + 0.2 * np.sin(2.0 * x + 6.3 * b)
    sand = _blend(_below(y, second), (0.80, 0.52, 0.22), (0.92, 0.70, 0.38))
    sky = _blend((y + 1) / 2, (0.98, 0.92, 0.74), (0.86, 0.84, 0.76))
    w = _below(y, dune)[..., None]
    return w * sand + (1 - w) * sky


def _forest(
    x: NDArray[np.floating], y: NDArray[np.floating], horizon: float, a: float, b: float, c: float
) -> NDArray[np.floating]:
    trunks = np.clip(2.5 * np.sin(8 * x + 6.3 * a + 0.6 * np.sin(3 * y)) - 1.0, 0, 1)
    leaves = _blend((y + 1) / 2, (0.05, 0.16, 0.07), (0.14, 0.40, 0.14))
    bark = np.array((0.20, 0.12, 0.06), np.float32)
    wood = leaves * (1 - trunks[..., None]) + bark * trunks[..., None]
    floor = np.array((0.16, 0.20, 0.06), np.float32)
    w = _below(y, horizon + 0.5)[..., None]
    return w * floor + (1 - w) * wood


def _snow(
    x: NDArray[np.floating], y: NDArray[np.floating], horizon: float, a: float, b: float, c: float
) -> NDArray[np.floating]:
    ridge = horizon - 0.35 * np.abs(np.sin(2.2 * x + 6.3 * a))
    rock = _blend((y - ridge) * 1.6, (0.93, 0.95, 1.0), (0.52, 0.58, 0.70))
    sky = _blend((y + 1) / 2, (0.82, 0.86, 0.92), (0.70, 0.78, 0.88))
    w = _below(y, ridge)[..., None]
    return w * rock + (1 - w) * sky


def _city(
    x: NDArray[np.floating], y: NDArray[np.floating], horizon: float, a: float, b: float, c: float
) -> NDArray[np.floating]:
    block = np.floor((x + 1 + a) * 2.5)
    roof = horizon - 0.35 + 0.5 * np.mod(block * 0.618 + b, 1.0)
    lit = (np.sin(11 * (x + a)) > 0.1) & (np.sin(10 * (y + c)) > 0.0)
    house = _blend(lit.astype(np.float32), (0.80, 0.70, 0.30), (0.13, 0.12, 0.20))
    sky = _blend((y + 1) / 2, (0.20, 0.12, 0.32), (0.04, 0.04, 0.14))
    w = (y > roof).astype(np.float32)[..., None]
    return w * house + (1 - w) * sky


def _sunset(
    x: NDArray[np.floating], y: NDArray[np.floating], horizon: float, a: float, b: float, c: float
) -> NDArray[np.floating]:
    sky = _blend((y + 1) / 2, (0.99, 0.58, 0.22), (0.46, 0.12, 0.42))
    sun = np.clip((0.35 - np.hypot(x - 1.4 * a + 0.7, y - horizon)) * 12, 0, 1)[..., None]
    sky = sky * (1 - sun) + np.array((1.0, 0.88, 0.50), np.float32) * sun
    ground = np.array((0.22, 0.08, 0.14), np.float32)
    w = _below(y, horizon + 0.15 + 0.08 * np.sin(4 * x + 6.3 * b))[..., None]
    return w * ground + (1 - w) * sky


def _shape(
    kind: int, x: NDArray[np.floating], y: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return the signed distance (negative inside, in radii) and a shading factor."""
    r = np.hypot(x, y)
    plain = np.ones_like(x)
    name = KINDS[kind]
    if name == "ball":
        return r - 0.95, np.where(np.abs(y) < 0.16, 0.35, 1.0).astype(np.float32)
    if name == "box":
        return np.maximum(np.abs(x), np.abs(y)) - 0.82, plain
    if name == "star":
        turn = np.arctan2(x, -y) * 5 / (2 * np.pi) + 0.5
        point = 2 * np.abs(turn - np.floor(turn) - 0.5)
        return (r - (1.1 - 0.62 * (1 - point) ** 0.8)) * 0.6, plain
    if name == "ring":
        return np.abs(r - 0.72) - 0.32, plain
    if name == "heart":
        lobe = np.hypot(np.abs(x) - 0.45, y + 0.32) - 0.55
        tip = np.maximum(np.abs(x) * 0.74 + y * 0.67 - 0.62, -y - 0.25)
        return np.minimum(lobe, tip), plain
    if name == "cross":
        across = np.maximum(np.abs(x) - 1.0, np.abs(y) - 0.38)
        upright = np.maximum(np.abs(y) - 1.0, np.abs(x) - 0.38)
        return np.minimum(across, upright), plain
    if name == "pyramid":
        sides = np.maximum(np.abs(x) * 0.88 - (y + 0.95) * 0.48, y - 0.75)
        return sides, np.where(x > 0.12, 0.6, 1.0).astype(np.float32)
    if name == "moon":
        return np.maximum(r - 1.0, 0.74 - np.hypot(x - 0.62, y + 0.1)), plain
    if name == "flower":
        wave = np.cos(6 * np.arctan2(x, -y))
        heart = np.where(r < 0.36, 0.25, 1.0).astype(np.float32)
        return (r - (0.84 + 0.18 * wave)) * 0.8, heart
    body = np.hypot((x + 0.2) / 0.85, y / 0.60) - 1.0
    tail = np.maximum(np.abs(y) - (x - 0.35) * 0.9, x - 1.05)
    eye = np.hypot(x + 0.62, y + 0.12) < 0.14
    return np.minimum(body * 0.55, tail), np.where(eye, 0.05, 1.0).astype(np.float32)
