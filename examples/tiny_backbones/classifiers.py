"""The judges: a ViT for frames (kind x colour) and a VideoMAE for clips (kind x setting)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2 as transforms
from transformers import (
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEImageProcessor,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from neuroclips_cli.simulation import world

from .clip import VISION
from .films import FPS, FRAMES, Pool, frame_batches, to_tensor
from .loop import fit
from .tower import VIDEOMAE, VIT, start_from_clip, zero_patch_bias

HALF = [0.5, 0.5, 0.5]
SHAPE = {
    "image_size": VISION["image_size"],
    "patch_size": VISION["patch_size"],
    "hidden_size": VISION["width"],
    "intermediate_size": 4 * VISION["width"],
    "num_hidden_layers": VISION["layers"],
    "num_attention_heads": VISION["width"] // VISION["head_width"],
}
_BEND = transforms.ElasticTransform(alpha=30.0, sigma=5.0)
_TINT = transforms.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.01)
FRAMES_3FPS = np.round(np.arange(6) / 3 * FPS).astype(int)


def _spoil(images: Tensor) -> Tensor:
    """Blur, bend, tint and disturb half of the pictures, as image classifiers are trained.

    The judges must see what a reconstruction shows, not how finely it is drawn.
    """
    flat = images.flatten(0, -4)
    chosen = torch.rand(len(flat)) < 0.5
    some = (flat[chosen] + 1) / 2
    some = _BEND(_TINT(some))
    if torch.rand(()) < 0.5:
        small = functional.interpolate(some, scale_factor=0.5, mode="area")
        some = functional.interpolate(small, size=some.shape[-2:], mode="bilinear")
    else:
        some = functional.avg_pool2d(some, 3, stride=1, padding=1, count_include_pad=False)
    spoiled = flat.clone()
    spoiled[chosen] = 2 * some - 1 + 0.1 * torch.rand(()) * torch.randn_like(some)
    return spoiled.reshape(images.shape)


def _loss(logits: Tensor, first: Tensor, second: Tensor, count: int) -> Tensor:
    """Cross entropy of the pair, and of each of the two attributes by summed probability."""
    pair = functional.cross_entropy(logits, first * count + second)
    table = logits.unflatten(-1, (-1, count))
    one = functional.cross_entropy(table.logsumexp(-1), first)
    two = functional.cross_entropy(table.logsumexp(-2), second)
    return pair + 0.5 * (one + two)


def _names(names: list[str]) -> dict[str, dict]:
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
    }


def _save(model: nn.Module, processor: object, folder: Path) -> None:
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)
    model.float()


def train_image(
    pool: Pool,
    folder: Path,
    clip_folder: Path,
    steps: int,
    seed: int = 3,
    go_on: bool = False,
) -> None:
    """Train the frame classifier and write it."""
    torch.manual_seed(seed)
    config = ViTConfig(
        **SHAPE,
        num_labels=60,
        **_names(world.image_class_names()),
    )
    model = ViTForImageClassification(config)
    if go_on:
        model = ViTForImageClassification.from_pretrained(folder, dtype=torch.float32)
    else:
        start_from_clip(model, VIT, clip_folder)
        zero_patch_bias(model)
    labels = torch.from_numpy(pool.labels)

    def loss_of(batch: tuple[Tensor, np.ndarray]) -> Tensor:
        images, index = batch
        logits = model(pixel_values=_spoil(images)).logits
        return _loss(logits, labels[index, 0], labels[index, 1], len(world.COLOURS))

    batches = frame_batches(pool, 64, steps, seed)
    fit("image classifier", model, batches, loss_of, steps=steps, learning_rate=1e-3)
    size = {"height": 64, "width": 64}
    _save(model, ViTImageProcessor(size=size, image_mean=HALF, image_std=HALF), folder)


def clip_batches(
    pool: Pool, batch: int, steps: int, seed: int
) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Yield clips of 6 frames at 3 fps, jittered by a frame, with the index of their clips."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        index = rng.integers(len(pool.frames), size=batch)
        times = np.clip(FRAMES_3FPS + rng.integers(0, 2, size=(batch, 6)), 0, FRAMES - 1)
        yield to_tensor(pool.frames[index[:, None], times]), index


def train_video(
    pool: Pool,
    folder: Path,
    clip_folder: Path,
    steps: int,
    seed: int = 4,
    go_on: bool = False,
) -> None:
    """Train the clip classifier and write it."""
    torch.manual_seed(seed)
    config = VideoMAEConfig(
        **SHAPE,
        num_frames=6,
        tubelet_size=2,
        num_labels=60,
        **_names(world.video_class_names()),
    )
    model = VideoMAEForVideoClassification(config)
    if go_on:
        model = VideoMAEForVideoClassification.from_pretrained(folder, dtype=torch.float32)
    else:
        start_from_clip(model, VIDEOMAE, clip_folder)
        zero_patch_bias(model)
    labels = torch.from_numpy(pool.labels)

    def loss_of(batch: tuple[Tensor, np.ndarray]) -> Tensor:
        clips, index = batch
        logits = model(pixel_values=_spoil(clips)).logits
        return _loss(logits, labels[index, 0], labels[index, 3], len(world.SETTINGS))

    batches = clip_batches(pool, 48, steps, seed)
    fit("video classifier", model, batches, loss_of, steps=steps, learning_rate=1e-3)
    processor = VideoMAEImageProcessor(
        size={"shortest_edge": 64},
        crop_size={"height": 64, "width": 64},
        image_mean=HALF,
        image_std=HALF,
    )
    _save(model, processor, folder)
