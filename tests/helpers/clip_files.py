"""Clips as files of the formats that people have."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from PIL import Image


def write_video(path: Path, frames: np.ndarray, fps: int) -> None:
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream("mpeg4" if path.suffix != ".webm" else "libvpx", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def write_gif(path: Path, frames: np.ndarray, delay_ms: int) -> None:
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=delay_ms, loop=0)


def write_pngs(path: Path, frames: np.ndarray) -> None:
    path.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(path / f"{number}.png")
