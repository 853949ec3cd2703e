"""The tensors that NeuroClips' authors published: scans of the selected voxels, and frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuroclips_cli.disk import read_json
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
        (clips, Nf, 3, height, width) or channels last; uint8, or floating in 0..1 or 0..255.
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

    def scans(self, rows: slice) -> np.ndarray:
        """Return float32 (rows, repetitions, voxels) of some clips."""
        scans: np.ndarray = self.fmri[rows].float().numpy()
        return scans

    def pictures(self) -> Iterator[np.ndarray]:
        """Yield uint8 (Nf, h, w, 3) clip by clip, so that no more is ever in memory."""
        floating = self.frames.is_floating_point()
        first = self.frames[: min(8, self.clips)]
        scale = 255.0 if floating and float(first.max()) <= 1.5 else 1.0
        for row in range(self.clips):
            clip = self.frames[row]
            if self.frames.shape[2] == 3:
                clip = clip.permute(0, 2, 3, 1)
            if floating:
                clip = (clip.float() * scale).round().clamp(0, 255).byte()
            yield clip.contiguous().numpy()


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


def caption_file(folder: Path, split: str) -> Path | None:
    """Return the captions of a split: a ``.json`` or ``.h5`` whose name says so, if any."""
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in (".json", ".h5", ".hdf5")
        and "caption" in path.stem.lower()
        and split in path.stem.lower()
    )
    return found[0] if found else None


def read_caption_list(path: Path, clips: int) -> list[str]:
    """Read one caption per clip.

    Parameters
    ----------
    path : Path
        JSON list of text, or HDF5 with one data set of text (``cc2017_train_captions.h5``).
    clips : int
        How many there must be.

    Raises
    ------
    UserError
        If there are more or fewer, or h5py is missing.
    """
    content = read_json(path) if path.suffix == ".json" else _read_h5(path)
    if not isinstance(content, list) or not all(isinstance(text, str) for text in content):
        raise UserError(f"{path} is no list of captions: write one text per clip")
    if len(content) != clips:
        raise UserError(f"{path} holds {len(content)} captions for {clips} clips: correct it")
    return [" ".join(text.split()) for text in content]


def _read_h5(path: Path) -> Sequence[str] | None:
    try:
        import h5py  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as problem:
        raise UserError(
            f"reading {path} needs h5py: run `pip install 'neuroclips[release]'`, or write the "
            "captions as a JSON list"
        ) from problem
    with h5py.File(path) as file:
        sets = [value for value in file.values() if isinstance(value, h5py.Dataset)]
        if len(sets) != 1 or sets[0].ndim != 1:
            return None
        return [str(text, "utf-8") if isinstance(text, bytes) else text for text in sets[0][:]]
