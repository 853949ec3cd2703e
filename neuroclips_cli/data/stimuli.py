"""Films: how long they are, and the frames of every clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.decoding import PictureReader
from neuroclips_cli.data.frame_times import FrameTimes
from neuroclips_cli.data.video_file import read_frame_times


@dataclass
class Stimulus:
    """A film.

    Attributes
    ----------
    path : Path
    times : FrameTimes
        When its pictures are on screen.
    decoder : str
        Who decoded its frames: empty before `clip_frames`, then ``decord``, ``PyAV`` or ``Pillow``.
    """

    path: Path
    times: FrameTimes
    decoder: str = ""

    @property
    def duration_s(self) -> float:
        """From the beginning of the container to the end of the last picture, in seconds."""
        return self.times.start_s + self.times.duration_s

    @property
    def steady(self) -> bool:
        """False where the frame rate varies; frames are taken by their times anyway."""
        return self.times.steady

    def clips(self, clip_s: float, frames_per_clip: int, start_s: float = 0.0) -> int:
        """Count the whole clips from a moment of the film on."""
        return whole_clips(self.duration_s - start_s, clip_s, frames_per_clip)


def whole_clips(duration_s: float, clip_s: float, frames_per_clip: int) -> int:
    """Count the whole clips of a stretch of film.

    It may end up to one sampling interval (``clip_s / frames_per_clip``) early: the last sample of
    its last clip is still there.

    >>> whole_clips(480.0, 2.0, 6), whole_clips(479.8, 2.0, 6), whole_clips(479.0, 2.0, 6)
    (240, 240, 239)
    """
    return max(0, int((duration_s + clip_s / frames_per_clip - 1 / 15) / clip_s))


def open_stimulus(path: Path) -> Stimulus:
    """Read a film's frame times.

    Raises
    ------
    UserError
        If the file is not a video.
    """
    return Stimulus(path, read_frame_times(path))


def clip_frames(
    stimulus: Stimulus,
    clips: int,
    clip_s: float,
    frames_per_clip: int,
    size: int,
    *,
    start_s: float = 0.0,
    stop: Event | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Decode the sampled frames of every clip in order, and note who decoded them.

    Frame i of a clip is the one on screen ``i * clip_s / frames_per_clip`` after its onset
    (6 frames of 2 s: 3 per second, paper 4.1).

    Parameters
    ----------
    stimulus : Stimulus
        The film.
    clips, clip_s, frames_per_clip
        Number of clips, their duration in seconds, and the frames of each.
    size : int
        Height and width of the frames in pixels.
    start_s : float
        Where in the film the first clip begins, in s.
    stop : threading.Event, optional
        Ends the decoding with `decoding.Stopped` when it is set.

    Yields
    ------
    uint8 (frames_per_clip, size, size, 3), squeezed to a square

    Raises
    ------
    UserError
        If no installed decoder can read a frame.
    """
    times_s = start_s + np.arange(clips * frames_per_clip, dtype=np.float64) * (
        clip_s / frames_per_clip
    )
    reader = PictureReader(stimulus.times, size, stop=stop)
    pictures = reader.read(stimulus.times.on_screen(times_s))
    for _ in range(clips):
        frames = np.empty((frames_per_clip, size, size, 3), np.uint8)
        for row in range(frames_per_clip):
            frames[row] = next(pictures)
        stimulus.decoder = reader.decoder
        yield frames
