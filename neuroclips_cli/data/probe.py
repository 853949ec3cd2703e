"""Look at a video file's claims before a decoder believes them."""

from __future__ import annotations

from pathlib import Path

from neuroclips_cli.errors import UserError

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,ogg,flv,asf,gif"
"""Containers that hold pictures themselves. Playlists, which name other files, are not opened."""
LONGEST_S = 86_400.0
LARGEST_PICTURE = 8192 * 8192
LARGEST_MISMATCH = 4
"""Times that the first picture may have more pixels than the container says."""


def check_video(path: Path) -> None:
    """Refuse a video whose header claims what its file cannot hold.

    decord reserves memory for as many frames as the header claims and ends the whole process when
    there is not so much; a playlist disguised as a film would make it open other files. The first
    picture is decoded, because the stream's own header may claim another size than the container.

    Raises
    ------
    UserError
        If the file is no video, its first picture cannot be decoded or is far larger than the
        container says, or it claims more frames than it has bytes, more than a day, or pictures
        beyond 8192 x 8192.
    """
    import av

    try:
        with av.open(str(path), options={"format_whitelist": FORMATS}) as container:
            stream = container.streams.video[0]
            frames, base = int(stream.frames or 0), stream.time_base
            area = int(stream.width or 0) * int(stream.height or 0)
            seconds = float(stream.duration * base) if stream.duration and base else 0.0
            seconds = max(seconds, (container.duration or 0) / av.time_base)
            start = abs(float(stream.start_time * base)) if stream.start_time and base else 0.0
            picture = next(container.decode(stream))
            claimed, area = area, max(area, picture.width * picture.height)
    except Exception as error:  # a class per code of FFmpeg; Index, StopIteration: empty
        raise UserError(f"{path} cannot be decoded as a video: replace it") from error
    size = path.stat().st_size
    beyond = area > LARGEST_PICTURE or area > LARGEST_MISMATCH * claimed
    if frames > size or max(seconds, start) > LONGEST_S or beyond:
        raise UserError(
            f"{path} claims {frames} frames, {seconds:.0f} s and {area} pixels, which its {size} "
            "bytes cannot hold: replace it"
        )
