"""The video part of preprocess on films of real size, against bare decord."""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np

FILMS, SECONDS, FPS = 2, 120, 30
WIDTH, HEIGHT = 640, 480
CLIP_S, FRAMES, SIZE = 2.0, 6, 256
ROUNDS = 3
"""Every kind of decoding is timed this often, in turn; the medians are compared."""


def main(folder: Path) -> list[tuple[str, float, str]]:
    """Measure the stage's own function with an array instead of its file, and decord's ways."""
    films = write_films(folder / "video")
    frames = FILMS * int(SECONDS / CLIP_S) * FRAMES
    ways: dict[str, Callable[[list[Path]], object]] = {
        f"decord, read on, {how}, s": partial(_bare, threads)
        for how, threads in (("1 thread", 1), ("2 threads", 2), ("its own choice of threads", 0))
    }
    ways["decord, get_batch of a clip's frames, its own choice of threads, s"] = _batches
    ways["video part of preprocess, s"] = _ours
    seconds = {
        name: float(np.median([_timed(way, films) for _ in range(ROUNDS)]))
        for name, way in ways.items()
    }
    *bare, ours = seconds.values()
    rows = [(name, value, "") for name, value in seconds.items()]
    rows[-1] = (*rows[-1][:2], f"{ours / min(bare):.2f} x the fastest decord")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return [
        *rows,
        ("frames kept per second, ours", frames / ours, ""),
        ("peak memory, GB", peak, ""),
    ]


def _timed(work: Callable[[list[Path]], object], films: list[Path]) -> float:
    began = time.perf_counter()
    work(films)
    return time.perf_counter() - began


def _wanted() -> np.ndarray:
    """Numbers of the frames that the clips need, (clips, frames)."""
    times = np.arange(int(SECONDS / CLIP_S) * FRAMES) * (CLIP_S / FRAMES)
    return np.floor(times * FPS + 1e-3).astype(int).reshape(-1, FRAMES)


def _bare(threads: int, films: list[Path]) -> None:
    import decord

    for film in films:
        reader = decord.VideoReader(str(film), width=SIZE, height=SIZE, num_threads=threads)
        wanted = set(_wanted().ravel().tolist())
        for number in range(max(wanted) + 1):
            picture = reader.next()
            if number in wanted:
                picture.asnumpy()


def _batches(films: list[Path]) -> None:
    import decord

    for film in films:
        reader = decord.VideoReader(str(film), width=SIZE, height=SIZE)
        for clip in _wanted():
            reader.get_batch(clip).asnumpy()


def _ours(films: list[Path]) -> None:
    """Open the films as preprocess does and decode them into an array."""
    from neuroclips_cli.data.stimuli import open_stimulus
    from neuroclips_cli.stages import _preprocess_arrays

    segments = [SimpleNamespace(name=film.stem) for film in films]
    stimuli = {film.stem: open_stimulus(film) for film in films}
    clips = {name: stimulus.clips(CLIP_S, FRAMES) for name, stimulus in stimuli.items()}
    rows = np.cumsum([0, *clips.values()])
    array = np.empty((rows[-1], FRAMES, SIZE, SIZE, 3), np.uint8)
    where = [(s, slice(a, b)) for s, a, b in zip(segments, rows[:-1], rows[1:], strict=True)]
    data = SimpleNamespace(clip_s=CLIP_S, frames_per_clip=FRAMES, frame_size=SIZE)
    recordings = SimpleNamespace(films=stimuli)
    source = SimpleNamespace(recordings=recordings, clips=clips, data=data)
    _preprocess_arrays.decode_films(source, where, array, lambda n: None)


def write_films(root: Path) -> list[Path]:
    """Write H.264 films with B-frames and few keyframes: a camera over a texture, with cuts."""
    import av

    names = [root / f"seg{number + 1}.mp4" for number in range(FILMS)]
    if names[-1].exists():
        return names
    root.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    with av.open(str(root / "part.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "21", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.thread_count = 1
        for _ in range(0, SECONDS, 4):
            scene = _texture(draw)
            moves = draw.integers(-2, 3, 2)
            for step in range(4 * FPS):
                top, left = (120 + moves * step // 2) % 240
                picture = np.ascontiguousarray(scene[top : top + HEIGHT, left : left + WIDTH])
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for name in names:
        shutil.copyfile(root / "part.mp4", name)
    return names


def _texture(draw: np.random.Generator) -> np.ndarray:
    """A picture larger than the film's with detail at all scales, uint8 (h, w, 3)."""
    height, width = HEIGHT + 256, WIDTH + 256
    total = np.zeros((height, width, 3), np.float32)
    for scale in (128, 32, 8, 2):
        coarse = draw.normal(0, scale**0.5, (-(-height // scale), -(-width // scale), 3))
        total += np.kron(coarse, np.ones((scale, scale, 1)))[:height, :width]
    return np.clip(127 + 6 * total, 0, 255).astype(np.uint8)
