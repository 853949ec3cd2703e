"""Keyframes: which of several candidates stays."""

from __future__ import annotations

import numpy as np
import pytest

from neuroclips_cli.backbones.clip import load_clip
from neuroclips_cli.generation.decoder import KeyframeGenerator
from neuroclips_cli.generation.keyframe import closest_candidates
from neuroclips_cli.settings.load import load_settings


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def test_closest_candidates_has_the_largest_cosine_whatever_the_length() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((20, 3, 4))
    candidates = rng.standard_normal((20, 5, 3, 4)) * rng.uniform(0.1, 10, (20, 5, 1, 1))
    expected = [
        max(range(5), key=lambda i, n=n: cosine(candidates[n, i], tokens[n])) for n in range(20)
    ]
    assert closest_candidates(candidates, tokens).tolist() == expected
    assert closest_candidates(np.zeros((2, 3, 3, 4)), tokens[:2]).tolist() == [0, 0]


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    """Tokens of three frames of noise, which are as good as any here."""
    frames = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    return load_clip(load_settings({"run.profile": "tiny"}).backbones.clip).tokens(frames)


def generated(tokens: np.ndarray, numbers: list[int], candidates: int) -> np.ndarray:
    flags = {
        "run.profile": "tiny",
        "reconstruct.keyframe_steps": 1,
        "reconstruct.keyframe_candidates": candidates,
    }
    return KeyframeGenerator(load_settings(flags), "cpu", "float32")(tokens, numbers)


def test_of_more_candidates_a_closer_one_stays_in_any_batch(tokens: np.ndarray) -> None:
    clip = load_clip(load_settings({"run.profile": "tiny"}).backbones.clip)
    made = {count: generated(tokens, [4, 0, 9], count) for count in (1, 2, 5)}
    one, two, five = (
        np.array([cosine(*pair) for pair in zip(clip.tokens(images), tokens, strict=True)])
        for images in made.values()
    )
    assert (two >= one - 1e-6).all() and (five >= two - 1e-6).all() and (five > one + 1e-3).any()
    alone = np.concatenate([generated(tokens[i : i + 1], [n], 5) for i, n in enumerate((4, 0, 9))])
    assert np.abs(alone.astype(int) - made[5]).max() <= 1
