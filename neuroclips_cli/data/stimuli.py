"""Decode the films: how long they are, and the frames of every clip (by decord)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.probe import LONGEST_S, check_video
from neuroclips_cli.errors import UserError

_EPSILON_S = 1e-4


@dataclass(frozen=True)
class Stimulus:
    """A film's timing.

    Attributes
    ----------
    path : Path
    duration_s : float
    onsets_s : float64 (frames,)
        When each frame appears, from the first one.
    steady : bool
        False where the frame rate varies; frames are taken by their times then.
    """

    path: Path
    duration_s: float
    onsets_s: NDArray[np.float64]
    steady: bool = True

    def clips(self, clip_s: float, frames_per_clip: int) -> int:
        """Count the whole clips.

        A film may end up to one sampling interval (``clip_s / frames_per_clip``) early: the last
        sample of its last clip is still there.
        """
        return int((self.duration_s + clip_s / frames_per_clip - 1 / 15) / clip_s)


def _reader(path: Path, size: int | None = None) -> Any:
    import decord

    check_video(path)
    shape = {} if size is None else {"width": size, "height": size}
    try:
        return decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1, **shape)
    except (decord.DECORDError, RuntimeError) as error:
        raise UserError(f"{path} cannot be decoded as a video: replace it") from error


def open_stimulus(path: Path) -> Stimulus:
    """Read a film's frame times.

    Raises
    ------
    UserError
        If the file is no video.
    """
    reader = _reader(path)
    if not len(reader):
        raise UserError(f"{path} holds no frames: replace it")
    try:
        times = np.asarray(reader.get_frame_timestamp(range(len(reader))))
        rate = float(reader.get_avg_fps())
    except Exception as error:  # decord's own kind, and what numpy says to its answer
        raise UserError(f"{path} has no usable frame times: replace it") from error
    onsets = times[:, 0].astype(np.float64)
    # Timestamps are single precision; at a constant rate the frame numbers are exact.
    with np.errstate(divide="ignore", invalid="ignore"):
        steady = np.arange(len(onsets)) / np.float64(rate)
    onsets = onsets - onsets[0]
    if not (np.isfinite(onsets).all() and LONGEST_S > len(onsets) / max(rate, 1e-9) > 0):
        raise UserError(f"{path} has no usable frame times: replace it")
    even = bool(np.abs(onsets - steady).max() < 0.5 / rate)
    onsets = steady if even else onsets
    duration = float(onsets.max() + 1 / rate)
    if duration > LONGEST_S:
        raise UserError(f"{path} has frame times up to {duration:.0f} s: replace it")
    return Stimulus(path, duration, onsets, even)


def clip_frames(
    stimulus: Stimulus, clips: int, clip_s: float, frames_per_clip: int, size: int
) -> Iterator[NDArray[np.uint8]]:
    """Decode the sampled frames of every clip in order.

    Frame i of a clip is the one on screen ``i * clip_s / frames_per_clip`` after its onset
    (6 frames of 2 s: 3 per second, paper 4.1).

    Yields
    ------
    uint8 (frames_per_clip, size, size, 3), squeezed to a square
    """
    import decord

    times = np.arange(clips * frames_per_clip) * (clip_s / frames_per_clip)
    index = np.searchsorted(stimulus.onsets_s, times + _EPSILON_S, side="right") - 1
    reader = _reader(stimulus.path, size)
    keys = np.asarray(reader.get_key_indices(), dtype=np.int64)
    # Reading on is twice as fast as asking for single frames, before each of which decord seeks.
    position = 0
    for clip in index.reshape(clips, frames_per_clip):
        frames = np.empty((frames_per_clip, size, size, 3), np.uint8)
        for row, wanted in enumerate(clip.tolist()):
            try:
                if wanted >= position:
                    _pass_over(reader, keys, position, wanted)
                    shown, position = reader.next().asnumpy(), wanted + 1
            except (decord.DECORDError, RuntimeError, StopIteration, AttributeError) as error:
                raise UserError(
                    f"{stimulus.path} is damaged near {stimulus.onsets_s[wanted]:.1f} s: replace it"
                ) from error
            if shown.shape != frames[row].shape:
                raise UserError(
                    f"decord cannot scale {stimulus.path} to {size} pixels: set data.frame_size to "
                    "a multiple of 32"
                )
            frames[row] = shown
        yield frames


def _pass_over(reader: Any, keys: NDArray[np.int64], position: int, wanted: int) -> None:
    """Decode the frames from `position` up to `wanted` without scaling them.

    decord seeks where it skips over a key frame and then loses frames of some films: the frame
    before a key frame is read, as are those before the first one.
    """
    while position < wanted:
        key = int(np.searchsorted(keys, position, side="right"))
        stop = min(wanted, int(keys[key]) - 1) if key < len(keys) else wanted
        if stop > position and key:
            reader.skip_frames(stop - position)
            position = stop
        else:
            reader.next()
            position += 1
