"""Films that are delivered as one file per clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.simulation.films import FPS, film_writer


@contextmanager
def clip_writer(
    files: Sequence[Path], clip_s: float, frames: int, fps: int, size: int
) -> Iterator[Callable[[NDArray[np.uint8]], None]]:
    """Cut a film at 30 frames per second into clips as it comes.

    Parameters
    ----------
    files
        One per clip, in order.
    clip_s
        Time between the beginnings of two clips in s.
    frames, fps
        Frames of a file, at their rate; a clip may reach into the next one, and the last one ends
        with its last picture held.

    Yields
    ------
    callable
        Appends uint8 (frames, size, size, 3).
    """
    held: list[NDArray[np.uint8]] = []
    wanted = np.floor(np.arange(frames) * FPS / fps + 1e-9).astype(int)
    state = {"first": 0, "clip": 0}

    def write(last: bool) -> None:
        pictures = np.concatenate(held)
        step = round(clip_s * FPS)
        while state["clip"] < len(files):
            place = state["clip"] * step - state["first"]
            if not last and place + wanted[-1] >= len(pictures):
                break
            with film_writer(files[state["clip"]], size, fps) as append:
                append(pictures[np.minimum(place + wanted, len(pictures) - 1)])
            state["clip"] += 1
        keep = max(0, min(len(pictures), state["clip"] * step - state["first"]))
        held[:] = [pictures[keep:]]
        state["first"] += keep

    def append(chunk: NDArray[np.uint8]) -> None:
        held.append(chunk)
        write(last=False)

    yield append
    if held:
        write(last=True)
