"""The tensors that NeuroClips' authors published: scans of the selected voxels, and frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuroclips_cli.data.pixel_range import PixelRange, find_range
from neuroclips_cli.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

SEGMENTS = {"train": 18, "test": 5}
"""Films of cc2017 by split; every film has the same number of clips (240)."""
REPETITIONS = {"train": 2, "test": 10}
VOXELS = {1: 13447, 2: 14828, 3: 9114}
"""Voxels of the published selection by subject."""


def fmri_file(subject: int, split: str) -> str:
    """Return the name of a subject's scans."""
    return f"subj{subject:02d}_{split}_fmri.pt"


def frames_file(split: str) -> str:
    """Return the name of the frames of a split."""
    return f"GT_{split}_3fps.pt"


@dataclass(frozen=True)
class ReleasedSplit:
    """One split, memory-mapped and checked.

    Attributes
    ----------
    name : str
        ``train`` or ``test``.
    fmri : Tensor
        (clips, repetitions, voxels).
    frames : Tensor
        (clips, Nf, 3, height, width) or channels last; any numeric type and pixel range.
    """

    name: str
    fmri: Tensor
    frames: Tensor

    @property
    def clips(self) -> int:
        """Number of clips."""
        return int(self.fmri.shape[0])

    @property
    def per_segment(self) -> int:
        """Clips of one film."""
        return self.clips // SEGMENTS[self.name]

    def films(self) -> list[slice]:
        """Return the clips of each film."""
        length = self.per_segment
        return [slice(k * length, (k + 1) * length) for k in range(SEGMENTS[self.name])]

    def scans(self, rows: slice) -> np.ndarray:
        """Return float32 (rows, repetitions, voxels) of some clips."""
        scans: np.ndarray = self.fmri[rows].float().numpy()
        return scans

    def pixel_range(self, path: Path) -> PixelRange:
        """Look through all frames for their pixel range; see :func:`pixel_range.find_range`."""
        return find_range(self._clips(), str(path))

    def pictures(self, pixels: PixelRange) -> Iterator[np.ndarray]:
        """Yield uint8 (Nf, h, w, 3) clip by clip, so that no more is ever in memory."""
        for clip in self._clips():
            yield np.ascontiguousarray(pixels.to_uint8(clip))

    def _clips(self) -> Iterator[np.ndarray]:
        """Yield the frames as stored, (Nf, h, w, 3), clip by clip."""
        import torch

        for row in range(self.clips):
            clip = self.frames[row]
            if self.frames.shape[2] == 3:
                clip = clip.permute(0, 2, 3, 1)
            yield (clip.float() if clip.dtype == torch.bfloat16 else clip).numpy()


def check_split(
    split: str, subject: int, fmri: Any, frames: Any, frames_per_clip: int, folder: Path
) -> ReleasedSplit:
    """Check what was opened against the published layout.

    Parameters
    ----------
    split : str
        ``train`` or ``test``.
    subject : int
        Whose scans were asked for.
    fmri, frames : Tensor
        As opened.
    frames_per_clip : int
        Nf of the settings.
    folder : Path
        For messages.

    Raises
    ------
    UserError
        If a size is wrong or the voxels are another subject's; the file is named.
    """
    import torch

    names = (fmri_file(subject, split), frames_file(split))
    for name, tensor, axes, layout in (
        (names[0], fmri, 3, "(clips, repetitions, voxels)"),
        (names[1], frames, 5, "(clips, frames, 3, height, width)"),
    ):
        if not isinstance(tensor, torch.Tensor) or tensor.ndim != axes:
            found = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor)
            raise UserError(f"{folder / name} holds {found}, not a tensor {layout}: check the file")
    clips, repetitions, voxels = fmri.shape
    published = SEGMENTS[split] * 240
    if clips % SEGMENTS[split] or not clips:
        raise UserError(
            f"{folder / names[0]} holds {clips} clips, which {SEGMENTS[split]} films cannot share "
            f"equally; {published} are published: fetch the file again"
        )
    if repetitions != REPETITIONS[split]:
        raise UserError(
            f"{folder / names[0]} holds {repetitions} repetitions where the {split} films have "
            f"{REPETITIONS[split]}: check that it is the {split} file"
        )
    other = next((s for s, count in VOXELS.items() if count == voxels and s != subject), None)
    if other is not None:
        raise UserError(
            f"{folder / names[0]} holds {voxels} voxels, those of subject {other} and not of "
            f"subject {subject}: choose --subject {other} or the right file"
        )
    if frames.shape[0] != clips:
        raise UserError(
            f"{folder / names[1]} holds {frames.shape[0]} clips and {names[0]} {clips}: they do "
            "not belong together, fetch both again"
        )
    if frames.shape[1] != frames_per_clip or 3 not in (frames.shape[2], frames.shape[4]):
        raise UserError(
            f"{folder / names[1]} holds {tuple(frames.shape)} where (clips, {frames_per_clip}, 3, "
            "height, width) is needed: check the file and data.frames_per_clip"
        )
    return ReleasedSplit(split, fmri, frames)


def check_together(train: ReleasedSplit, test: ReleasedSplit, folder: Path) -> None:
    """Check that both splits have the same voxels and films of the same length."""
    if train.fmri.shape[2] != test.fmri.shape[2]:
        raise UserError(
            f"the training scans in {folder} have {train.fmri.shape[2]} voxels and the test scans "
            f"{test.fmri.shape[2]}: they are not of one subject"
        )
    if train.per_segment != test.per_segment:
        raise UserError(
            f"{folder} holds {train.clips} training and {test.clips} test clips, films of "
            f"{train.per_segment} and {test.per_segment} clips, where 4320 and 1200 are published: "
            "fetch the tensors again"
        )
