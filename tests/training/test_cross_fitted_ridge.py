from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from neuroclips_cli.errors import UserError
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.training.cross_fitted_ridge import (
    CrossFit,
    cross_fit_pool,
    init_from_ridge,
    load_into_ridge,
    padded,
)

TOKENS, DIM, VOXELS, CLIPS = 3, 4, 20, 60
SEGMENTS = np.repeat(np.arange(6), CLIPS // 6)


def cross_fit(
    scans: np.ndarray, segments: np.ndarray, targets: np.ndarray, *more: object
) -> CrossFit:
    return cross_fit_pool([(scans, segments, targets)], *more)[0]


def linear_data(noise: float, rank: int = TOKENS * DIM) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    scans = rng.standard_normal((CLIPS, 2, VOXELS))
    mixing = rng.standard_normal((VOXELS, rank)) @ rng.standard_normal((rank, TOKENS * DIM))
    targets = scans.mean(axis=1) @ mixing + 2.0
    return scans, targets + noise * rng.standard_normal(targets.shape)


def test_the_penalty_with_the_least_error_on_left_out_segments_is_chosen():
    scans, targets = linear_data(noise=0.0)
    assert cross_fit(scans, SEGMENTS, targets, 12, (0.001, 10.0)).penalty == 0.001
    noise = np.random.default_rng(1).standard_normal(targets.shape)
    assert cross_fit(scans, SEGMENTS, noise, 12, (0.001, 10.0)).penalty == 10.0


def test_a_scan_is_decoded_without_its_own_segment():
    scans, targets = linear_data(noise=0.5)
    before = cross_fit(scans, SEGMENTS, targets, 12, (1.0,))
    changed = targets.copy()
    own = SEGMENTS == 2
    changed[own] = changed[own][::-1]
    after = cross_fit(scans, SEGMENTS, changed, 12, (1.0,))

    def decoded(fit):
        return fit.features[own].mean(axis=1) @ fit.axes + fit.mean

    # The axes move a little with the targets, but what is decoded does not follow them.
    kept = np.abs(decoded(before) - decoded(after)).mean()
    assert kept < 0.2 * np.abs(targets[own] - changed[own]).mean()


def test_only_components_that_scans_predict_are_kept():
    scans, targets = linear_data(noise=1.0, rank=2)
    fit = cross_fit(scans, SEGMENTS, targets, 12)
    assert fit.width == 2
    assert fit.features.shape == (CLIPS, 2, 2)
    np.testing.assert_allclose(fit.features.mean(axis=1).std(axis=0), 1, atol=1e-3)
    assert cross_fit(scans, SEGMENTS, targets, 1).width == 1


def test_noise_still_leaves_one_component():
    scans, targets = linear_data(noise=0.0)
    noise = np.random.default_rng(1).standard_normal(targets.shape)
    assert cross_fit(scans, SEGMENTS, noise, 12).width >= 1


def test_clips_that_cannot_be_told_apart_are_refused():
    scans, targets = linear_data(noise=0.1)
    with pytest.raises(UserError, match="told apart"):
        cross_fit(scans, SEGMENTS, np.ones_like(targets), 12)


def test_an_untrained_model_starts_as_the_regression_with_a_frozen_ridge(settings):
    scans, targets = linear_data(noise=0.1)
    fit = cross_fit(scans, SEGMENTS, targets, 16)
    sizes = dataclasses.replace(settings.semantics, hidden=16, dropout=0.0)
    model = Semantics(VOXELS, sizes, TOKENS, DIM).eval()
    load_into_ridge(fit, model.ridge)
    init_from_ridge(fit, model.backbone)
    with torch.no_grad():
        tokens, _ = model(torch.from_numpy(scans[:, 0]).float())
    components = scans[:, 0] @ fit.weight.T + fit.bias
    np.testing.assert_allclose(
        tokens.flatten(1).numpy(), components @ fit.axes + fit.mean, atol=1e-3
    )
    assert not model.ridge.linears[0].weight.requires_grad
    assert padded(fit, 16).shape == (CLIPS, 2, 16)


def test_the_model_can_be_stored_in_half_precision(settings):
    sizes = dataclasses.replace(settings.semantics, hidden=16)
    assert Semantics(VOXELS, sizes, TOKENS, DIM).half().ridge.linears[0].weight.dtype == torch.half
