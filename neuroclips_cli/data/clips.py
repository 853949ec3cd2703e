"""Read sets of clips of any format: videos, GIFs, folders of PNG frames, or one array file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuroclips_cli.data import side_by_side
from neuroclips_cli.data.decoding import PictureReader
from neuroclips_cli.data.frame_times import FrameTimes
from neuroclips_cli.data.gif_file import is_gif, whole_scans
from neuroclips_cli.data.pixel_range import Uint8Clips, find_range
from neuroclips_cli.data.resample import ArrayClips, frame_count, frame_indices
from neuroclips_cli.data.video_checks import SUFFIXES
from neuroclips_cli.data.video_file import read_frame_times
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.folders import is_leftover, natural_order
from neuroclips_cli.io.npy import read_array
from neuroclips_cli.io.placeholders import require_content

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST = 2**30
"""Bytes that the frames of one clip may take; 2 s of film in full HD at 60 fps take 0.75e9."""
FORMATS = "mp4, mkv, avi, webm, mov, gif, folders of png frames, or one .npy array"


def list_clips(path: Path, option: str) -> dict[str, Path | int]:
    """Name every clip of a set.

    Parameters
    ----------
    path : Path
        A folder of clips, or a ``.npy`` file.
    option : str
        How to call it in an error, such as ``--pred``.

    Returns
    -------
    dict
        Name without suffix -> file, folder of frames, or row of the array; in natural order.

    Raises
    ------
    UserError
        If there is nothing readable, or a name occurs twice.
    """
    if path.is_file() and path.suffix.lower() == ".npy":
        return {f"{row:04d}": row for row in range(len(_open_array(path, option)))}
    if not path.is_dir():
        raise UserError(
            f"{option} {path} is neither a folder of clips nor a .npy file: give {FORMATS}."
        )
    clips: dict[str, Path | int] = {}
    for entry in sorted(path.iterdir(), key=lambda path: natural_order(path.name)):
        if is_leftover(entry.name) or not _is_clip(entry):
            continue
        require_content(entry)
        name = entry.stem if entry.is_file() else entry.name
        if name in clips:
            raise UserError(
                f"{option} {path} holds two clips named '{name}' ({clips[name]} and {entry}): "
                "keep one of them."
            )
        clips[name] = entry
    if not clips:
        raise UserError(f"{option} {path} holds no clips: give {FORMATS}.")
    return clips


def _is_clip(entry: Path) -> bool:
    if entry.is_dir():
        return bool(_pngs(entry))
    return entry.suffix.lower() in (*SUFFIXES, ".gif")


def _pngs(folder: Path) -> list[Path]:
    """Return a folder's frames in natural order."""
    try:
        names = [path for path in folder.iterdir() if path.suffix.lower() == ".png"]
    except PermissionError as error:
        raise UserError(
            f"the folder {folder} cannot be read: give yourself access to it, or move it away"
        ) from error
    kept = [path for path in names if not is_leftover(path.name)]
    return sorted(kept, key=lambda path: natural_order(path.name))


def _open_array(path: Path, option: str) -> np.ndarray:
    try:
        array = read_array(path)
    except UserError as problem:
        raise UserError(
            f"{option} {path} is not a readable .npy array: write uint8 (clips, frames, height, "
            "width, 3) with numpy.save."
        ) from problem
    _check_array(array, f"{option} {path}")
    return array


def _check_array(array: np.ndarray, what: str) -> None:
    """Refuse an array that holds no clips."""
    sound = array.dtype.kind in "uif" and array.ndim == 5 and array.shape[-1] == 3
    if not sound or 0 in array.shape:
        raise UserError(
            f"{what} holds {array.dtype} {array.shape}: it must be numbers (clips, "
            "frames, height, width, 3), best as uint8."
        )


WHOLE = 0.05
"""Share of a scan by which a clip may miss whole scans and still count as them."""


@dataclass(frozen=True)
class Clip:
    """One clip on disk, read when its frames are asked for.

    Attributes
    ----------
    path : Path
        A video, a GIF, or a folder of frames.
    duration_s : float
        How long it is on screen, in seconds; within 5 % of a scan from whole scans it
        counts as them.
    pictures : int
        Different pictures that the file stores.
    times : FrameTimes or None
        When they are on screen; None for a folder, whose frames share the duration equally.
    """

    path: Path
    duration_s: float
    pictures: int
    times: FrameTimes | None

    @property
    def fps(self) -> float:
        """Frame rate at which the clip was made, in Hz; the mean where it varies."""
        if self.times is not None and self.times.interval_s:
            return 1 / self.times.interval_s
        return self.pictures / self.duration_s

    @property
    def start_s(self) -> float:
        """How long after the beginning of its container the first picture appears, in seconds."""
        return self.times.start_s if self.times is not None else 0.0

    def frame_numbers(self, fps: float) -> np.ndarray:
        """Return which picture is taken for each frame at another rate.

        Frame i is the picture that begins nearest to ``i / fps`` on the clip's own grid, as the
        published GIFs are read (../shared/fixtures); off a grid, the one on screen.

        Returns
        -------
        numpy.ndarray
            int64 (frames,): as many as fit into the duration.
        """
        count = frame_count(self.pictures, self.pictures / self.duration_s, fps)
        if self.times is None:
            return frame_indices(self.pictures, self.fps, fps)
        return self.times.nearest(np.arange(count) / fps)

    def read(self, fps: float) -> tuple[np.ndarray, str]:
        """Read the frames at another rate.

        Returns
        -------
        tuple
            uint8 (frames, h, w, 3), and who decoded them.

        Raises
        ------
        UserError
            If the frames cannot be read, differ in size, or would fill the memory.
        """
        return self._read(self.frame_numbers(fps))

    def read_all(self) -> tuple[np.ndarray, str]:
        """Read every picture that the file stores; returns and raises like `read`."""
        return self._read(np.arange(self.pictures))

    def _read(self, numbers: np.ndarray) -> tuple[np.ndarray, str]:
        if self.times is None:
            return _read_folder(self.path)[numbers], "Pillow"
        _check_size(self.path, len(numbers) * self.times.width * self.times.height * 3)
        reader = PictureReader(self.times)
        frames = list(reader.read(numbers))
        if len({frame.shape for frame in frames}) > 1:
            raise UserError(f"the frames in {self.path} differ in size: make them equal.")
        return np.stack(frames), reader.decoder


def open_clip(path: Path, clip_s: float) -> Clip:
    """Read a clip's times.

    Parameters
    ----------
    path : Path
        A video, a GIF, or a folder of PNG frames in natural order.
    clip_s : float
        Duration of one scan's clip in seconds: folders of frames last that long.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    if path.is_dir():
        return Clip(path, clip_s, len(_frame_files(path)), None)
    times = read_frame_times(path)
    if is_gif(path):
        times = whole_scans(times, clip_s)
    whole = max(1, round(times.duration_s / clip_s)) * clip_s
    near = abs(times.duration_s - whole) <= WHOLE * clip_s
    return Clip(path, whole if near else times.duration_s, len(times), times)


def read_clip(path: Path, clip_s: float) -> tuple[np.ndarray, float]:
    """Read every picture of a clip that is shown equally long.

    Parameters
    ----------
    path, clip_s
        As of `open_clip`.

    Returns
    -------
    tuple
        uint8 (pictures, h, w, 3) and their mean rate in Hz.

    Raises
    ------
    UserError
        If it cannot be read, or its frames differ in size.
    """
    clip = open_clip(path, clip_s)
    return clip.read_all()[0], clip.pictures / clip.duration_s


def _frame_files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.png"), key=lambda path: natural_order(path.name))
    if not files:
        raise UserError(f"{path} holds no png frames: put frames in it or remove it.")
    return files


def _read_folder(path: Path) -> np.ndarray:
    from PIL import Image as pillow

    images: list[np.ndarray] = []
    for file in _pngs(path):
        require_content(file)
        with pillow.open(file) as image:
            _check_size(path, image.width * image.height * 3 * (len(images) + 1))
            images.append(_as_rgb(image, file))
    if not images:
        raise UserError(f"{path} holds no png frames: put frames in it or remove it.")
    if len({image.shape for image in images}) > 1:
        raise UserError(f"the frames in {path} differ in size: make them equal.")
    return np.stack(images)


def _as_rgb(image: Image, file: Path) -> np.ndarray:
    """Return uint8 (h, w, 3) of a picture, be it grey, of 16 bits, or with an alpha channel."""
    if image.mode.startswith("I"):  # 16 bits: Pillow would cut them off at 255
        deep = np.asarray(image).astype(np.int64)
        if deep.min() < 0 or deep.max() > 0xFFFF:
            raise UserError(f"{file} has values beyond 16 bits: save it with 8 or 16 bits.")
        return np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, axis=-1)
    if image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        if alpha.min() < 255:
            raise UserError(
                f"{file} has transparent pixels: flatten it onto the background that is meant."
            )
    return np.asarray(image.convert("RGB"))


def _check_size(path: Path, size: int) -> None:
    """Refuse a clip whose frames would fill the memory, before they are decoded."""
    if size > LARGEST:
        raise UserError(
            f"the frames of {path} take {size / 1e9:.1f} GB or more, too much for one clip: cut it "
            "or make it smaller"
        )


@dataclass
class FolderClips:
    """Clips on disk as they are; `neuroclips_cli.data.loaded_clips` decodes them.

    Attributes
    ----------
    paths : list of Path
        One per clip.
    clip_s : float
        Duration of one scan's clip in seconds.
    panel : int or None
        Which half of side-by-side clips, 0 for left; None for whole frames.
    """

    paths: list[Path]
    clip_s: float
    panel: int | None = None

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.paths)

    def open(self, clip: int) -> Clip:
        """Read the times of a clip."""
        return open_clip(self.paths[clip], self.clip_s)

    def cut(self, clip: int, frames: np.ndarray) -> np.ndarray:
        """Return this set's panel of a clip's frames."""
        return (
            frames if self.panel is None else side_by_side.cut(frames, self.panel, self.paths[clip])
        )


def open_clips(
    path: Path,
    names: dict[str, Path | int],
    option: str,
    *,
    clip_s: float,
    target_fps: float,
    size: int,
    panel: int | None = None,
) -> FolderClips | ArrayClips:
    """Open the named clips of a set, in the order of ``names``.

    Parameters
    ----------
    path : Path
        The set that `list_clips` listed.
    names : dict
        Its entries, or some of them.
    option : str
        How to call the set in an error.
    clip_s : float
        Duration of one scan's clip in seconds; an array's clips last that long.
    target_fps, size
        The protocol's frame rate and size.
    panel : int, optional
        Which half of side-by-side clips, 0 for left.

    Returns
    -------
    FolderClips or ArrayClips

    Raises
    ------
    UserError
        If the set is an array with panels, or no readable array.
    """
    files = [entry for entry in names.values() if isinstance(entry, Path)]
    if files:
        return FolderClips(files, clip_s, panel)
    if panel is not None:
        raise UserError(f"{option} {path} is an array: --panels is for folders of clips")
    rows = np.array([entry for entry in names.values() if isinstance(entry, int)])
    stored, what = _open_array(path, option), f"{option} {path}"
    return replace(
        array_clips(stored, what, clip_s=clip_s, target_fps=target_fps, size=size), rows=rows
    )


def array_clips(
    stored: np.ndarray, what: str, *, clip_s: float, target_fps: float, size: int
) -> ArrayClips:
    """Take an array as a set of clips.

    Parameters
    ----------
    stored : numpy.ndarray
        Numbers (clips, frames, h, w, 3) of any of the ranges 0..255, 0..1 and -1..1.
    what : str
        How to call it in an error.
    clip_s : float
        Duration of every clip in seconds.
    target_fps, size
        The protocol's frame rate and size.

    Returns
    -------
    ArrayClips

    Raises
    ------
    UserError
        If the array has another shape, a value that is not finite, or another range.
    """
    _check_array(stored, what)
    array = Uint8Clips(stored, find_range(stored, what))
    rows = np.arange(len(stored))
    return ArrayClips(array, rows, array.shape[1] / clip_s, target_fps, size)
