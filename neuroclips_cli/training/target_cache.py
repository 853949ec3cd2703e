"""What a frozen target is called on disk, where all subjects who saw the films share it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from neuroclips_cli.io import atomic

CLIPS_AT_ONCE = 32
"""Clips that a frozen network takes at a time."""


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


def per_frame(compute: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Let a function of frames ``(n, h, w, 3)`` take clips ``(clips, frames, h, w, 3)``."""

    def of_clips(clips: np.ndarray) -> np.ndarray:
        flat = np.ascontiguousarray(clips.reshape(-1, *clips.shape[2:]))
        rows = compute(flat)
        return rows.reshape(*clips.shape[:2], *rows.shape[1:])

    return of_clips


def clip_digests(frames: np.ndarray) -> list[str]:
    """Return the SHA-256 of every clip's frames, uint8 ``(clips, frames, h, w, 3)``."""
    return [hashlib.sha256(np.ascontiguousarray(clip).tobytes()).hexdigest() for clip in frames]


def reused(
    compute: Callable[[np.ndarray], np.ndarray], known: Mapping[str, np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    """Let a network skip clips whose targets are known: films that another subject saw, too.

    Parameters
    ----------
    compute : callable
        Clips ``(clips, frames, h, w, 3)`` to a row each.
    known : mapping
        SHA-256 of a clip's frames -> its row.

    Returns
    -------
    callable
        The same function; ``compute`` is called with the other clips only, and not at all where
        there are none.
    """
    if not known:
        return compute

    def of_clips(clips: np.ndarray) -> np.ndarray:
        digests = clip_digests(clips)
        missing = [place for place, digest in enumerate(digests) if digest not in known]
        made = dict(zip(missing, compute(clips[missing]), strict=True)) if missing else {}
        return np.stack(
            [made[place] if place in made else known[one] for place, one in enumerate(digests)]
        )

    return of_clips
