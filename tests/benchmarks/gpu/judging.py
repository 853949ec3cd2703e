"""The networks that see frames: CLIP's tokens as targets, and the evaluators of an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuroclips_cli.backbones.classifiers import ImageClassifier, VideoClassifier
from neuroclips_cli.backbones.clip import ClipBackbone
from neuroclips_cli.backbones.meta_models import build
from neuroclips_cli.backbones.pixels import Preprocess
from neuroclips_cli.protocols import STANDARD, SYNTHETIC, EvaluatorReferences, load
from tests.benchmarks.gpu.modes import RELEASED_FULL, Mode, autocast
from tests.benchmarks.gpu.work import FRAMES, JUDGED_CLIPS, Place, Released, Work

HALVES = (0.5, 0.5, 0.5)
LARGE_CLIP = "ViT-L-14"
"""OpenCLIP's name of the CLIP that published evaluations evaluator with."""


def clip_tokens(place: Place) -> Work:
    """CLIP's image tower on a batch of frames: tokens, the targets of train-sr."""
    clip = build("clip", place.settings.backbones, place.device)
    return _tower(place, clip)


def large_clip(place: Place) -> Work:
    """CLIP ViT-L/14's image tower on a batch of frames, as evaluator; tiny: the embedded CLIP."""
    if place.size == "tiny":
        return _tower(place, build("clip", place.settings.backbones, place.device))
    import open_clip
    from open_clip.model import CLIP

    chosen = open_clip.get_model_config(LARGE_CLIP)
    sizes = {key: chosen[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}
    with torch.device(place.device):
        network: Any = CLIP(**sizes, output_dict=False)
    network.visual.output_tokens = True
    return _tower(place, network.to(place.device).eval().requires_grad_(False))


def _evaluators(place: Place) -> EvaluatorReferences:
    """Return the published evaluators; tiny: the embedded ones."""
    return load(SYNTHETIC if place.size == "tiny" else STANDARD).evaluators


def _tower(place: Place, clip: Any) -> Work:
    side = clip.visual.image_size
    height, width = (side, side) if isinstance(side, int) else side
    backbone = ClipBackbone(clip, None, _preprocess(height), place.device)
    return _network(
        place,
        clip.visual,
        (FRAMES[place.size], 3, height, width),
        lambda pixels: clip.visual(pixels)[0],
        package=lambda frames: backbone.tokens(frames),
    )


def image_judge(place: Place) -> Work:
    """ViT on a batch of frames."""
    model: Any = build("image_classifier", _evaluators(place), place.device)
    size = model.config.image_size
    evaluator = ImageClassifier(model, _preprocess(size), place.device)
    return _network(
        place,
        model,
        (FRAMES[place.size], 3, size, size),
        lambda pixels: model(pixel_values=pixels).logits,
        package=evaluator.probabilities,
    )


def video_judge(place: Place) -> Work:
    """VideoMAE on a batch of clips."""
    model: Any = build("video_classifier", _evaluators(place), place.device)
    size, count, items = (
        model.config.image_size,
        model.config.num_frames,
        JUDGED_CLIPS[place.size],
    )
    evaluator = VideoClassifier(model, _preprocess(size), place.device)
    frames = place.settings.data.frames_per_clip

    def package(shown: np.ndarray) -> object:
        return evaluator.probabilities(shown.reshape(items, frames, *shown.shape[1:]))

    work = _network(
        place,
        model,
        (items, count, 3, size, size),
        lambda pixels: model(pixel_values=pixels).logits,
        package=package,
        frames=items * frames,
    )
    return work


def _network(
    place: Place,
    network: nn.Module,
    shape: tuple[int, ...],
    run: Callable[[Tensor], Tensor],
    *,
    package: Callable[[np.ndarray], object],
    frames: int = 0,
) -> Work:
    """Return a case that runs one network on pixels, and beside it the package's own function."""
    items = shape[0]
    pixels = place.normal(*shape)
    shown = place.scratch(frames or items)

    @torch.inference_mode()
    def call(mode: Mode, rows: int) -> Tensor:
        with autocast(mode, place.device):
            return run(pixels[:rows])

    def whole() -> int:
        package(shown)
        return items

    work = Work(lambda mode: call(mode, items), items, [pixels], [network])
    work.package = whole
    # The published evaluations evaluator one frame or clip at a time in float32.
    work.released = Released(lambda mode: call(mode, 1), 1, RELEASED_FULL)
    return work


def _preprocess(side: int) -> Preprocess:
    return Preprocess((side, side), HALVES, HALVES)
