"""Film clips of the practice world to train and test the backbones with."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuroclips_cli.simulation import world

FRAMES, FPS, SIZE = 16, 8, 64


@dataclass(frozen=True)
class Pool:
    """Clips of one scene each.

    Attributes
    ----------
    frames : array of uint8, shape (clips, 16, 64, 64, 3)
        Two seconds at 8 frames per second.
    labels : array of int64, shape (clips, 4)
        Kind, colour, motion, setting.
    """

    frames: np.ndarray
    labels: np.ndarray

    def scenes(self, index: np.ndarray) -> list[world.Scene]:
        """Return scenes that carry the labels of the chosen clips."""
        return [world.Scene(*(int(v) for v in self.labels[i]), 8.0, 0) for i in index]


def _render(task: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    seed, clips = task
    rng = np.random.default_rng(seed)
    frames = np.empty((clips, FRAMES, SIZE, SIZE, 3), dtype=np.uint8)
    labels = np.empty((clips, 4), dtype=np.int64)
    for i in range(clips):
        scene = world.draw_scene(rng, float(rng.uniform(6, 10)))
        onset = rng.uniform(0, scene.duration_s - FRAMES / FPS)
        frames[i] = world.render_scene(scene, onset + np.arange(FRAMES) / FPS, SIZE)
        labels[i] = scene.kind, scene.colour, scene.motion, scene.setting
    return frames, labels


def load_pool(folder: Path, name: str, clips: int, seed: int) -> Pool:
    """Render a pool of clips, or read it where it was rendered before.

    The seed sequence is the pool's own: no scene of the training pool, the held-out pool or
    of a simulated data set is ever the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frames_file, labels_file = folder / f"{name}-frames.npy", folder / f"{name}-labels.npy"
    if not labels_file.exists():
        per_task = 100
        tasks = [(seed * 1_000_003 + i, per_task) for i in range(-(-clips // per_task))]
        with ProcessPoolExecutor() as workers:
            parts = list(workers.map(_render, tasks))
        np.save(frames_file, np.concatenate([p[0] for p in parts])[:clips])
        np.save(labels_file, np.concatenate([p[1] for p in parts])[:clips])
    return Pool(np.load(frames_file, mmap_mode="r"), np.load(labels_file))


def to_tensor(frames: np.ndarray) -> Tensor:
    """Turn uint8 frames (..., h, w, 3) into float (..., 3, h, w) from -1 to 1."""
    return torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, -3).float() / 127.5 - 1


def frame_batches(
    pool: Pool, batch: int, steps: int, seed: int
) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Yield random single frames (batch, 3, 64, 64) with the index of their clips."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        index = rng.integers(len(pool.frames), size=batch)
        frame = rng.integers(FRAMES, size=batch)
        yield to_tensor(pool.frames[index, frame]), index
