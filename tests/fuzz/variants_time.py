"""Time of films and clips (kind 2): containers, codecs, rates, cuts, rhythms, GIF delays.

Every picture shows its number, so that a wrong one is seen. What is right is known from when each
picture was written; which pictures a copied piece holds is what PyAV decodes, frame by frame. GIFs
are written by Pillow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from helpers.numbered_films import copied, number, picture, write_film
from PIL import Image
from variants import Variant

CLIP_S, FRAMES, SIZE = Fraction(1, 2), 5, 64
"""Film: ten frames per second, in clips of half a second."""
SCAN_S, CLIP_FPS = 2, 3
"""Clips as `evaluate` takes them."""
X264 = {"crf": "23", "preset": "ultrafast", "g": "40"}
B_FRAMES = X264 | {"bf": "3", "sc_threshold": "0", "b-pyramid": "none"}
WRITTEN = (
    *(
        ("mp4", "libx264", B_FRAMES),
        ("mp4", "libx265", {"x265-params": "log-level=none:bframes=2"}),
    ),
    *(
        ("mp4", "mpeg4", {"bf": "2"}),
        ("mp4", "mjpeg", {}),
        ("mp4", "libvpx-vp9", {"cpu-used": "8"}),
    ),
    *(("mov", "libx264", X264), ("mov", "png", {}), ("m4v", "libx264", B_FRAMES)),
    *(("mkv", "libx264", B_FRAMES), ("mkv", "mpeg2video", {"bf": "2"}), ("mkv", "ffv1", {})),
    *(("webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "900k"}),),
    *(("avi", "libx264", B_FRAMES), ("avi", "libx264", X264), ("avi", "mpeg4", {"bf": "2"})),
    *(("avi", "msmpeg4", {}), ("avi", "mjpeg", {}), ("ts", "libx264", B_FRAMES)),
    *(("ts", "mpeg2video", {"bf": "2"}), ("m2ts", "libx264", B_FRAMES)),
    *(("mpg", "mpeg1video", {"bf": "2"}), ("vob", "mpeg2video", {"bf": "2"})),
    *(("flv", "libx264", B_FRAMES), ("flv", "flv", {}), ("wmv", "wmv2", {})),
    *(("asf", "libx264", B_FRAMES), ("ogv", "libvpx", {"b": "900k"}), ("3gp", "libx264", X264)),
)
"""Container, codec, options."""
RATES = (Fraction(30), Fraction(25), Fraction(24), Fraction(30000, 1001), Fraction(24000, 1001))
PIXELS = {"mjpeg": "yuvj420p", "png": "rgb24"}
MPEG = ("mpeg1video", "mpeg2video")


@dataclass(frozen=True)
class Shown:
    """What a file shows: numbers of pictures, when each appears, and when the last one ends.

    `start` is how long after the beginning of the container the first one appears.
    """

    path: Path
    numbers: tuple[int, ...]
    onsets: tuple[Fraction, ...]
    end: Fraction
    rate: Fraction | None = None
    start: Fraction = Fraction(0)

    def on_screen(self, time: Fraction) -> int:
        """Number of the picture on screen at a time since the first one."""
        seen = [n for n, onset in zip(self.numbers, self.onsets, strict=True) if onset <= time]
        return seen[-1] if seen else self.numbers[0]

    def nearest(self, time: Fraction) -> int:
        """Number of the picture that begins nearest on the grid of the rate."""
        return self.on_screen(time + (1 / (2 * self.rate) if self.rate else 0))


def of_film(shown: Shown) -> dict[str, Any]:
    """Answer for a film: how many clips, and the number in every sampled frame."""
    step = CLIP_S / FRAMES
    clips = int((shown.start + shown.end + step - Fraction(1, 15)) / CLIP_S)
    times = [i * step - shown.start for i in range(clips * FRAMES)]
    return {"clips": clips, "shown": [shown.on_screen(time) for time in times]}


def of_clip(shown: Shown) -> list[int]:
    """Answer for a clip: the number in every frame at three per second."""
    whole = round(shown.end / SCAN_S) * SCAN_S
    end = Fraction(whole) if whole and abs(shown.end - whole) <= Fraction(1, 10) else shown.end
    return [shown.nearest(Fraction(i, CLIP_FPS)) for i in range(int(end * CLIP_FPS))]


def of_piece(shown: Shown) -> list[int]:
    """Answer for a film drawn from given videos: its first half second at 30 per second."""
    return [shown.on_screen(Fraction(i, 30) - shown.start) for i in range(15)]


def read_film(shown: Shown) -> dict[str, Any]:
    """Have ``preprocess``'s reader sample a film."""
    from neuroclips_cli.data.stimuli import clip_frames, open_stimulus

    film = open_stimulus(shown.path)
    clips = film.clips(float(CLIP_S), FRAMES)
    frames = clip_frames(film, clips, float(CLIP_S), FRAMES, SIZE)
    return {"clips": clips, "shown": [number(frame) for clip in frames for frame in clip]}


def read_clip(shown: Shown) -> list[int]:
    """Have ``evaluate``'s reader sample a clip."""
    from neuroclips_cli.data import clips

    if hasattr(clips, "open_clip"):
        frames = clips.open_clip(shown.path, float(SCAN_S)).read(CLIP_FPS)[0]
    else:  # a checkout from before there was one
        names = {"a": shown.path}
        opened = clips.open_clips(
            shown.path.parent, names, "--pred", clip_s=SCAN_S, target_fps=CLIP_FPS, size=SIZE
        )
        frames = opened.read(np.array([0]))[0]
    return [number(frame) for frame in frames]


def read_piece(shown: Shown) -> list[int]:
    """Have ``simulate --stimuli`` lay out a video."""
    from neuroclips_cli.simulation.films import film_frames, video_plans

    plan = video_plans({"seg1": 0.5}, shown.path.parent, 0.5)[0]
    return [number(frame) for chunk in film_frames(plan, SIZE) for frame in chunk]


def variants(root: Path) -> Iterator[Variant]:
    """Yield every kind of film and clip in every reading."""
    films = {"film": (read_film, of_film), "simulate": (read_piece, of_piece)}
    clips = {"clip": (read_clip, of_clip)}
    for name, make in _films(root):
        yield from _readings(name, make, films)
    for name, make in _clips(root):
        yield from _readings(name, make, clips)
    for name, make in (*_cuts(root), *_rhythms(), *_turned()):
        yield from _readings(name, make, films | clips)


def _readings(name: str, make: Any, readings: dict[str, tuple[Any, Any]]) -> Iterator[Variant]:
    for kind, (read, answer) in readings.items():
        yield Variant(f"{kind}: {name}", make, read, answer)


def _kept(root: Path, name: str, make: Any, folder: Path) -> Any:
    """Link a file that is written once and shared by several readings."""
    source = root / name
    if not source.exists():
        make(source)
    target = folder / name
    target.hardlink_to(source)
    return target


def _constant(path: Path, numbers: Sequence[int], rate: Fraction) -> Shown:
    onsets = tuple(place / rate for place in range(len(numbers)))
    return Shown(path, tuple(numbers), onsets, len(numbers) / rate, rate)


def _write(codec: str, options: dict[str, str], count: int, rate: Fraction, path: Path) -> None:
    pixels = PIXELS.get(codec, "yuv420p")
    frames = [picture(n, SIZE) for n in range(count)]
    write_film(path, frames, rate, codec, pixels=pixels, options=options)


def _films(root: Path) -> Iterator[tuple[str, Any]]:
    """Whole films: 28 containers and codecs, five rates by turns."""
    for place, (suffix, codec, options) in enumerate(WRITTEN):
        rate = RATES[place % len(RATES)] if codec not in ("flv", "wmv2") else Fraction(30)
        name = f"{place}-{codec}.{suffix}"

        def make(folder: Path, *, name=name, codec=codec, options=options, rate=rate) -> Shown:
            path = _kept(root, name, partial(_write, codec, options, 75, rate), folder)
            return _constant(path, range(75), rate)

        yield f"{suffix}, {codec}, {float(rate):.3f} per second, {options}", make


def _clips(root: Path) -> Iterator[tuple[str, Any]]:
    """Clips of two seconds at exact rates, films' files read as clips, and GIFs."""
    yield from _films(root)
    for suffix, rate in product(("mp4", "mkv", "avi"), (8, 12, 15, 50, 60, Fraction(60000, 1001))):
        rate, count = Fraction(rate), round(2 * Fraction(rate))

        def make(folder: Path, *, suffix=suffix, rate=rate, count=count) -> Shown:
            path = folder / f"clip.{suffix}"
            _write("libx264", B_FRAMES, count, rate, path)
            return _constant(path, range(count), rate)

        yield f"{suffix}, two seconds at {float(rate):.3f} per second", make
    yield from _gifs()


def _gifs() -> Iterator[tuple[str, Any]]:
    """GIFs whose delays are rounded, joined, unequal or missing."""
    # delay that the writer is given (ms), pictures, true rate
    rounded = (
        *((140, 14, 7), (125, 16, 8), (66, 30, 15), (67, 30, 15), (33, 60, 30), (330, 6, 3)),
        *((40, 50, 25), (100, 20, 10), (50, 40, 20), (166, 12, 6), (83, 24, 12), (20, 100, 50)),
    )
    stills = ((), range(0, 2), range(1, 5), range(3, 6))
    for (delay, count, rate), still in product(rounded, stills):
        numbers = [still[0] if still and n in still else n for n in range(count)]

        def make(folder: Path, *, delay=delay, numbers=numbers, rate=rate) -> Shown:
            _save_gif(folder / "clip.gif", numbers, delay)
            return _constant(folder / "clip.gif", numbers, Fraction(rate))

        held = f", {still[0]} to {still[-1]} equal" if still else ""
        yield f"gif, {count} pictures of {delay} ms{held}", make
    for delays in ((0, 0, 0, 0, 0, 0), (10, 10, 10, 10, 10, 10), (0, 500, 0, 300, 10, 500)):
        shown = [Fraction(delay if delay >= 20 else 100, 1000) for delay in delays]
        yield f"gif, delays {delays} ms", partial(_unequal, delays, shown)
    draw = np.random.default_rng(5)
    for _ in range(8):
        primes = (70, 110, 130, 170, 190, 230, 290, 310, 370)
        delays = tuple(int(delay) for delay in draw.choice(primes, 9, replace=False))
        shown = [Fraction(delay, 1000) for delay in delays]
        yield f"gif, delays {delays} ms", partial(_unequal, delays, shown)


def _unequal(delays: tuple[int, ...], lasts: list[Fraction], folder: Path) -> Shown:
    """A GIF whose pictures last unequally long, in whole hundredths without a common rate."""
    path = folder / "clip.gif"
    _save_gif(path, range(len(delays)), list(delays))
    onsets = tuple(sum(lasts[:place], Fraction(0)) for place in range(len(lasts)))
    common = np.gcd.reduce([int(100 * last) for last in lasts])
    return Shown(path, tuple(range(len(delays))), onsets, sum(lasts), Fraction(100, int(common)))


def _save_gif(path: Path, numbers: Sequence[int], delay: int | list[int]) -> None:
    images = [Image.fromarray(picture(n, SIZE)) for n in numbers]
    images[0].save(path, save_all=True, append_images=images[1:], duration=delay)


def _decoded(path: Path) -> tuple[list[int], Fraction]:
    """What PyAV decodes, frame by frame: numbers, and how late the first one is."""
    import av

    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        late = Fraction(frames[0].time) - Fraction(container.start_time or 0, 10**6)
        return [number(frame.to_ndarray(format="rgb24")) for frame in frames], late


def _cuts(root: Path) -> Iterator[tuple[str, Any]]:
    """Pieces copied out of a film, with hidden pictures where the container can hide them."""
    long = root / "long.mp4"
    opened = root / "open.mp4"
    for source, options in ((long, B_FRAMES), (opened, B_FRAMES | {"x264-params": "open-gop=1"})):
        _write("libx264", options, 200, Fraction(30), source)
    for suffix, first in product(("mp4", "mov"), (7, 40, 55, 79, 93)):
        yield f"{suffix} cut from picture {first}", partial(_hidden, long, suffix, first)
    for suffix, start in product(("mkv", "ts", "m2ts"), (0.5, 1.0 + 1 / 3, 2.1)):
        yield f"{suffix} copied from {start:.2f} s", partial(_piece, long, suffix, start)
    for suffix, start in product(("mkv", "ts"), (1.4, 1.7)):
        name = f"{suffix} copied from {start:.2f} s, without its key picture"
        yield name, partial(_piece, long, suffix, start, from_key=False)
    for suffix in ("mp4", "mkv", "ts"):
        yield f"{suffix}, open groups of pictures", partial(_piece, opened, suffix, 0.0)


def _hidden(source: Path, suffix: str, first: int, folder: Path) -> Shown:
    path = copied(source, folder / f"cut.{suffix}", first / 30, (first + 75) / 30)
    return _constant(path, range(first, first + 75), Fraction(30))


def _piece(
    source: Path, suffix: str, start: float, folder: Path, *, from_key: bool = True
) -> Shown:
    """Copy a piece into a container that hides nothing: all that decodes is shown.

    B-frames make a first picture late by a few; only where pictures are missing is it later.
    """
    path = copied(source, folder / f"cut.{suffix}", start, start + 3.0, from_key=from_key)
    numbers, late = _decoded(path)
    late = Fraction(round(30 * late), 30)
    shown = _constant(path, numbers, Fraction(30))
    return shown if late < Fraction(1, 5) else replace(shown, start=late)


def _rhythms() -> Iterator[tuple[str, Any]]:
    """Films whose pictures last unequally long, and films that begin late on their clock."""
    draw = np.random.default_rng(3)
    rhythms = {
        "half the rate from the middle on": [33] * 40 + [67] * 40,
        "one picture stands for 0.7 s": [40] * 30 + [700] + [40] * 30,
        "no rate": draw.integers(17, 90, 60).tolist(),
        "two rates by turns": [20, 50] * 40,
    }
    for (name, lasts), suffix in product(rhythms.items(), ("mp4", "mkv", "ts", "mov")):
        yield f"{suffix}, {name}", partial(_uneven, lasts, suffix)
    for offset, suffix in product((15, 300), ("mp4", "mkv", "ts", "flv")):
        yield f"{suffix}, first stamp at {offset / 30:g} s", partial(_late, offset, suffix)


def _uneven(lasts: Sequence[int], suffix: str, folder: Path) -> Shown:
    """Pictures that last whole milliseconds; the last one lasts as long as the mean rate says."""
    ticks = np.cumsum([0, *lasts[:-1]]).tolist()
    path, base = folder / f"film.{suffix}", Fraction(1, 1000)
    frames = [picture(n, SIZE) for n in range(len(lasts))]
    write_film(path, frames, 30, options=X264, ticks=ticks, base=base)
    onsets = tuple(tick * base for tick in ticks)
    end = onsets[-1] + Fraction(_last(path))
    grid = Fraction(100) if set(lasts) == {20, 50} else None
    grid = Fraction(25) if max(lasts) == 700 and 700 % 40 == 0 else grid
    return Shown(path, tuple(range(len(lasts))), onsets, end, grid)


def _last(path: Path) -> float:
    """How long PyAV says that the last picture lasts, in seconds."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        if container.format.name.startswith("mov"):
            ends = (stream.start_time or 0) + stream.duration
            return float((ends - frames[-1].pts) * stream.time_base)
        return float(frames[-1].duration * frames[-1].time_base)


def _late(offset: int, suffix: str, folder: Path) -> Shown:
    """A film whose clock does not begin at zero: nothing comes before its first picture."""
    path = folder / f"film.{suffix}"
    ticks = [offset + n for n in range(75)]
    frames = [picture(n, SIZE) for n in range(75)]
    write_film(path, frames, 30, options=X264, ticks=ticks, base=Fraction(1, 30))
    return _constant(path, range(75), Fraction(30))


def _turned() -> Iterator[tuple[str, Any]]:
    """Films stored turned or mirrored, with a display matrix that says so."""
    for turn, mirror in product((0, 90, 180, 270), (False, True)):
        if turn or mirror:
            name = f"mp4, turned by {turn} degrees{', mirrored' * mirror}"
            yield name, partial(_matrix, turn, mirror)


def _matrix(turn: int, mirror: bool, folder: Path) -> Shown:
    import av

    path = folder / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options=X264)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.set_display_rotation(turn, hflip=mirror)
        for n in range(75):
            stored = picture(n, SIZE)[:, ::-1] if mirror else picture(n, SIZE)
            stored = np.rot90(stored, -turn // 90)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(stored), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return _constant(path, range(75), Fraction(30))
