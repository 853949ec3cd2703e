"""Bring clips to the protocol's frame rate and size (paper 4.3: 3 fps, 256 x 256)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class ClipSource(Protocol):
    """Something that hands out clips of equal size, a few at a time."""

    @property
    def lengths(self) -> np.ndarray:
        """Return the number of frames of every clip, int (clips,)."""
        ...

    def __len__(self) -> int:
        """Return the number of clips."""
        ...

    def read(self, clips: np.ndarray, frames: int) -> np.ndarray:
        """Return the first frames of some clips, uint8 (len(clips), frames, h, w, 3)."""
        ...


def frame_count(frames: int, fps: float, target_fps: float) -> int:
    """Return how many frames cover the same duration at another rate.

    Parameters
    ----------
    frames : int
        Frames of the source, at least 1.
    fps, target_fps : float
        Frame rates in Hz, above 0.

    Returns
    -------
    int
        ``floor(frames / fps * target_fps)``, at least 1.

    See Also
    --------
    frame_indices : Which frames they are.

    Examples
    --------
    >>> frame_count(16, 8.0, 3.0), frame_count(1, 8.0, 3.0)
    (6, 1)
    """
    return max(1, int(np.floor(frames / fps * target_fps + 1e-6)))


def frame_indices(frames: int, fps: float, target_fps: float) -> np.ndarray:
    """Return the nearest source frame at each target time i / target_fps.

    Parameters
    ----------
    frames : int
        Frames of the source, at least 1.
    fps, target_fps : float
        Frame rates in Hz, above 0.

    Returns
    -------
    numpy.ndarray
        int64 (target frames,), 0..frames - 1, not descending.

    See Also
    --------
    frame_count : Number of target frames.

    Notes
    -----
    ``index_i = floor(i / target_fps * fps + 0.5)``: halves go up.

    Examples
    --------
    16 frames at 8 Hz, and 14 frames over 2 s as the authors' GIFs hold them, to 3 Hz:

    >>> frame_indices(16, 8.0, 3.0).tolist()
    [0, 3, 5, 8, 11, 13]
    >>> frame_indices(14, 7.0, 3.0).tolist()
    [0, 2, 5, 7, 9, 12]
    """
    times = np.arange(frame_count(frames, fps, target_fps)) / target_fps
    # halves go up, always: numpy's rint would send them to the even neighbor; the small term
    # keeps exact halves from falling to either side by rounding error
    return np.clip(np.floor(times * fps + 0.5 + 1e-9).astype(np.int64), 0, frames - 1)


def resize(frames: np.ndarray, size: int) -> np.ndarray:
    """Resize frames to a square: area average when shrinking, bilinear when growing.

    Parameters
    ----------
    frames : numpy.ndarray
        uint8 (..., h, w, 3).
    size : int
        Height and width of the result in pixels; the aspect ratio is not kept.

    Returns
    -------
    numpy.ndarray
        uint8 (..., size, size, 3); the input itself when it has that size.

    Examples
    --------
    Four pixels become their mean:

    >>> frames = np.array([[[0] * 3, [100] * 3], [[100] * 3, [200] * 3]], dtype=np.uint8)
    >>> resize(frames[None], 1).tolist()
    [[[[100, 100, 100]]]]
    """
    height, width = frames.shape[-3:-1]
    if (height, width) == (size, size):
        return frames
    from PIL import Image

    shrinks = height >= size and width >= size
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    flat = frames.reshape(-1, height, width, 3)
    small = [np.asarray(Image.fromarray(frame).resize((size, size), method)) for frame in flat]
    return np.stack(small).reshape(*frames.shape[:-3], size, size, 3)


@dataclass(frozen=True)
class ClipShape:
    """What a clip is before resampling.

    Attributes
    ----------
    frames : int
        Number of frames.
    fps : float
        Frame rate in Hz.
    height, width : int
        In pixels.
    start_s : float
        When its first frame is shown, in seconds from the beginning of its container.
    """

    frames: int
    fps: float
    height: int
    width: int
    start_s: float = 0.0

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.frames} frames at {self.fps:.4g} fps, {self.width} x {self.height} pixels"


class ClipArray(Protocol):
    """An array of clips: uint8 (clips, frames, h, w, 3)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the array's shape."""
        ...

    def __getitem__(self, clip: int, /) -> np.ndarray:
        """Return one clip."""
        ...


@dataclass(frozen=True)
class ArrayClips:
    """Some rows of an array of clips, handed out at the protocol's frame rate and size.

    Attributes
    ----------
    array : numpy.ndarray or Uint8Clips
        uint8 (clips, frames, h, w, 3), usually memory-mapped.
    rows : numpy.ndarray
        int (n,), which clips, in which order.
    fps : float
        Frame rate of the array in Hz.
    target_fps, size
        What `read` returns.
    """

    array: ClipArray
    rows: np.ndarray
    fps: float
    target_fps: float
    size: int

    @property
    def lengths(self) -> np.ndarray:
        """Return the number of frames of every clip, all alike."""
        count = frame_count(self.array.shape[1], self.fps, self.target_fps)
        return np.full(len(self.rows), count)

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.rows)

    def read(self, clips: np.ndarray, frames: int) -> np.ndarray:
        """Return the first frames of some clips, uint8 (len(clips), frames, size, size, 3)."""
        indices = frame_indices(self.array.shape[1], self.fps, self.target_fps)[:frames]
        # one clip at a time: fancy indexing over two axes would read every frame from disk
        chosen = np.stack([self.array[int(row)][indices] for row in self.rows[clips]])
        return resize(chosen, self.size)

    @property
    def shapes(self) -> list[ClipShape]:
        """Return every clip's own shape."""
        frames, height, width = self.array.shape[1:4]
        return [ClipShape(frames, self.fps, height, width)] * len(self.rows)


@dataclass(frozen=True)
class CutClips:
    """Clips of which only a stretch each is handed out.

    Attributes
    ----------
    source : ClipSource
        The whole clips.
    starts, lengths : numpy.ndarray
        int (clips,): first frame and number of frames of each stretch.
    """

    source: ClipSource
    starts: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.source)

    def read(self, clips: np.ndarray, frames: int) -> np.ndarray:
        """Return the first frames of some stretches, uint8 (len(clips), frames, h, w, 3)."""
        starts = self.starts[clips]
        if not starts.any():
            return self.source.read(clips, frames)
        stretches = [
            self.source.read(np.array([clip]), start + frames)[0, start:]
            for clip, start in zip(clips, starts, strict=True)
        ]
        return np.stack(stretches)
