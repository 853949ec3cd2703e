"""The evaluators: a ViT for frames (kind x color) and a VideoMAE for clips (kind x setting).

They are trained from nothing, so that they share no start with the CLIP whose tokens are decoded:
the ViT from random weights, the VideoMAE from the ViT's. Both see patches of 8 pixels, finer than
CLIP's, and learn what every patch shows beside the class.
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
from transformers.models.videomae.modeling_videomae import get_sinusoid_encoding_table

from neuroclips_cli.simulation import synthetic_world

from .clock import Clock
from .covered import ACROSS, PATCH, CoveredFilms, PatchHead
from .files import save_half
from .films import FPS, SIZE
from .loop import fit

HALF = [0.5, 0.5, 0.5]
SHAPE = {
    "image_size": SIZE,
    "patch_size": PATCH,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    # The published 0.02 is meant for widths of 768 and more.
    "initializer_range": 0.06,
}
PAIRS, PATCHES = 3, ACROSS**2
"""Pairs of frames of a clip, and patches of a frame."""
BLOCK_NAMES = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
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
    films: CoveredFilms,
    folder: Path,
    clock: Clock,
    state: Path | None,
    batch: int,
    *,
    seed: int = 3,
    go_on: bool = False,
) -> None:
    """Train the frame classifier and write it.

    Its positions are VideoMAE's fixed ones, in each step those of one of the clip's three pairs of
    frames, so that the clip classifier can go on from its weights.
    """
    torch.manual_seed(seed)
    names = _names(synthetic_world.image_class_names())
    model = ViTForImageClassification(ViTConfig(**SHAPE, num_labels=60, **names))
    if go_on:
        model = ViTForImageClassification.from_pretrained(folder, dtype=torch.float32)
    device = films.labels.device
    both = _with_head(model, device, tubelet=1)
    positions = model.vit.embeddings.position_embeddings.requires_grad_(False)
    table = get_sinusoid_encoding_table(PAIRS * PATCHES, SHAPE["hidden_size"])[0].to(device)

    def place(pair: int) -> None:
        positions.zero_()[0, 1:] = table[pair * PATCHES :][:PATCHES]

    def loss_of() -> Tensor:
        shown = films.draw(batch)
        place(int(torch.randint(PAIRS, ())))
        with torch.autocast(device.type, torch.bfloat16):
            tokens = model.vit(pixel_values=_spoil(shown.frames[:, 0])).last_hidden_state
            logits, patches = model.classifier(tokens[:, 0]), both[1].loss(tokens[:, 1:], shown)
        kind, color, _ = shown.labels.unbind(1)
        return patches + _loss(logits.float(), kind, color, len(synthetic_world.COLORS))

    def write() -> None:
        place(0)
        _save(model, processor, folder)

    size = {"height": 64, "width": 64}
    processor = ViTImageProcessor(size=size, image_mean=HALF, image_std=HALF)
    _fit("image classifier", both, loss_of, clock, state, write)


def train_video(
    films: CoveredFilms,
    folder: Path,
    image_folder: Path,
    clock: Clock,
    state: Path | None,
    batch: int,
    *,
    seed: int = 4,
    go_on: bool = False,
) -> None:
    """Train the clip classifier from the frame classifier's weights, and write it."""
    torch.manual_seed(seed)
    config = VideoMAEConfig(
        **SHAPE,
        num_frames=2 * PAIRS,
        tubelet_size=2,
        num_labels=60,
        **_names(synthetic_world.video_class_names()),
    )
    model = VideoMAEForVideoClassification(config)
    if go_on:
        model = VideoMAEForVideoClassification.from_pretrained(folder, dtype=torch.float32)
    else:
        start_from_frames(model, image_folder)
    device = films.labels.device
    both = _with_head(model, device, tubelet=2)

    def loss_of() -> Tensor:
        shown = films.draw(batch)
        with torch.autocast(device.type, torch.bfloat16):
            tokens = model.videomae(_spoil(shown.frames)).last_hidden_state
            logits = model.classifier(model.fc_norm(tokens.mean(1)))
            patches = both[1].loss(model.fc_norm(tokens), shown)
        kind, _, setting = shown.labels.unbind(1)
        return patches + _loss(logits.float(), kind, setting, len(synthetic_world.SETTINGS))

    processor = VideoMAEImageProcessor(
        size={"shortest_edge": 64},
        crop_size={"height": 64, "width": 64},
        image_mean=HALF,
        image_std=HALF,
    )
    _fit("video classifier", both, loss_of, clock, state, lambda: _save(model, processor, folder))


@torch.no_grad()
def start_from_frames(model: VideoMAEForVideoClassification, folder: Path) -> None:
    """Take over a frame classifier's weights, each frame of a pair seen by half.

    A bias of all keys changes no attention, so that VideoMAE has none.
    """
    frames = ViTForImageClassification.from_pretrained(folder, dtype=torch.float32).vit
    patches = model.videomae.embeddings.patch_embeddings.projection
    seen = frames.embeddings.patch_embeddings.projection
    patches.weight.copy_(seen.weight[:, :, None].expand_as(patches.weight) / 2)
    patches.bias.copy_(seen.bias)
    model.fc_norm.load_state_dict(frames.layernorm.state_dict())
    for own, block in zip(model.videomae.encoder.layer, frames.layers, strict=True):
        given = block.state_dict()
        del given["attention.k_proj.bias"]
        own.load_state_dict({_video_name(name): value for name, value in given.items()})


def _video_name(name: str) -> str:
    for vit, videomae in BLOCK_NAMES.items():
        name = name.replace(vit, videomae)
    return name


def _with_head(model: nn.Module, device: torch.device, tubelet: int) -> nn.ModuleList:
    """Return the network and the head for its tokens, to be trained together."""
    # In bfloat16 on a CPU, plain attention takes a quarter of the time of torch's own.
    model.set_attn_implementation("eager" if device.type == "cpu" else "sdpa")
    return nn.ModuleList([model, PatchHead(SHAPE["hidden_size"], tubelet)]).to(device)


def _fit(
    name: str,
    both: nn.ModuleList,
    loss_of: Callable[[], Tensor],
    clock: Clock,
    state: Path | None,
    write: Callable[[], object],
) -> None:
    blocks = [p for n, p in both.named_parameters() if p.ndim == 2 and ".layer" in n]
    fit(
        name,
        both,
        loss_of,
        clock,
        learning_rate=1.5e-3,
        state=state,
        write=write,
        graph=False,
        matrices=blocks,
    )
    write()
