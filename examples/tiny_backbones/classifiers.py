"""The evaluators: a ViT for frames (kind x color) and a VideoMAE for clips (kind x setting).

They are trained from nothing, so that they share no start with the CLIP whose tokens are decoded,
and see patches of 8 pixels: finer than CLIP's.
"""

from __future__ import annotations

from collections.abc import Callable
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

from neuroclips_cli.simulation import synthetic_world

from .clock import Clock
from .files import save_half
from .films import FPS, FRAMES, Pool, frame_sampler, to_unit
from .loop import fit

HALF = [0.5, 0.5, 0.5]
SHAPE = {
    "image_size": 64,
    "patch_size": 8,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
}
_BEND = transforms.ElasticTransform(alpha=30.0, sigma=5.0)
_TINT = transforms.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.01)
FRAMES_3FPS = np.round(np.arange(6) / 3 * FPS).astype(int)


def _spoil(images: Tensor) -> Tensor:
    """Blur, bend, tint and disturb half of the pictures, as image classifiers are trained.

    The evaluators must see what a reconstruction shows, not how finely it is drawn.
    """
    flat = images.flatten(0, -4)
    chosen = torch.rand(len(flat), device=flat.device) < 0.5
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
    save_half(model, folder)
    processor.save_pretrained(folder)


def train_image(
    pool: Pool,
    folder: Path,
    clock: Clock,
    state: Path | None,
    batch: int,
    *,
    seed: int = 3,
    go_on: bool = False,
) -> None:
    """Train the frame classifier and write it."""
    torch.manual_seed(seed)
    config = ViTConfig(
        **SHAPE,
        num_labels=60,
        **_names(synthetic_world.image_class_names()),
    )
    model = ViTForImageClassification(config)
    if go_on:
        model = ViTForImageClassification.from_pretrained(folder, dtype=torch.float32)
    model.to(pool.device)
    labels = torch.from_numpy(pool.labels).to(pool.device)
    sample = frame_sampler(pool, batch)

    def loss_of() -> Tensor:
        images, index = sample()
        logits = model(pixel_values=_spoil(images)).logits.float()
        return _loss(logits, labels[index, 0], labels[index, 1], len(synthetic_world.COLORS))

    size = {"height": 64, "width": 64}
    processor = ViTImageProcessor(size=size, image_mean=HALF, image_std=HALF)
    _fit("image classifier", model, loss_of, clock, state, lambda: _save(model, processor, folder))


def train_video(
    pool: Pool,
    folder: Path,
    clock: Clock,
    state: Path | None,
    batch: int,
    *,
    seed: int = 4,
    go_on: bool = False,
) -> None:
    """Train the clip classifier, on 6 frames at 3 per second jittered by one, and write it."""
    torch.manual_seed(seed)
    config = VideoMAEConfig(
        **SHAPE,
        num_frames=6,
        tubelet_size=2,
        num_labels=60,
        **_names(synthetic_world.video_class_names()),
    )
    model = VideoMAEForVideoClassification(config)
    if go_on:
        model = VideoMAEForVideoClassification.from_pretrained(folder, dtype=torch.float32)
    model.to(pool.device)
    labels = torch.from_numpy(pool.labels).to(pool.device)
    frames, at = pool.resident(), torch.from_numpy(FRAMES_3FPS).to(pool.device)

    def loss_of() -> Tensor:
        index = torch.randint(len(frames), (batch,), device=pool.device)
        jitter = torch.randint(2, (batch, 6), device=pool.device)
        clips = to_unit(frames[index[:, None], (at + jitter).clamp(0, FRAMES - 1)])
        logits = model(pixel_values=_spoil(clips)).logits.float()
        return _loss(logits, labels[index, 0], labels[index, 3], len(synthetic_world.SETTINGS))

    processor = VideoMAEImageProcessor(
        size={"shortest_edge": 64},
        crop_size={"height": 64, "width": 64},
        image_mean=HALF,
        image_std=HALF,
    )
    _fit("video classifier", model, loss_of, clock, state, lambda: _save(model, processor, folder))


def _fit(
    name: str,
    model: nn.Module,
    loss_of: Callable[[], Tensor],
    clock: Clock,
    state: Path | None,
    write: Callable[[], object],
) -> None:
    fit(name, model, loss_of, clock, learning_rate=1e-3, state=state, write=write, graph=False)
    write()
