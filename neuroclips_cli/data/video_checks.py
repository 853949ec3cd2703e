"""Open a video file, and look at its claims before a decoder believes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.orientation import UPRIGHT, Orientation, from_matrix
from neuroclips_cli.errors import UserError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SUFFIXES = (
    *(".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg"),
    *(".vob", ".flv", ".f4v", ".wmv", ".asf", ".ogv", ".3gp"),
)
"""Endings of the files that are taken for videos, beside ``.gif``."""
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,ogg,flv,asf,gif"
"""Containers that hold pictures themselves. Playlists, which name other files, are not opened."""
LONGEST_S = 86_400.0
LARGEST_PICTURE = 8192 * 8192
LARGEST_MISMATCH = 4
"""Times that the first picture may have more pixels than the container says."""
PIXELS_PER_BYTE = 1_000_000
"""Pixels that a byte of a file may make; a still film in 8K makes about half as many."""
FREE_PIXELS = 10**10
"""Pixels that any file may make, whatever its size: 80 s of film in full HD at 60 fps."""


@dataclass(frozen=True)
class Video:
    """An open file and its video stream.

    Attributes
    ----------
    path : Path
    container, stream
        PyAV's; the stream is the one that players show, not a cover picture.
    """

    path: Path
    container: InputContainer
    stream: VideoStream

    def packets(self) -> Iterator[Packet]:
        """Yield the stream's packets, and the empty one that flushes a decoder.

        Raises
        ------
        UserError
            If the file hands out more packets than it has bytes, or more data than it holds: an
            index that points at the same place again and again has no end.
        """
        size = self.path.stat().st_size
        count = handed_out = 0
        for packet in self.container.demux(self.stream):
            count, handed_out = count + 1, handed_out + packet.size
            if count > size + 1 or handed_out > 2 * size:
                raise UserError(
                    f"{self.path} hands out more pictures than its {size} bytes hold: replace it"
                )
            yield packet

    def frames(self) -> Iterator[VideoFrame]:
        """Decode all pictures in the order in which they are shown, on one thread.

        Raises
        ------
        av.FFmpegError
            If a packet after the first picture is damaged. Those before it may need pictures that
            were cut off; players pass over them.
        """
        import av

        self.stream.codec_context.thread_count = 1
        began = False
        for packet in self.packets():
            try:
                decoded = packet.decode()
            except av.FFmpegError:
                if began:
                    raise
                continue
            began = began or bool(decoded)
            yield from decoded

    @property
    def tick_s(self) -> float:
        """Seconds of one step of the stream's clock."""
        return float(self.stream.time_base or 0)


@contextmanager
def open_video(path: Path) -> Iterator[Video]:
    """Open a video file; what FFmpeg says of it while it is open becomes one sentence.

    Raises
    ------
    UserError
        If it is not a video, or cannot be decoded.
    """
    import av

    try:
        options = {"format_whitelist": FORMATS}
        # Titles in other encodings than UTF-8 are common, and of no interest.
        with av.open(str(path), options=options, metadata_errors="replace") as container:
            stream = container.streams.best("video")
            if stream is None:
                raise UserError(f"{path} holds no video: replace it")
            if stream.codec_context is None:
                raise UserError(f"{path} cannot be decoded as a video (unknown codec): replace it")
            yield Video(path, container, stream)
    except av.FFmpegError as error:
        raise UserError(
            f"{path} cannot be decoded as a video ({_words(error)}): replace it"
        ) from error


def _words(error: Exception) -> str:
    """FFmpeg's own words, without the file's name."""
    return str(getattr(error, "strerror", "") or error).splitlines()[0]


def check_claims(video: Video) -> tuple[VideoFrame, Orientation]:
    """Refuse a video whose header claims what its file cannot hold; decode its first picture.

    decord reserves memory for as many frames as the header claims and ends the whole process when
    there is not so much; a playlist disguised as a film would make it open other files. The first
    picture is decoded, because the stream's own header may claim another size than the container.

    Returns
    -------
    tuple
        The first picture, and how it is to be turned.

    Raises
    ------
    UserError
        If its first picture is missing or far larger than the container says, or it claims more
        frames than it has bytes, more than a day, or pictures beyond 8192 x 8192.
    """
    path, stream = video.path, video.stream
    frames, base = int(stream.frames or 0), stream.time_base
    claimed = int(stream.width or 0) * int(stream.height or 0)
    seconds = float(stream.duration * base) if stream.duration and base else 0.0
    seconds = max(seconds, (video.container.duration or 0) / 1e6)
    picture = next(video.frames(), None)
    if picture is None:
        raise UserError(f"{path} holds no frames: replace it")
    area = max(claimed, picture.width * picture.height)
    size = path.stat().st_size
    beyond = area > LARGEST_PICTURE or area > LARGEST_MISMATCH * claimed
    work = max(frames, 1) * area > FREE_PIXELS + PIXELS_PER_BYTE * size
    if frames > size or seconds > LONGEST_S or beyond or work:
        raise UserError(
            f"{path} claims {frames} frames, {seconds:.0f} s and {area} pixels, which its {size} "
            "bytes cannot hold: replace it"
        )
    return picture, _orientation(path, picture)


def _orientation(path: Path, picture: VideoFrame) -> Orientation:
    data: Any = picture.side_data.get("DISPLAYMATRIX")
    if data is None:
        return UPRIGHT
    matrix: NDArray[np.int32] = np.frombuffer(bytes(data), np.int32)
    orientation = from_matrix(matrix) if len(matrix) >= 9 else UPRIGHT
    if orientation is None:
        raise UserError(
            f"{path} asks players to turn its pictures by other than right angles: write it anew "
            "with the pictures turned"
        )
    return orientation


def check_work(path: Path, pictures: int, area: int) -> None:
    """Refuse a video that would keep a decoder busy for longer than its size can explain.

    Raises
    ------
    UserError
        If it has more pixels in all than its bytes can make.
    """
    size = path.stat().st_size
    if pictures * area > FREE_PIXELS + PIXELS_PER_BYTE * size:
        raise UserError(
            f"{path} makes {pictures} pictures of {area} pixels out of {size} bytes: replace it, "
            "or make it smaller"
        )
