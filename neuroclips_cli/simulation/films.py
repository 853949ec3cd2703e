"""Films of a simulated data set: drawn from the synthetic dataset, or cut from given videos."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.decoding import PictureReader
from neuroclips_cli.data.video_checks import SUFFIXES
from neuroclips_cli.data.video_file import read_frame_times
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import atomic_path
from neuroclips_cli.io.folders import natural_order
from neuroclips_cli.simulation import synthetic_world
from neuroclips_cli.simulation.noise import named_rng

FPS = 30
_CHUNK_S = 20
VIDEO_SUFFIXES = (*SUFFIXES, ".gif")


@dataclass(frozen=True)
class Piece:
    """Part of a given video: whole clips from `start` on."""

    path: Path
    start_s: float
    duration_s: float


@dataclass(frozen=True)
class FilmPlan:
    """What a film shows: scenes of the synthetic dataset, or pieces of given videos.

    Attributes
    ----------
    name
        ``seg1`` ... or ``test1`` ...
    duration_s
        Length in seconds, whole clips.
    film
        Scenes, for a film of the synthetic dataset.
    pieces
        Pieces of videos in order otherwise.
    """

    name: str
    duration_s: float
    film: synthetic_world.Film | None = None
    pieces: tuple[Piece, ...] = ()

    @property
    def frames(self) -> int:
        """Number of frames at 30 per second."""
        return round(self.duration_s * FPS)


def film_names(train: int, test: int) -> list[str]:
    """Names of the films, training segments first."""
    return [f"seg{i + 1}" for i in range(train)] + [f"test{i + 1}" for i in range(test)]


def world_plans(lengths_s: dict[str, float], seed: int) -> list[FilmPlan]:
    """Draw one film of the synthetic world per name; they depend on seed and name alone.

    No combination of kind, color and setting of the test films occurs in a training film.
    """
    plans = []
    for name, duration in lengths_s.items():
        rng = named_rng(seed, f"film {name}")
        film = synthetic_world.draw_film(rng, duration, novel=name.startswith("test"))
        plans.append(FilmPlan(name, duration, film=film))
    return plans


def video_plans(lengths_s: dict[str, float], folder: Path, clip_s: float) -> list[FilmPlan]:
    """Deal the videos of a folder out to the films.

    The videos are taken in natural order of their names (seg2 before seg10), each is trimmed to
    whole clips, and they are laid end to end; the films take what they need in turn, training
    segments first. Files must last at least one clip.

    Raises
    ------
    UserError
        If the folder holds no videos, one is shorter than a clip, or there is too little of them.
    """
    if not folder.is_dir():
        raise UserError(f"no folder of videos at {folder}: give --stimuli an existing folder")
    files = sorted(
        (p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES),
        key=lambda path: natural_order(path.name.lower()),
    )
    if not files:
        raise UserError(
            f"{folder} holds no videos ({', '.join(VIDEO_SUFFIXES)}): give --stimuli another folder"
        )
    reel = [(path, _whole_clips(path, clip_s)) for path in files]
    have, want = sum(n for _, n in reel), round(sum(lengths_s.values()) / clip_s)
    if have < want:
        raise UserError(
            f"the videos in {folder} last {have} whole clips of {clip_s:g} s but {want} are asked "
            f"for: ask for fewer segments or clips, or add videos"
        )
    plans, used = [], 0
    for name, duration in lengths_s.items():
        pieces, missing = [], round(duration / clip_s)
        while missing:
            path, clips = reel[0]
            take = min(missing, clips - used)
            pieces.append(Piece(path, used * clip_s, take * clip_s))
            missing, used = missing - take, used + take
            if used == clips:
                reel, used = reel[1:], 0
        plans.append(FilmPlan(name, duration, pieces=tuple(pieces)))
    return plans


def _whole_clips(path: Path, clip_s: float) -> int:
    times = read_frame_times(path)
    lasts = times.start_s + times.duration_s
    clips = int(lasts / clip_s + 0.5 / FPS)
    if not clips:
        raise UserError(
            f"{path} lasts {lasts:.2f} s, less than one clip of {clip_s:g} s: remove or replace it"
        )
    return clips


def film_frames(plan: FilmPlan, size: int, every: int = 1) -> Iterator[NDArray[np.uint8]]:
    """Yield a film's frames at 30 per second, or every n-th of them, in chunks of at most 20 s.

    Yields
    ------
    uint8 (frames, size, size, 3)
    """
    if plan.film is not None:
        start = 0.0
        while start < plan.duration_s - 1e-9:
            stop = min(start + _CHUNK_S, plan.duration_s)
            yield synthetic_world.render_film(
                plan.film, FPS / every, size, start_s=start, stop_s=stop
            )
            start = stop
        return
    buffer: list[NDArray[np.uint8]] = []
    pictures = itertools.chain.from_iterable(_piece_frames(p, size) for p in plan.pieces)
    for picture in itertools.islice(pictures, 0, None, every):
        buffer.append(picture)
        if len(buffer) == _CHUNK_S * FPS // every:
            yield np.stack(buffer)
            buffer = []
    if buffer:
        yield np.stack(buffer)


def _piece_frames(piece: Piece, size: int) -> Iterator[NDArray[np.uint8]]:
    """Show, at every 1/30 s, the picture on screen then; squeeze it to a square picture."""
    wanted_s = piece.start_s + np.arange(round(piece.duration_s * FPS)) / FPS
    times = read_frame_times(piece.path)
    yield from PictureReader(times, size, area=True).read(times.on_screen(wanted_s))


FORMATS = {".mp4": "mp4", ".mkv": "matroska"}


@contextmanager
def film_writer(path: Path, size: int, fps: int = FPS) -> Iterator[Any]:
    """Open a video, written atomically; yields a function that appends uint8 (n, size, size, 3).

    H.264 at nearly lossless quality, or MPEG-4 where this PyAV was built without x264. No
    B-frames, so that every reader finds every frame at its time.
    """
    import av

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    options = {"crf": "12", "preset": "veryfast", "bf": "0"} if codec == "libx264" else {}
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format=FORMATS[path.suffix]) as container,
    ):
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = fps
        stream.thread_count = 1
        if codec == "mpeg4":
            stream.bit_rate = 8 * size * size * fps // 4

        def append(frames: NDArray[np.uint8]) -> None:
            for picture in frames:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame))

        yield append
        container.mux(stream.encode(None))


@dataclass(frozen=True)
class Place:
    """Where a piece of a film lies.

    Attributes
    ----------
    stem
        Name of the file, without its ending.
    start_s, stop_s
        The piece.
    at_s
        Where in the file it begins.
    """

    stem: str
    start_s: float
    stop_s: float
    at_s: float = 0.0


def scene_rows(
    plans: Sequence[FilmPlan], places: Callable[[FilmPlan], Sequence[Place]]
) -> list[list[str]]:
    """Rows of scenes.csv: film,scene,start_s,end_s,kind,color,motion,setting,caption.

    Scenes are counted through all films. A given video counts as one scene of unknown content.
    `places` tells in which files a film lies; times are those of the files.
    """
    rows: list[list[str]] = []
    count = 0
    for plan in plans:
        for number, (start, end, known) in enumerate(_scenes(plan), start=count):
            for place in places(plan):
                first, last = max(start, place.start_s), min(end, place.stop_s)
                if first < last:
                    shift = place.at_s - place.start_s
                    times = [f"{first + shift:.6f}", f"{last + shift:.6f}"]
                    rows.append([place.stem, str(number), *times, *known])
            count += 1
    return rows


def _scenes(plan: FilmPlan) -> Iterator[tuple[float, float, list[str]]]:
    start = 0.0
    for piece in plan.pieces:
        yield start, start + piece.duration_s, [""] * 5
        start += piece.duration_s
    if plan.film is None:
        return
    ends = (*plan.film.starts_s[1:], plan.film.duration_s)
    for scene, start, end in zip(plan.film.scenes, plan.film.starts_s, ends, strict=True):
        known = [
            synthetic_world.KINDS[scene.kind],
            synthetic_world.COLORS[scene.color],
            synthetic_world.MOTIONS[scene.motion],
            synthetic_world.SETTINGS[scene.setting],
            synthetic_world.caption(scene),
        ]
        yield start, end, known


def caption_rows(plans: Sequence[FilmPlan], clip_s: float) -> list[list[str]]:
    """Rows of captions.csv: split,segment,clip,caption, one per clip of known content.

    A clip that crosses a cut is called after the scene that fills most of it.
    """
    rows: list[list[str]] = []
    counts = {"train": 0, "test": 0}
    for plan in plans:
        split = "train" if plan.name.startswith("seg") else "test"
        segment = plan.name.removeprefix("seg").removeprefix("test")
        scenes = list(_scenes(plan))
        for clip in range(int(plan.duration_s / clip_s + 1e-9)):
            start, end = clip * clip_s, (clip + 1) * clip_s
            main = max(scenes, key=lambda s: min(end, s[1]) - max(start, s[0]))
            if main[2][-1]:
                rows.append([split, segment, str(counts[split]), main[2][-1]])
            counts[split] += 1
    return rows
