from __future__ import annotations

import dataclasses

import numpy as np
import torch

from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.training.ridge_start import fit_ridge, start_from_ridge

TOKENS, DIM, VOXELS = 3, 4, 20


def linear_data(noise: float, samples: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    scans = rng.standard_normal((samples, VOXELS))
    targets = scans @ rng.standard_normal((VOXELS, TOKENS * DIM)) + 2.0
    return scans, targets + noise * rng.standard_normal(targets.shape)


def test_the_penalty_with_the_least_held_out_error_is_chosen():
    scans, targets = linear_data(noise=0.0)
    clean = fit_ridge(scans[:40], targets[:40], scans[40:], targets[40:], (0.001, 10.0))
    assert clean.penalty == 0.001
    noise = np.random.default_rng(1).standard_normal(targets.shape)
    assert fit_ridge(scans[:40], noise[:40], scans[40:], noise[40:], (0.001, 10.0)).penalty == 10.0


def test_an_untrained_model_starts_as_the_ridge_regression(settings):
    scans, targets = linear_data(noise=0.1)
    fit = fit_ridge(scans[:40], targets[:40], scans[40:], targets[40:])
    sizes = dataclasses.replace(settings.semantics, hidden=16, dropout=0.0)
    model = Semantics(VOXELS, sizes, TOKENS, DIM).eval()
    start_from_ridge(model, fit)
    with torch.no_grad():
        tokens, _ = model(torch.from_numpy(scans[40:]).float())
    expected = scans[40:] @ fit.scans.T @ fit.weights + fit.mean
    np.testing.assert_allclose(tokens.flatten(1).numpy(), expected, atol=1e-3)


def test_the_model_can_be_stored_in_half_precision(settings):
    sizes = dataclasses.replace(settings.semantics, hidden=16)
    assert Semantics(VOXELS, sizes, TOKENS, DIM).half().ridge.linears[0].weight.dtype == torch.half
