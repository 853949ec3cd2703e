"""Keyframes reach the video networks in the latent space that both know, or encoded anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import neuroclips_cli
from neuroclips_cli.backbones.vae import decode_latents
from neuroclips_cli.generation.decoder import KeyframeGenerator
from neuroclips_cli.generation.video_generator import VideoGenerator
from neuroclips_cli.settings.load import load_settings

OTHER_VAE = Path(neuroclips_cli.__file__).parent / "assets/tiny/vae"


@pytest.mark.parametrize(
    "other",
    [{}, {"semantics.token_space": "published"}, {"backbones.keyframe_vae": str(OTHER_VAE)}],
)
def test_a_held_keyframe_is_encoded_again_only_where_its_latents_are_of_another_space(other):
    flags = {"run.profile": "tiny", "reconstruct.steps": 1, "reconstruct.keyframe_steps": 1}
    settings = load_settings(flags | {"reconstruct.keyframe_candidates": 1} | other)
    tokens = np.random.default_rng(0).standard_normal((1, 16, 128)).astype(np.float32)
    generate = KeyframeGenerator(settings, "cpu", "float32")
    latents = generate.latents(tokens, [4])
    images = generate.images(latents)
    assert np.array_equal(images, generate(tokens, [4]))
    video = VideoGenerator(settings, "cpu")
    guidance = {"keyframes": images, "captions": ["a red ball"]}
    encoded = video.clips([4], **guidance)
    given = video.clips([4], keyframe_latents=latents, **guidance)
    expected = decode_latents(video.models.vae, latents)[0] if not other else encoded[0, 0]
    assert np.abs(given[0, 0].astype(int) - expected).max() <= 1
    assert np.array_equal(given, encoded) == bool(other)
    wrong = np.zeros((1, 4, 4, 4), np.float32)
    assert np.array_equal(video.clips([4], keyframe_latents=wrong, **guidance), encoded)
