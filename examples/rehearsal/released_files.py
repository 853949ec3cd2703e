"""The 13 files of ``gongzx/cc2017_dataset``: scans, frames, captions, embeddings, projector."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pictures
import random_backbones as tiny
import torch
from miniature import FRAMES_PER_CLIP, SUBJECTS

FILMS = {"train": 18, "test": 5}
REPETITIONS = {"train": 2, "test": 10}
CLIPS = 2
"""Clips of a film; 240 in the real files."""
SIZE = 56
"""Pixels of the frames; 224 in the real files."""
PROJECTOR = "coco_tokens_avg_proj.pth"


def voxels(subject: int) -> int:
    """Return how many voxels a subject has: not those of the real subjects."""
    return 40 + subject


def save_release(folder: Path) -> None:
    """Write the files."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, films in FILMS.items():
        clips = [(_number(split, film), clip) for film in range(films) for clip in range(CLIPS)]
        drawn = [pictures.frames(*clip, FRAMES_PER_CLIP, SIZE) for clip in clips]
        frames = torch.from_numpy(np.stack(drawn)).permute(0, 1, 4, 2, 3).contiguous()
        torch.save(frames.float() / 255, folder / f"GT_{split}_3fps.pt")
        captions = np.hstack([np.array([pictures.caption(*clip)]) for clip in clips])
        _save_captions(captions, folder / f"GT_{split}_caption.pt")
        embeddings = torch.randn(len(clips), tiny.EMBED_DIM)
        torch.save(embeddings, folder / f"GT_{split}_caption_emb.pt")
        shown = np.stack([pictures.features(*clip) for clip in clips])
        for subject in SUBJECTS:
            scans = _scans(subject, shown, REPETITIONS[split])
            torch.save(scans, folder / f"subj{subject:02d}_{split}_fmri.pt")
    matrix = torch.randn(tiny.TOKEN_DIM, tiny.EMBED_DIM)
    torch.save({"proj": matrix}, folder / PROJECTOR)


def _save_captions(captions: np.ndarray, path: Path) -> None:
    """Write pickled numpy text as numpy 1 did, whose modules had other names."""
    buffer = io.BytesIO()
    torch.save(captions, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            target.writestr(entry.filename, content)


def _number(split: str, film: int) -> int:
    return film + (split == "test") * FILMS["train"]


def _scans(subject: int, shown: np.ndarray, repetitions: int) -> torch.Tensor:
    """Make scans float32 (clips, repetitions, voxels) that a subject's own weights give."""
    weights = np.random.default_rng(subject).normal(size=(shown.shape[1], voxels(subject)))
    noise = np.random.default_rng([subject, len(shown)])
    signal = (shown - shown.mean(0)) @ weights
    clean = signal[:, None] / signal.std()
    scans = clean + 0.5 * noise.normal(size=(len(shown), repetitions, voxels(subject)))
    return torch.from_numpy(scans.astype(np.float32))
