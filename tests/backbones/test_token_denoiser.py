"""The denoiser of decoded tokens: it brings them nearer to true ones, and refuses other files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from neuroclips_cli.backbones.clip import load_clip
from neuroclips_cli.backbones.token_denoiser import TOKEN_DENOISER_FILE, load_token_denoiser
from neuroclips_cli.errors import UserError
from neuroclips_cli.models.token_denoiser import TokenDenoiser
from neuroclips_cli.simulation import synthetic_world

NUMBERS = 16 * 128
EMBEDDED = "assets:tiny/token_denoiser"


def test_shrunk_and_noisy_tokens_of_new_films_come_nearer_to_the_true_ones():
    rng = np.random.default_rng(8)
    scenes = [synthetic_world.draw_scene(rng, 8.0) for _ in range(150)]
    frames = np.concatenate([synthetic_world.render_scene(s, np.array([2.0])) for s in scenes])
    true = torch.from_numpy(load_clip("assets:tiny/clip").tokens(frames).astype(np.float32))
    flat = true.flatten(1)
    mean = flat.mean(dim=0)
    # The linear decoder of the least squared error keeps a share of each component, with noise.
    _, spread, axes = torch.svd_lowrank(flat - mean, q=16)
    deviation, share = spread / len(flat) ** 0.5, 0.45
    noise = torch.randn(len(flat), 16, generator=torch.Generator().manual_seed(0))
    known = share * (flat - mean) @ axes + (share * (1 - share)) ** 0.5 * deviation * noise
    decoded = (known @ axes.T + mean).view_as(true)
    made = load_token_denoiser(EMBEDDED, NUMBERS)(decoded)
    assert made.shape == true.shape
    left = [(x.flatten(1) - flat).square().sum() for x in (made, decoded)]
    assert left[0] < 0.95 * left[1]


def test_without_a_denoiser_tokens_stay_as_they_are():
    tokens = torch.randn(2, 4, 3)
    assert torch.equal(load_token_denoiser("", 12)(tokens), tokens)


def test_files_that_are_no_denoiser_of_these_tokens_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist: correct token_denoiser"):
        load_token_denoiser(str(tmp_path), NUMBERS)
    with pytest.raises(UserError, match=f"is for pictures of {NUMBERS} numbers .* gives 12"):
        load_token_denoiser(EMBEDDED, 12)
    weights = TokenDenoiser(12, 3, 4, 5).state_dict()
    for wrong in ({"weight": torch.zeros(2)}, weights | {"network.0.weight": torch.zeros(4, 2)}):
        save_file(wrong, tmp_path / TOKEN_DENOISER_FILE)
        with pytest.raises(UserError, match="holds no denoiser of tokens"):
            load_token_denoiser(str(tmp_path), 12)
