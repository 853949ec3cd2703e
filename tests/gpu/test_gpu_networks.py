"""Every embedded network by itself: the CPU's output in float32 against the device's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from device_runs import apart

from neuroclips_cli.protocols import SYNTHETIC, load
from neuroclips_cli.settings.load import load_settings

pytestmark = pytest.mark.gpu

EVALUATORS = load(SYNTHETIC).evaluators
FLOAT32 = 1e-4
"""Sums of thousands of float32 products in another order, layer upon layer."""
BFLOAT16 = 0.06
"""8 bits, 0.4 % a layer, tens of layers."""


def _numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _frames(count: int) -> np.ndarray:
    from neuroclips_cli.simulation import synthetic_world

    rng = np.random.default_rng(0)
    scenes = [synthetic_world.draw_scene(rng, 2.0) for _ in range(count)]
    return np.stack(
        [synthetic_world.render_scene(scene, np.array([1.0]), 64)[0] for scene in scenes]
    )


def _vae_encoder(names: Any, device: str) -> Any:
    from neuroclips_cli.backbones.vae import encode_frames, load_vae

    return encode_frames(load_vae(names.vae, device), _frames(6))


def _vae_decoder(names: Any, device: str) -> Any:
    from neuroclips_cli.backbones.vae import decode_pixels, load_vae

    return decode_pixels(load_vae(names.vae, device), _numbers(6, 4, 8, 8))


def _clip_tokens(names: Any, device: str) -> Any:
    from neuroclips_cli.backbones.clip import load_clip

    return load_clip(names.clip, device).tokens(_frames(6))


def _clip_images(names: Any, device: str) -> Any:
    from neuroclips_cli.backbones.clip import load_clip

    return load_clip(names.clip, device).image_embeddings(_frames(6))


def _clip_text(names: Any, device: str) -> Any:
    from neuroclips_cli.backbones.clip import load_clip

    return load_clip(names.clip, device).text_embeddings(["a red fish", "a boat at night"])


def _captioner(names: Any, device: str) -> Any:
    from neuroclips_cli.backbones.captioner_blip2 import load_captioner

    network = load_captioner(names.captioner, device)
    pixels = network.processor.image_processor(list(_frames(4)), return_tensors="pt")[
        "pixel_values"
    ]
    given = {"pixel_values": pixels.to(device), "max_new_tokens": 3, "do_sample": False}
    given |= {"return_dict_in_generate": True, "output_logits": True}
    with torch.inference_mode():
        return network.model.generate(**given).logits[0]


def _unclip(names: Any, device: str) -> Any:
    from neuroclips_cli.backbones.unclip import load_unclip
    from neuroclips_cli.generation.keyframe import KeyframeOptions, sample_latents

    tokens = _numbers(2, names.tokens, names.token_dim).to(device)
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    options = KeyframeOptions(steps=2, guidance_scale=2.0)
    return sample_latents(load_unclip(names.unclip, device), tokens, generators, options)


def _video(names: Any, device: str, *, keyframe: bool) -> Any:
    from neuroclips_cli.backbones.video import load_video_models
    from neuroclips_cli.generation.video import VideoOptions, sample_clip_latents

    options = VideoOptions(
        steps=2, guidance_scale=2.0, guide_keyframe=True, blur_init="strength:0.8"
    )
    return sample_clip_latents(
        load_video_models(names, device),
        ["a red fish swims", "a boat"],
        "",
        [torch.Generator().manual_seed(seed) for seed in (1, 2)],
        options,
        latent_size=(8, 8),
        blurry=_numbers(2, 4, 16, 8, 8),
        keyframes=_numbers(2, 4, 8, 8, seed=1) if keyframe else None,
    )


def _image_judge(names: Any, device: str) -> Any:
    from neuroclips_cli.backbones.classifiers import load_image_classifier

    return load_image_classifier(EVALUATORS.image_classifier, device).probabilities(_frames(6))


def _video_judge(names: Any, device: str) -> Any:
    from neuroclips_cli.backbones.classifiers import load_video_classifier

    clips = np.repeat(_frames(3)[:, None], 6, axis=1)
    return load_video_classifier(EVALUATORS.video_classifier, device).probabilities(clips)


def _convnext(names: Any, device: str) -> Any:
    from convnext_weights import convnext_state

    from neuroclips_cli.backbones.convnext import load_convnext

    torch.save({"model": convnext_state(4)}, "convnext.pth")
    network = load_convnext("convnext.pth", device)
    torch.manual_seed(0)
    return network.two_views(_frames(2), 4)


def _settings(**flags: object) -> Any:
    return load_settings(
        {key.replace("__", "."): value for key, value in flags.items()}, environ={}
    )


def _trained(make: Callable[[], torch.nn.Module], device: str) -> Any:
    torch.manual_seed(0)
    network = make().eval().to(device)
    with torch.inference_mode():
        found = network(_numbers(5, 300).to(device))
    return torch.cat(found) if isinstance(found, tuple) else found


def _perception(names: Any, device: str, **sizes: object) -> Any:
    from neuroclips_cli.models.perception import make_perception

    sizes = _settings(**sizes).perception
    return _trained(lambda: make_perception(300, 6, sizes, (4, 8, 8)), device)


def _semantics(names: Any, device: str, **sizes: object) -> Any:
    from neuroclips_cli.models.semantics import Semantics

    sizes = _settings(**sizes).semantics
    return _trained(lambda: Semantics(300, sizes, names.tokens, names.token_dim), device)


def _prior(names: Any, device: str) -> Any:
    from neuroclips_cli.generation.tokens import sample_tokens
    from neuroclips_cli.models.semantics import Semantics

    torch.manual_seed(0)
    sizes = _settings(semantics__token_pca_rank=0).semantics
    network = Semantics(300, sizes, names.tokens, names.token_dim).eval().to(device)
    generators = [torch.Generator().manual_seed(seed) for seed in range(5)]
    return sample_tokens(network, _numbers(5, 300).to(device), generators)


NETWORKS: dict[str, Callable[[Any, str], Any]] = {
    "VAE's encoder": _vae_encoder,
    "VAE's decoder": _vae_decoder,
    "CLIP tokens": _clip_tokens,
    "CLIP image embeddings": _clip_images,
    "CLIP text embeddings": _clip_text,
    "captioner": _captioner,
    "unCLIP": _unclip,
    "text-to-video": partial(_video, keyframe=False),
    "text-to-video with SparseCtrl": partial(_video, keyframe=True),
    "image classifier": _image_judge,
    "video classifier": _video_judge,
    "ConvNeXt": _convnext,
    "perception": _perception,
    "released perception": partial(
        _perception, perception__network="published", perception__backbone="released"
    ),
    "semantics": _semantics,
    "released semantics": partial(_semantics, semantics__backbone="released"),
    "prior": _prior,
}


@pytest.fixture(scope="module")
def reference() -> Iterator[Callable[[str], Any]]:
    """Each network's output on the CPU in float32, computed once."""
    known: dict[str, Any] = {}

    def of(name: str) -> Any:
        if name not in known:
            known[name] = NETWORKS[name](_settings().backbones, "cpu")
        return known[name]

    yield of


@pytest.mark.parametrize("name", NETWORKS)
def test_in_float32_the_device_computes_what_the_cpu_does(device, figures, reference, name):
    figures.within(
        name, apart(NETWORKS[name](_settings().backbones, device), reference(name)), FLOAT32
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_in_bfloat16_the_device_stays_near_float32(device, figures, reference, name):
    with torch.autocast(device, torch.bfloat16):
        found = NETWORKS[name](_settings().backbones, device)
    figures.within(name, apart(found, reference(name)), BFLOAT16)
