"""Read the presentation times of a video file from its container."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data import gif_file
from neuroclips_cli.data.frame_times import (
    EXACT_S,
    FrameTimes,
    grid_interval,
    on_grid,
    rounding,
)
from neuroclips_cli.data.orientation import UPRIGHT
from neuroclips_cli.data.video_checks import LONGEST_S, Video, check_claims, check_work, open_video
from neuroclips_cli.errors import UserError

NUMBERED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""Containers that stamp every picture, so that its packets tell the times without decoding."""
ONE_TO_ONE = ("h264", "hevc", "av1", "mjpeg", "prores", "ffv1", "png")
"""Codecs of which every packet makes one picture; VP8 has hidden ones, MPEG-4 empty ones."""


@dataclass(frozen=True)
class _Packets:
    """What the packets of a stream say, in the order in which they are stored.

    Attributes
    ----------
    pts, dts, duration : numpy.ndarray
        float64 (packets,) in ticks; NaN where the container is silent.
    key, hidden : numpy.ndarray
        bool (packets,): decodable by itself; decoded but not shown (edit lists).
    """

    pts: NDArray[np.float64]
    dts: NDArray[np.float64]
    duration: NDArray[np.float64]
    key: NDArray[np.bool_]
    hidden: NDArray[np.bool_]

    @property
    def begins_with_key(self) -> bool:
        """Whether the first picture needs no other, and no picture comes before it."""
        return bool(self.key[0] and np.nanmin(self.pts) == self.pts[0])

    @property
    def complete(self) -> bool:
        """Whether every packet has a time of its own."""
        return bool(np.isfinite(self.pts).all() and len(np.unique(self.pts)) == len(self.pts))

    @property
    def groups_are_closed(self) -> bool:
        """Whether no picture is stored after a key picture and shown before it."""
        keys = np.maximum.accumulate(np.where(self.key, self.pts, -np.inf))
        return bool((self.pts >= keys).all())


@dataclass(frozen=True)
class _Pictures:
    """Pictures in the order in which they are shown.

    Attributes
    ----------
    ticks : numpy.ndarray
        float64 (pictures,), rising.
    last : float
        Ticks for which the last one is shown; 0 where unknown.
    counted : bool
        Whether the decoder's own stamps are of no use.
    """

    ticks: NDArray[np.float64]
    last: float
    counted: bool = False


def read_frame_times(path: Path) -> FrameTimes:
    """Read when each picture of a film or clip is on screen.

    Parameters
    ----------
    path : Path
        A video in any container of `probe.FORMATS`, or a GIF; its content decides, not its name.

    Raises
    ------
    UserError
        If it cannot be decoded, its claims are impossible, or it has no usable times.
    """
    if gif_file.is_gif(path):
        return gif_file.read_gif_times(path)
    with open_video(path) as video:
        picture, orientation = check_claims(video)
    with open_video(path) as video:
        packets = _read_packets(video)
        check_work(path, len(packets.pts), picture.width * picture.height)
        told = _told_by_packets(video, packets)
        pictures = _of_packets(packets) if told else _of_decoder(path, packets)
        onsets, interval = _onsets(video, pictures)
        duration = _duration(video, pictures, onsets, interval)
        start = _whole_intervals(_start(video, packets, pictures), interval, video.tick_s)
        tick = video.tick_s
    if not (np.isfinite(onsets).all() and 0 < duration <= LONGEST_S):
        raise UserError(f"{path} has no usable frame times: replace it")
    width, height = orientation.size(picture.width, picture.height)
    return FrameTimes(
        path,
        onsets,
        duration,
        width,
        height,
        interval_s=interval,
        start_s=start,
        rounding_s=rounding(tick) if not interval else EXACT_S,
        plain=told and packets.groups_are_closed and orientation == UPRIGHT,
        stamps=None if pictures.counted else pictures.ticks.astype(np.int64),
        orientation=orientation,
    )


def _read_packets(video: Video) -> _Packets:
    """Read all packets without decoding them."""
    rows = [
        (
            np.nan if packet.pts is None else packet.pts,
            np.nan if packet.dts is None else packet.dts,
            packet.duration or 0,
            packet.is_keyframe,
            packet.is_discard,
        )
        for packet in video.packets()
        if packet.size
    ]
    if not rows:
        raise UserError(f"{video.path} holds no frames: replace it")
    pts, dts, duration, key, hidden = np.array(rows, np.float64).T
    return _Packets(pts, dts, duration, key > 0, hidden > 0)


def _told_by_packets(video: Video, packets: _Packets) -> bool:
    """Whether the packets alone tell which pictures are shown, and when."""
    return (
        video.container.format.name in NUMBERED
        and video.stream.codec_context.codec.canonical_name in ONE_TO_ONE
        and packets.complete
        and packets.begins_with_key
        and not packets.hidden.any()
    )


def _of_packets(packets: _Packets) -> _Pictures:
    order = np.argsort(packets.pts)
    return _Pictures(packets.pts[order], float(packets.duration[order[-1]]))


def _of_decoder(path: Path, packets: _Packets) -> _Pictures:
    """Decode every picture to learn which are shown, and when."""
    with open_video(path) as video:
        shown = [(frame.pts, frame.duration or 0) for frame in video.frames()]
        rate = video.stream.average_rate or video.stream.guessed_rate or 25
        ticks_per_picture = 1 / (float(rate) * video.tick_s) if video.tick_s else 1.0
    if not shown:
        raise UserError(f"{path} holds no frames: replace it")
    stamps = np.array([np.nan if pts is None else pts for pts, _ in shown], np.float64)
    last = float(shown[-1][1])
    if np.isfinite(stamps).all() and (np.diff(stamps) > 0).all():
        return _Pictures(stamps, last)
    # Containers that stamp packets in the order of storage (AVI, ASF): their times are right as a
    # set, and pictures take them in the order in which they are shown.
    for known in (stamps, packets.dts[np.isfinite(packets.dts)]):
        if len(np.unique(known)) == len(shown) and np.isfinite(known).all():
            return _Pictures(np.sort(known), last, counted=True)
    numbers = np.arange(len(shown), dtype=np.float64)
    return _Pictures(numbers * ticks_per_picture, last, counted=True)


def _onsets(video: Video, pictures: _Pictures) -> tuple[NDArray[np.float64], float]:
    """Return seconds from the first picture, and the grid they lie on (0: none)."""
    stream, tick = video.stream, video.tick_s
    onsets = (pictures.ticks - pictures.ticks[0]) * tick
    rates = (stream.average_rate, stream.guessed_rate, stream.codec_context.framerate)
    interval = grid_interval(onsets, tick, rates)
    return on_grid(onsets, interval), interval


def _duration(
    video: Video, pictures: _Pictures, onsets: NDArray[np.float64], interval: float
) -> float:
    """Return seconds from the first picture to the end of the last one.

    An mp4 file states when its last picture ends (edit list, or the sum of its durations). Others
    say how long the last packet lasts, or nothing: it then lasts as long as one at the video's
    rate.
    """
    stream, tick = video.stream, video.tick_s
    if video.container.format.name == NUMBERED[0] and stream.duration:
        first = stream.start_time if stream.start_time is not None else pictures.ticks[0]
        end = float((first + stream.duration - pictures.ticks[0]) * tick)
        if end > onsets[-1] + 1e-6:
            return _whole_intervals(end, interval, tick)
    rate = stream.average_rate or stream.guessed_rate
    last = pictures.last * tick or interval or (1 / float(rate) if rate else 0.0)
    return _whole_intervals(float(onsets[-1]) + last, interval, tick)


def _whole_intervals(duration_s: float, interval_s: float, tick_s: float) -> float:
    """Undo the rounding of a duration to the container's clock."""
    if interval_s:
        whole = round(duration_s / interval_s) * interval_s
        if abs(whole - duration_s) <= max(min(2 * tick_s, interval_s / 4), 1e-6):
            return float(whole)
    return duration_s


def _start(video: Video, packets: _Packets, pictures: _Pictures) -> float:
    """Return how long after the container's beginning the first picture appears, in seconds.

    A film with B-frames stamps its first picture some frames late if its container has no edit
    list; decoding begins at once then, and so does the film. Only where even decoding begins
    later, as in a copy that was begun between two key pictures, is there nothing to see.
    """
    begin = video.container.start_time
    if begin is None:
        return 0.0
    shown = np.flatnonzero(packets.key)
    first = packets.dts[shown[0]] if len(shown) else np.nan
    first = pictures.ticks[0] if np.isnan(first) else min(first, pictures.ticks[0])
    late = float(pictures.ticks[0]) * video.tick_s - begin / 1e6
    step = float(np.median(np.diff(pictures.ticks))) if len(pictures.ticks) > 1 else 0.0
    begins_late = first * video.tick_s - begin / 1e6 > max(step * video.tick_s, 1e-3)
    return late if begins_late else 0.0
