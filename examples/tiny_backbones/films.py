"""Film clips of the synthetic dataset to train and test the backbones with."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuroclips_cli.simulation import synthetic_world

FRAMES, FPS, SIZE = 16, 8, 64
PER_TASK = 100


@dataclass(frozen=True)
class Pool:
    """Clips of one scene each.

    Attributes
    ----------
    frames : array of uint8, shape (clips, 16, 64, 64, 3)
        Two seconds at 8 frames per second.
    labels : array of int64, shape (clips, 4)
        Kind, color, motion, setting.
    device : torch.device
        Where batches are wanted; a GPU holds all frames at first use.
    """

    frames: np.ndarray
    labels: np.ndarray
    device: torch.device = torch.device("cpu")

    def scenes(self, index: np.ndarray) -> list[synthetic_world.Scene]:
        """Return scenes that carry the labels of the chosen clips."""
        return [synthetic_world.Scene(*(int(v) for v in self.labels[i]), 8.0, 0) for i in index]

    def resident(self) -> Tensor:
        """Return all frames as a tensor on the device; on a CPU they stay in their file."""
        if not hasattr(self, "_resident"):
            frames = torch.from_numpy(self.frames).to(self.device)
            object.__setattr__(self, "_resident", frames)
        return self._resident  # type: ignore[attr-defined]


def _render(task: tuple[int, Path, Path, int, int]) -> None:
    seed, frames_file, labels_file, begin, end = task
    rng = np.random.default_rng(seed)
    frames, labels = (np.load(f, mmap_mode="r+") for f in (frames_file, labels_file))
    for i in range(begin, end):
        scene = synthetic_world.draw_scene(rng, float(rng.uniform(6, 10)))
        onset = rng.uniform(0, scene.duration_s - FRAMES / FPS)
        frames[i] = synthetic_world.render_scene(scene, onset + np.arange(FRAMES) / FPS, SIZE)
        labels[i] = scene.kind, scene.color, scene.motion, scene.setting


def load_pool(
    folder: Path, name: str, clips: int, seed: int, device: torch.device | None = None
) -> Pool:
    """Render a pool of clips on all cores, or read it where it was rendered before.

    The seed sequence is the pool's own: no scene of the training pool, the held-out pool or
    of a simulated data set is ever the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}-{clips}-{kind}.npy" for kind in ("frames", "labels")]
    if not files[1].exists():
        parts = [f.with_suffix(".part") for f in files]
        shape = (clips, FRAMES, SIZE, SIZE, 3)
        np.lib.format.open_memmap(parts[0], "w+", np.uint8, shape).flush()
        np.lib.format.open_memmap(parts[1], "w+", np.int64, (clips, 4)).flush()
        tasks = [
            (seed * 1_000_003 + i, *parts, begin, min(begin + PER_TASK, clips))
            for i, begin in enumerate(range(0, clips, PER_TASK))
        ]
        with ProcessPoolExecutor() as workers:
            list(workers.map(_render, tasks))
        for part, file in zip(parts, files, strict=True):
            part.replace(file)
    # Copy on write: torch warns of arrays that cannot be written.
    return Pool(np.load(files[0], mmap_mode="c"), np.load(files[1]), device or torch.device("cpu"))


def to_unit(frames: Tensor) -> Tensor:
    """Turn uint8 frames (..., h, w, 3) into float (..., 3, h, w) from -1 to 1."""
    return frames.movedim(-1, -3).float() / 127.5 - 1


def frame_sampler(pool: Pool, batch: int) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return what draws single frames (batch, 3, 64, 64) with the index of their clips."""
    frames = pool.resident()

    def draw() -> tuple[Tensor, Tensor]:
        index = torch.randint(len(frames), (batch,), device=pool.device)
        frame = torch.randint(FRAMES, (batch,), device=pool.device)
        return to_unit(frames[index, frame]), index

    return draw
