"""Films whose pictures show their numbers, written by PyAV in any container, codec and rhythm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np

CELLS = 4
"""Cells along an edge; 12 hold the number's bits, the others tell which way is up."""
SIGNS = {0: 255, 3: 0, 12: 128, 15: 0}
BITS = tuple(cell for cell in range(CELLS * CELLS) if cell not in SIGNS)


@lru_cache(maxsize=4096)
def picture(number: int, size: int = 64) -> np.ndarray:
    """Draw a number below 4096 as a pattern of 4 x 4 cells, uint8 (size, size, 3)."""
    cells = np.zeros(CELLS * CELLS, np.uint8)
    for bit, cell in enumerate(BITS):
        cells[cell] = 255 if number >> bit & 1 else 0
    for cell, value in SIGNS.items():
        cells[cell] = value
    edge = size // CELLS
    grid = np.kron(cells.reshape(CELLS, CELLS), np.ones((edge, edge), np.uint8))
    return np.repeat(grid[..., None], 3, axis=-1)


def number(frame: np.ndarray) -> int:
    """Read the number from a picture; -1 where it does not stand upright."""
    height, width = (side / CELLS for side in frame.shape[:2])
    rows = [int((cell + 0.5) * height) for cell in range(CELLS)]
    columns = [int((cell + 0.5) * width) for cell in range(CELLS)]
    cells = frame.astype(float).mean(-1)[np.ix_(rows, columns)].ravel()
    if any(abs(cells[cell] - value) > 60 for cell, value in SIGNS.items()):
        return -1
    return sum(1 << bit for bit, cell in enumerate(BITS) if cells[cell] > 127)


def write_film(
    path: Path,
    frames: Iterable[np.ndarray],
    rate: Fraction | int = 30,
    codec: str = "libx264",
    *,
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    ticks: Sequence[int] | None = None,
    base: Fraction | None = None,
) -> Path:
    """Write a film.

    Parameters
    ----------
    path
        Its ending chooses the container.
    frames
        uint8 (h, w, 3), all alike in size.
    rate
        Frames per second.
    codec, pixels, options
        Of FFmpeg.
    ticks, base
        When each picture appears, in units of ``base`` seconds, where the rate varies.
    """
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(rate), options=options or {})
        stream.pix_fmt = pixels
        stream.codec_context.thread_count = 1
        if base:
            stream.codec_context.time_base = base
        for place, pixel in enumerate(frames):
            if not place:
                stream.height, stream.width = pixel.shape[:2]
            frame = av.VideoFrame.from_ndarray(pixel, "rgb24")
            frame.pts = place if ticks is None else ticks[place]
            frame.time_base = base or 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def copied(
    source: Path, target: Path, start_s: float, stop_s: float, *, from_key: bool = True
) -> Path:
    """Cut a film by copying its packets, without decoding; time begins anew at the cut.

    Parameters
    ----------
    source, target
        Files.
    start_s, stop_s
        Of the cut, in seconds of the source.
    from_key
        Keep the packets since the key picture before the cut (a container with an edit list hides
        them); otherwise the copy begins with the first packet behind the cut.
    """
    import av

    with av.open(str(source)) as inside, av.open(str(target), "w") as out:
        stream = inside.streams.video[0]
        copy = out.add_stream_from_template(stream)
        start, stop = (round(time / stream.time_base) for time in (start_s, stop_s))
        inside.seek(start, stream=stream, backward=True)
        for packet in inside.demux(stream):
            if packet.dts is None:
                continue
            if packet.dts >= stop:
                break
            if packet.pts >= stop or (packet.pts < start and not from_key):
                continue
            packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, copy
            out.mux(packet)
    return target


def reencoded(source: Path, target: Path) -> Path:
    """Decode a film and write its pictures again at 30 per second."""
    import av

    with av.open(str(source)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return write_film(target, frames)
