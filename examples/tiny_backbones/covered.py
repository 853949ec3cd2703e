"""Scenes drawn before two settings each, and what every patch of their pictures shows.

Where both pictures of a scene agree, the object covers them. So each token of an evaluator can be
told what its patch shows, and how far the object's center is: from the class of the picture alone
it takes far longer to find out that shapes matter.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuroclips_cli.simulation import synthetic_world

from .films import FPS, FRAMES, PER_TASK, SIZE, to_unit

PATCH = 8
ACROSS = SIZE // PATCH
SCENES = {"image": 40_000, "video": 12_000}
TIMES = {"image": 1, "video": 6}
_SEEDS = {"image": 11, "video": 12}
_COUNTS = tuple(map(len, (synthetic_world.KINDS, synthetic_world.COLORS, synthetic_world.SETTINGS)))


@dataclass(frozen=True)
class Shown:
    """Some pictures and what they show.

    Attributes
    ----------
    frames : Tensor of shape (batch, frames, 3, 64, 64)
        From -1 to 1.
    labels : Tensor of int64, shape (batch, 3)
        Kind, color, setting.
    cover : Tensor of shape (batch, frames, 64, 64)
        1 where the object is, else 0.
    centers : Tensor of shape (batch, frames, 2)
        The object's center (x, y), from -1 to 1.
    """

    frames: Tensor
    labels: Tensor
    cover: Tensor
    centers: Tensor


@dataclass(frozen=True)
class CoveredFilms:
    """Frames of scenes, each before two settings; arrays as in :class:`Shown`, per scene.

    Attributes
    ----------
    frames : Tensor of uint8, shape (scenes, 2, frames, 64, 64, 3)
        Everything but the setting is the same in both.
    labels : Tensor of int64, shape (scenes, 2, 3)
        Kind, color, setting.
    centers : Tensor of float32, shape (scenes, frames, 2)
        The object's center.
    """

    frames: Tensor
    labels: Tensor
    centers: Tensor

    def draw(self, batch: int) -> Shown:
        """Draw scenes; both pictures of each are in the batch."""
        index = torch.randint(len(self.frames), (batch // 2,), device=self.labels.device)
        frames = self.frames[index]
        cover = (frames[:, 0] == frames[:, 1]).all(-1).float()
        return Shown(
            to_unit(frames.flatten(0, 1)),
            self.labels[index].flatten(0, 1),
            cover.repeat_interleave(2, 0),
            self.centers[index].repeat_interleave(2, 0),
        )


class PatchHead(nn.Linear):
    """Says of each token what its patch shows; only for training.

    Parameters
    ----------
    width : int
        Of the tokens.
    tubelet : int
        Frames that a token stands for.
    """

    def __init__(self, width: int, tubelet: int) -> None:
        self.parts = (*(count + 1 for count in _COUNTS), 2, PATCH**2)
        super().__init__(width, sum(self.parts))
        self.tubelet = tubelet

    def loss(self, tokens: Tensor, shown: Shown) -> Tensor:
        """Return how badly tokens (batch, tokens, width) tell cover, classes and the center.

        A patch that the object covers by half shows its kind and color by one half, nothing of
        these by the other, and its setting likewise by what is not covered.
        """
        cover, away = self._targets(shown)
        share = cover.mean(-1, keepdim=True)
        *named, offset, pixels = self(tokens).float().split(self.parts, dim=-1)
        losses = []
        for logits, label, count, visible in zip(
            named, shown.labels.unbind(1), _COUNTS, (share, share, 1 - share), strict=True
        ):
            one_hot = functional.one_hot(label, count)[:, None] * visible
            target = torch.cat([one_hot, 1 - visible], dim=-1)
            losses.append(-(target * logits.log_softmax(-1)).sum(-1).mean())
        kind, color, setting = losses
        placed = functional.smooth_l1_loss(offset, 2 * away)
        drawn = functional.binary_cross_entropy_with_logits(pixels, cover)
        return 2 * kind + color + setting + 2 * placed + drawn

    def _targets(self, shown: Shown) -> tuple[Tensor, Tensor]:
        """Return each patch's cover (batch, tokens, 64) and way from the object's center."""
        cover = shown.cover.unflatten(1, (-1, self.tubelet)).mean(2)
        cover = cover.unflatten(3, (ACROSS, PATCH)).unflatten(2, (ACROSS, PATCH)).transpose(3, 4)
        axis = (torch.arange(ACROSS, device=cover.device) + 0.5) * 2 / ACROSS - 1
        places = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).flatten(0, 1)
        centers = shown.centers.unflatten(1, (-1, self.tubelet)).mean(2)
        away = places - centers[:, :, None]
        return cover.flatten(4).flatten(1, 3), away.flatten(1, 2)


def _render(task: tuple[int, Path, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Write the frames of some scenes and return their labels and centers."""
    seed, file, begin, end = task
    rng = np.random.default_rng(seed)
    frames = np.load(file, mmap_mode="r+")
    count = frames.shape[2]
    labels = np.empty((end - begin, 2, 3), np.int64)
    centers = np.empty((end - begin, count, 2), np.float32)
    for i in range(begin, end):
        scene = synthetic_world.draw_scene(rng, float(rng.uniform(6, 10)))
        onset = rng.uniform(0, scene.duration_s - FRAMES / FPS)
        if count == 1:
            times = onset + rng.uniform(0, FRAMES / FPS, 1)
        else:
            # Three per second, each perhaps one frame of the film late.
            times = onset + np.arange(count) / 3 + rng.integers(0, 2, count) / FPS
        step = int(rng.integers(1, len(synthetic_world.SETTINGS)))
        other = (scene.setting + step) % len(synthetic_world.SETTINGS)
        for side, shown in enumerate((scene, replace(scene, setting=other))):
            frames[i, side] = synthetic_world.render_scene(shown, times, SIZE)
            labels[i - begin, side] = shown.kind, shown.color, shown.setting
        centers[i - begin] = synthetic_world.object_path(scene, times)
    return labels, centers


def load_covered(
    folder: Path, name: str, device: torch.device, scenes: int | None = None
) -> CoveredFilms:
    """Render the films of an evaluator on all cores, or read them where they were rendered before.

    Parameters
    ----------
    folder : Path
        Cache.
    name : str
        ``image``: single frames; ``video``: six frames of two seconds.
    device : torch.device
        Where batches are wanted; a GPU holds all frames.
    scenes : int, optional
        How many; by default as many as the shipped evaluator learned from.
    """
    count = SCENES[name] if scenes is None else scenes
    folder.mkdir(parents=True, exist_ok=True)
    kinds = ("frames", "labels", "centers")
    files = [folder / f"covered-{name}-{count}-{kind}.npy" for kind in kinds]
    if not files[-1].exists():
        part = files[0].with_suffix(".part")
        shape = (count, 2, TIMES[name], SIZE, SIZE, 3)
        np.lib.format.open_memmap(part, "w+", np.uint8, shape).flush()
        # As in load_pool, scenes of this seed occur nowhere else.
        tasks = [
            (_SEEDS[name] * 1_000_003 + i, part, begin, min(begin + PER_TASK, count))
            for i, begin in enumerate(range(0, count, PER_TASK))
        ]
        with ProcessPoolExecutor() as workers:
            told = list(workers.map(_render, tasks))
        part.replace(files[0])
        for file, arrays in zip(files[1:], zip(*told, strict=True), strict=True):
            np.save(file, np.concatenate(arrays))
    # Copy on write: torch warns of arrays that cannot be written.
    frames = np.load(files[0], mmap_mode="c")
    tensors = [torch.from_numpy(a) for a in (frames, *map(np.load, files[1:]))]
    return CoveredFilms(*(tensor.to(device) for tensor in tensors))
