"""Read sets of clips of any format: videos, GIFs, folders of PNG frames, or one array file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuroclips_cli.arrays import read_array
from neuroclips_cli.data import panels
from neuroclips_cli.data.probe import check_video
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.folders import is_leftover
from neuroclips_cli.io.placeholders import require_content
from neuroclips_cli.metrics.resample import ArrayClips, ClipShape, frame_indices, resize

if TYPE_CHECKING:
    from PIL.Image import Image

VIDEOS = (".mp4", ".mkv", ".avi", ".webm")
LARGEST = 2**30
"""Bytes that the frames of one clip may take; 2 s of film in full HD at 60 fps take 0.75e9."""
FORMATS = "mp4, mkv, avi, webm, gif, folders of png frames, or one .npy array"


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
    for entry in sorted(path.iterdir(), key=_natural):
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
    return entry.suffix.lower() in (*VIDEOS, ".gif")


def _pngs(folder: Path) -> list[Path]:
    """Return a folder's frames in natural order."""
    try:
        names = [path for path in folder.iterdir() if path.suffix.lower() == ".png"]
    except PermissionError as error:
        raise UserError(
            f"the folder {folder} cannot be read: give yourself access to it, or move it away"
        ) from error
    return sorted((path for path in names if not is_leftover(path.name)), key=_natural)


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """Sort key under which clip-9 comes before clip-10."""
    import re

    parts = re.split(r"(\d+)", path.name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts if part]


def _open_array(path: Path, option: str) -> np.ndarray:
    try:
        array = read_array(path)
    except UserError as problem:
        raise UserError(
            f"{option} {path} is not a readable .npy array: write uint8 (clips, frames, height, "
            "width, 3) with numpy.save."
        ) from problem
    if array.dtype != np.uint8 or array.ndim != 5 or array.shape[-1] != 3 or 0 in array.shape:
        raise UserError(
            f"{option} {path} holds {array.dtype} {array.shape}: it must be uint8 (clips, frames, "
            "height, width, 3)."
        )
    return array


def _snap(frames: int, duration_s: float, clip_s: float) -> float:
    """Frame rate of a clip whose container says ``duration_s``.

    GIFs store delays in hundredths of a second and the published ones last 1.96 or 1.98 s: a
    duration within 5 % of a whole number of scans is taken for exactly that.
    """
    scans = max(1, round(duration_s / clip_s))
    if abs(duration_s - scans * clip_s) <= 0.05 * scans * clip_s:
        duration_s = scans * clip_s
    return frames / duration_s


def read_clip(path: Path, clip_s: float) -> tuple[np.ndarray, float]:
    """Read one clip.

    Parameters
    ----------
    path : Path
        A video (decord), a GIF (Pillow), or a folder of PNG frames in natural order.
    clip_s : float
        Duration of one scan's clip in seconds: folders of frames and GIFs without delays last
        that long.

    Returns
    -------
    tuple
        uint8 (frames, h, w, 3) and the frame rate in Hz.

    Raises
    ------
    UserError
        If it cannot be read, or its frames differ in size.
    """
    try:
        if path.is_dir():
            frames, duration = _read_folder(path), clip_s
        elif path.suffix.lower() == ".gif":
            frames, duration = _read_gif(path)
        else:
            frames, duration = _read_video(path)
    except UserError:
        raise
    except Exception as problem:  # decord and Pillow raise their own kinds for a broken file
        raise UserError(
            f"cannot read the clip {path} ({type(problem).__name__}): replace or remove it."
        ) from problem
    return frames, _snap(len(frames), duration or clip_s, clip_s)


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


def _read_gif(path: Path) -> tuple[np.ndarray, float]:
    from PIL import Image as pillow
    from PIL import ImageSequence

    frames: list[np.ndarray] = []
    duration_ms = 0.0
    with pillow.open(path) as image:
        for frame in ImageSequence.Iterator(image):
            _check_size(path, image.width * image.height * 3 * (len(frames) + 1))
            frames.append(np.asarray(frame.convert("RGB")))
            duration_ms += frame.info.get("duration", 0)
    return np.stack(frames), duration_ms / 1000


def _read_video(path: Path) -> tuple[np.ndarray, float]:
    import decord

    check_video(path)
    reader = decord.VideoReader(str(path), num_threads=1)
    _check_size(path, len(reader) * int(np.prod(reader[0].shape, dtype=np.int64)))
    frames = reader.get_batch(range(len(reader))).asnumpy()
    return frames, len(reader) / float(reader.get_avg_fps())


def _check_size(path: Path, size: int) -> None:
    """Refuse a clip whose frames would fill the memory, before they are decoded."""
    if size > LARGEST:
        raise UserError(
            f"the frames of {path} take {size / 1e9:.1f} GB or more, too much for one clip: cut it "
            "or make it smaller"
        )


@dataclass
class FolderClips:
    """Clips on disk, handed out at the protocol's frame rate and size.

    Attributes
    ----------
    paths : list of Path
        One per clip.
    clip_s : float
        Duration of one scan's clip in seconds.
    target_fps, size
        What `read` returns.
    panel : int or None
        Which half of side-by-side clips, 0 for left; None for whole frames.
    """

    paths: list[Path]
    clip_s: float
    target_fps: float
    size: int
    panel: int | None = None

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.paths)

    def read(self, clips: np.ndarray) -> np.ndarray:
        """Return uint8 (len(clips), frames, size, size, 3)."""
        return np.stack([self._read(self.paths[int(clip)]) for clip in clips])

    def shapes(self) -> list[ClipShape]:
        """Return every clip's own shape; reads each clip once."""
        found = []
        for path in self.paths:
            frames, fps = self._whole(path)
            found.append(ClipShape(len(frames), fps, *frames.shape[1:3]))
        return found

    def _whole(self, path: Path) -> tuple[np.ndarray, float]:
        frames, fps = read_clip(path, self.clip_s)
        return frames if self.panel is None else panels.cut(frames, self.panel, path), fps

    def _read(self, path: Path) -> np.ndarray:
        frames, fps = self._whole(path)
        return resize(frames[frame_indices(len(frames), fps, self.target_fps)], self.size)


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
        return FolderClips(files, clip_s, target_fps, size, panel)
    if panel is not None:
        raise UserError(f"{option} {path} is an array: --panels is for folders of clips")
    array = _open_array(path, option)
    rows = np.array([entry for entry in names.values() if isinstance(entry, int)])
    return ArrayClips(array, rows, array.shape[1] / clip_s, target_fps, size)
