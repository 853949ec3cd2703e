"""Frames as data URIs, so that a report is one file that needs no network."""

from __future__ import annotations

import base64
import io

import numpy as np

QUALITY = 88
"""WebP quality: the small clips of profile tiny show no visible loss at it."""


def still(frame: np.ndarray, quality: int = QUALITY) -> str:
    """Encode one frame, uint8 (h, w, 3), as a WebP data URI."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(frame).save(data, "WEBP", quality=quality)
    return _uri(data)


def moving(frames: np.ndarray, duration_s: float, quality: int = QUALITY) -> str:
    """Encode a clip as an endless animated WebP data URI.

    Parameters
    ----------
    frames : numpy.ndarray
        uint8 (frames, h, w, 3).
    duration_s : float
        How long one turn lasts; clips of one scan run in step although their rates differ.
    quality : int
        Of WebP, 0..100.

    Returns
    -------
    str
        ``data:image/webp;base64,...``
    """
    from PIL import Image

    # whole milliseconds that add up to the duration, whatever the frame rate
    stamps = np.round(np.linspace(0, duration_s * 1000, len(frames) + 1)).astype(int)
    images = [Image.fromarray(frame) for frame in frames]
    data = io.BytesIO()
    images[0].save(
        data,
        "WEBP",
        save_all=True,
        append_images=images[1:],
        duration=np.diff(stamps).tolist(),
        loop=0,
        quality=quality,
    )
    return _uri(data)


def _uri(data: io.BytesIO) -> str:
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode("ascii")
