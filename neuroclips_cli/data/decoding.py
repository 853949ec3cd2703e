"""Decode chosen pictures of a video: by decord where it reads them right, else by PyAV."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.frame_times import FrameTimes
from neuroclips_cli.data.gif_file import gif_pictures, is_gif
from neuroclips_cli.data.resample import resize
from neuroclips_cli.data.video_checks import open_video
from neuroclips_cli.errors import UserError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

AGREEMENT_S = 2e-3
"""decord's times, in single precision, may differ by so much from the container's."""
AT_ONCE = 100
"""Pictures that decord passes over in one call, during which no signal is heard."""


class Stopped(Exception):
    """Raised in a thread whose work is no longer wanted."""


@dataclass
class PictureReader:
    """Reads pictures of one video by their numbers.

    Attributes
    ----------
    times : FrameTimes
        The video.
    size : int or None
        Height and width to scale pictures to; None for their own.
    area : bool
        Scale by averaging areas, which decord cannot do; bilinear otherwise.
    stop : threading.Event or None
        Ends the reading with `Stopped` when it is set.
    decoder : str
        Who has read the pictures so far.
    """

    times: FrameTimes
    size: int | None = None
    area: bool = False
    stop: Event | None = None
    decoder: str = ""

    def read(self, wanted: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Yield one picture for every number; numbers rise, and may be equal.

        Where decord fails, PyAV takes over.

        Yields
        ------
        uint8 (h, w, 3)

        Raises
        ------
        UserError
            If no installed decoder can read a picture.
        """
        done = 0
        for decoder, pictures in self._decoders():
            try:
                for picture in pictures(wanted[done:]):
                    self.decoder = decoder
                    yield picture
                    done += 1
                return
            except _DecordFailed:
                continue

    def _decoders(self) -> Iterator[tuple[str, Any]]:
        if is_gif(self.times.path):
            yield "Pillow", self._by_pillow
            return
        if self.times.plain and not self.area and has_decord():
            yield "decord", self._by_decord
        yield "PyAV", self._by_pyav

    def _by_pillow(self, wanted: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        for picture in gif_pictures(self.times.path, wanted):
            self._listen()
            yield picture if self.size is None else resize(picture, self.size)

    def _by_decord(self, wanted: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        import decord

        shape = {} if self.size is None else {"width": self.size, "height": self.size}
        position, shown = 0, None
        try:
            reader = decord.VideoReader(
                str(self.times.path), ctx=decord.cpu(0), num_threads=1, **shape
            )
            self._compare(reader)
            keys = np.asarray(reader.get_key_indices(), dtype=np.int64)
            for number in wanted.tolist():
                if shown is None or number >= position:
                    self._pass_over(reader, keys, position, number)
                    shown, position = reader.next().asnumpy(), number + 1
                if self.size is not None and shown.shape != (self.size, self.size, 3):
                    raise _DecordFailed
                yield shown
        except (decord.DECORDError, RuntimeError, StopIteration, AttributeError) as error:
            raise _DecordFailed from error

    def _compare(self, reader: Any) -> None:
        """Refuse decord where its pictures are not the container's, one for one."""
        if len(reader) != len(self.times):
            raise _DecordFailed
        onsets = np.asarray(reader.get_frame_timestamp(range(len(reader))))[:, 0].astype(np.float64)
        if not np.abs(onsets - onsets[0] - self.times.onsets_s).max() < AGREEMENT_S:
            raise _DecordFailed

    def _pass_over(self, reader: Any, keys: NDArray[np.int64], position: int, wanted: int) -> None:
        """Decode the pictures from `position` up to `wanted` without scaling them.

        decord seeks where it skips over a key frame and then loses frames of some films: the frame
        before a key frame is read, as are those before the first one.
        """
        while position < wanted:
            self._listen()
            key = int(np.searchsorted(keys, position, side="right"))
            stop = min(wanted, int(keys[key]) - 1) if key < len(keys) else wanted
            stop = min(stop, position + AT_ONCE)
            if stop > position and key:
                reader.skip_frames(stop - position)
                position = stop
            else:
                reader.next()
                position += 1

    def _by_pyav(self, wanted: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        scale = _Scaler(self.size, "area" if self.area else "bilinear")
        pending, place = wanted.tolist(), 0
        for number, frame in self._frames():
            self._listen()
            if place == len(pending):
                return
            if number > pending[place]:
                break
            if number == pending[place]:
                picture = self.times.orientation.apply(scale(frame))
                while place < len(pending) and pending[place] == number:
                    yield picture
                    place += 1
        if place < len(pending):
            raise self._damaged(pending[place])

    def _frames(self) -> Iterator[tuple[int, VideoFrame]]:
        """Decode all pictures that are shown, each with its number."""
        import av

        stamps = self.times.stamps
        numbers = None if stamps is None else {int(stamp): n for n, stamp in enumerate(stamps)}
        number = -1
        with open_video(self.times.path) as video:
            try:
                for frame in video.frames():
                    known = (
                        -1 if numbers is None or frame.pts is None else numbers.get(frame.pts, -1)
                    )
                    number = number + 1 if numbers is None else known
                    if number >= 0:
                        yield number, frame
            except av.FFmpegError as error:
                raise self._damaged(min(number + 1, len(self.times) - 1)) from error

    def _damaged(self, number: int) -> UserError:
        return UserError(
            f"{self.times.path} is damaged near {self.times.onsets_s[number]:.1f} s: replace it"
        )

    def _listen(self) -> None:
        if self.stop is not None and self.stop.is_set():
            raise Stopped


class _DecordFailed(Exception):
    """decord cannot read this file, or reads other pictures than the container shows."""


class _Scaler:
    """Scales pictures with FFmpeg's filters, bilinear to the same bytes as decord."""

    def __init__(self, size: int | None, method: str) -> None:
        self.size, self.method = size, method
        self._known: tuple[int, int, str] | None = None
        self._graph: Any = None

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return uint8 (h, w, 3)."""
        if self.size is None:
            return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
        kind = frame.width, frame.height, frame.format.name
        if kind != self._known:
            self._known, self._graph = kind, self._build(frame)
        self._graph.push(frame)
        return np.asarray(self._graph.pull().to_ndarray(), np.uint8)

    def _build(self, frame: VideoFrame) -> Any:
        from fractions import Fraction

        from av.filter import Graph

        graph = Graph()
        source = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base or Fraction(1, 1000),
        )
        scale = graph.add("scale", f"w={self.size}:h={self.size}:flags={self.method}")
        color = graph.add("format", "pix_fmts=rgb24")
        sink = graph.add("buffersink")
        source.link_to(scale)
        scale.link_to(color)
        color.link_to(sink)
        graph.configure()
        return graph


def has_decord() -> bool:
    """Whether decord is installed; it has no wheels for ARM and for newer Pythons on macOS."""
    try:
        importlib.import_module("decord")
    except (ImportError, OSError):
        return False
    return True
