"""Clips as video files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CODECS = ("libx264", "libopenh264", "mpeg4")


def write_video(path: Path, frames: np.ndarray, fps: int) -> None:
    """Write frames as an mp4 file that browsers play.

    Parameters
    ----------
    path : pathlib.Path
        Ends in ``.mp4``.
    frames : numpy.ndarray
        uint8 (frames, height, width, 3); an odd height or width loses its last line.
    fps : int
        Frames per second.
    """
    import av

    frames = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    codec = next(name for name in CODECS if name in av.codecs_available)
    options = {"crf": "16", "preset": "medium"} if codec == "libx264" else {}
    with av.open(str(path), mode="w", format="mp4") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = int(frames.shape[1]), int(frames.shape[2])
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1  # a clip is short; whoever writes many gives each a thread
        if codec != "libx264":
            stream.bit_rate = 4_000_000
        for image in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
