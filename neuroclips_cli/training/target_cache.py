"""Frozen targets, computed once and kept on disk, shared by all subjects who saw the films."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuroclips_cli.io import atomic, npy
from neuroclips_cli.io.lock import file_lock

CLIPS_AT_ONCE = 32


def target_key(
    frames_digest: str, reference: str, folder: Path | None, precision: str = "float32"
) -> str:
    """Name part that changes when the films, the network or its precision change.

    Parameters
    ----------
    frames_digest : str
        Digest of what goes into the network.
    reference : str
        The backbone's reference; decides where it is a hub id.
    folder : Path or None
        The backbone's folder where it lies on this machine; its weights decide then.
    precision : str
        In which the network computes.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    network = atomic.tree_digest(folder) if folder is not None else f"name:{reference}"
    rounded = [] if precision == "float32" else [precision]
    return atomic.text_digest([frames_digest, network, *rounded])[:16]


def cached_rows(
    path: Path,
    inputs: np.ndarray,
    compute: Callable[[np.ndarray], np.ndarray],
    advance: Callable[[int], None] | None = None,
    announce: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Apply a frozen network to every clip, or open the result of an earlier time.

    The array grows in a hidden file beside ``path`` with a note of the rows done, so that an
    interrupted computation goes on; it gets its name when it is complete.

    Parameters
    ----------
    path : Path
        The ``.npy`` file; its name must change whenever the result would.
    inputs : numpy.ndarray
        ``(clips, ...)``, at least one clip.
    compute : callable
        Some clips to ``(those clips, ...)``; the result is stored as float16.
    advance : callable, optional
        Called with the number of clips done.
    announce : callable, optional
        Called with the size of the whole array in bytes before any of it is written.

    Returns
    -------
    numpy.ndarray
        float16 ``(clips, ...)``, memory-mapped.
    """
    made = False
    if not path.exists():
        # Two subjects who saw the same films share their targets: the second one waits.
        with file_lock(path):
            made = not path.exists()
            if made:
                _compute(path, inputs, compute, advance, announce)
    if not made and advance is not None:
        advance(len(inputs))
    return npy.read_array(path)


def _compute(
    path: Path,
    inputs: np.ndarray,
    compute: Callable[[np.ndarray], np.ndarray],
    advance: Callable[[int], None] | None,
    announce: Callable[[int], None] | None,
) -> None:
    part = path.with_name(f".{path.name}.part")
    note = path.with_name(f".{path.name}.rows")
    path.parent.mkdir(parents=True, exist_ok=True)
    done = int(atomic.read_json(note)) if part.exists() and note.exists() else 0
    array: Any = np.load(part, mmap_mode="r+", allow_pickle=False) if done else None
    if advance is not None and done:
        advance(done)
    for start in range(done, len(inputs), CLIPS_AT_ONCE):
        rows = compute(inputs[start : start + CLIPS_AT_ONCE]).astype(np.float16)
        if array is None:
            if announce is not None:
                announce(len(inputs) * rows[0].nbytes)
            array = _new_array(part, (len(inputs), *rows.shape[1:]))
        array[start : start + len(rows)] = rows
        array.flush()
        atomic.write_text(note, str(start + len(rows)))
        if advance is not None:
            advance(len(rows))
    del array
    part.replace(path)
    atomic.flush_folder(path.parent)
    note.unlink(missing_ok=True)


def _new_array(part: Path, shape: tuple[int, ...]) -> np.ndarray:
    kind = np.dtype(np.float16)
    with atomic.explain_full_disk(part, int(np.prod(shape, dtype=np.int64)) * kind.itemsize):
        npy.reserve(part, shape, kind)
    array: np.ndarray = np.load(part, mmap_mode="r+", allow_pickle=False)
    return array


def per_frame(compute: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Let a function of frames ``(n, h, w, 3)`` take clips ``(clips, frames, h, w, 3)``."""

    def of_clips(clips: np.ndarray) -> np.ndarray:
        flat = np.ascontiguousarray(clips.reshape(-1, *clips.shape[2:]))
        rows = compute(flat)
        return rows.reshape(*clips.shape[:2], *rows.shape[1:])

    return of_clips


def cached_captions(
    path: Path, frames: np.ndarray, compute: Callable[[np.ndarray], Sequence[str]]
) -> list[str]:
    """Caption every frame of every clip, or read the captions of an earlier time.

    One process at a time describes, and an interrupted one goes on, as with :func:`cached_rows`.

    Parameters
    ----------
    path : Path
        JSON file; its name must change whenever the captions would.
    frames : numpy.ndarray
        uint8 ``(clips, frames, h, w, 3)``.
    compute : callable
        Frames ``(n, h, w, 3)`` to captions.

    Returns
    -------
    list of str
        ``clips x frames``, the frames of a clip one after the other.
    """
    if not path.exists():
        with file_lock(path):
            if not path.exists():
                _describe(path, frames, compute)
    return list(atomic.read_json(path))


def _describe(
    path: Path, frames: np.ndarray, compute: Callable[[np.ndarray], Sequence[str]]
) -> None:
    part = path.with_name(f".{path.name}.part")
    captions: list[str] = atomic.read_json(part) if part.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    while len(captions) < len(frames) * frames.shape[1]:
        first = len(captions) // frames.shape[1]
        some = frames[first : first + CLIPS_AT_ONCE]
        captions += compute(np.ascontiguousarray(some.reshape(-1, *some.shape[2:])))
        atomic.write_json(part, captions)
    part.replace(path)
    atomic.flush_folder(path.parent)
