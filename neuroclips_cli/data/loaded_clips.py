"""Clips decoded once, brought to one frame rate and size, and kept in a scratch file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from neuroclips_cli.data.clips import Clip, FolderClips
from neuroclips_cli.data.resample import ClipShape, resize
from neuroclips_cli.io import atomic


@dataclass(frozen=True)
class LoadedClips:
    """Clips at the protocol's frame rate and size; they may differ in length.

    Attributes
    ----------
    pixels : numpy.ndarray
        uint8, all frames of all clips one after the other, usually memory-mapped.
    offsets : numpy.ndarray
        int (clips,): where each clip begins in ``pixels``.
    lengths : numpy.ndarray
        int (clips,): number of frames of each clip.
    size : int
        Height and width in pixels.
    shapes : list of ClipShape
        What each clip was before.
    """

    pixels: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    size: int
    shapes: list[ClipShape]

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.lengths)

    def read(self, clips: np.ndarray, frames: int) -> np.ndarray:
        """Return the first frames of some clips, uint8 (len(clips), frames, size, size, 3)."""
        count = frames * self.size * self.size * 3
        rows = [self.pixels[self.offsets[clip] : self.offsets[clip] + count] for clip in clips]
        return np.stack(rows).reshape(-1, frames, self.size, self.size, 3)


def load_clips(
    sources: Sequence[FolderClips],
    fps: float,
    size: int,
    folder: Path,
    advance: Callable[[int], None] | None = None,
) -> list[LoadedClips]:
    """Decode every clip of some sets once; panels of one file are cut from the same frames.

    Parameters
    ----------
    sources : sequence of FolderClips
        Sets of the same number of clips.
    fps : float
        Frame rate in Hz to bring them to, nearest frame in time.
    size : int
        Height and width in pixels to bring them to.
    folder : Path
        An existing folder on a disk with room for them; the scratch files in it have no names
        and are gone with this process.
    advance : callable, optional
        Called with 1 after every clip of every set.

    Returns
    -------
    list of LoadedClips
        One for each set.

    Raises
    ------
    UserError
        If a clip cannot be read, or the disk is full.
    """
    count = len(sources[0]) if sources else 0
    with ExitStack() as stack:
        scratches = [stack.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in sources]
        shapes: list[list[ClipShape]] = [[] for _ in sources]
        lengths: list[list[int]] = [[] for _ in sources]
        for clip in range(count):
            decoded: dict[Path, tuple[np.ndarray, Clip]] = {}
            for place, source in enumerate(sources):
                path = source.paths[clip]
                if path not in decoded:
                    opened = source.open(clip)
                    decoded[path] = opened.read(fps)[0], opened
                whole, opened = decoded[path]
                frames = source.cut(clip, whole)
                shapes[place].append(_shape(opened, frames))
                chosen = resize(frames, size)
                with atomic.explain_full_disk(folder, chosen.nbytes * (count - clip)):
                    scratches[place].write(np.ascontiguousarray(chosen).data)
                    scratches[place].flush()
                lengths[place].append(len(chosen))
                if advance is not None:
                    advance(1)
        return [
            _mapped(scratch, np.array(of), size, kinds)
            for scratch, of, kinds in zip(scratches, lengths, shapes, strict=True)
        ]


def _shape(clip: Clip, frames: np.ndarray) -> ClipShape:
    """Return what a clip was before resampling; its height and width are those of its frames."""
    rate = clip.pictures / clip.duration_s
    height, width = frames.shape[1:3]
    return ClipShape(clip.pictures, rate, height, width, clip.start_s)


def _mapped(
    scratch: IO[bytes], lengths: np.ndarray, size: int, shapes: list[ClipShape]
) -> LoadedClips:
    """Map a scratch file into memory; the mapping outlives the closed file."""
    sizes = lengths * size * size * 3
    pixels: np.ndarray = np.memmap(scratch, np.uint8, mode="r")
    return LoadedClips(pixels, np.cumsum(sizes) - sizes, lengths, size, shapes)
