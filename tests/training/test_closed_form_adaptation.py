"""A new subject's first layer in closed form, against explicit regressions in float64."""

from __future__ import annotations

import numpy as np
import pytest

from neuroclips_cli.errors import UserError
from neuroclips_cli.training.closed_form_adaptation import fit_first_layer, shared_latents


def _ridge(scans, wanted, penalty):
    """Solve the primal normal equations, with the penalty given absolutely."""
    voxels = scans.shape[1]
    return np.linalg.solve(scans.T @ scans + penalty * np.eye(voxels), scans.T @ wanted)


def _explicit(fmri, segments, latents, penalties):
    """Fit as documented: primal form, one regression for every fold and penalty, in float64."""
    scans = fmri.mean(axis=1, dtype=np.float64)
    means = scans.mean(axis=0), latents.mean(axis=0)
    scans, wanted = scans - means[0], latents - means[1]
    size = np.square(scans).sum(axis=1).mean()
    present = sorted(set(segments.tolist()))
    groups = np.array_split(present, min(6, len(present)))
    errors = []
    for penalty in penalties:
        error = 0.0
        for group in groups:
            out = np.isin(segments, group)
            weight = _ridge(scans[~out], wanted[~out], penalty * size)
            error += np.square(wanted[out] - scans[out] @ weight).sum()
        errors.append(error)
    best = int(np.argmin(errors))
    weight = _ridge(scans, wanted, penalties[best] * size).T
    r2 = 1 - errors[best] / np.square(wanted).sum()
    return weight, means[1] - weight @ means[0], penalties[best], r2


@pytest.mark.parametrize("case", range(12))
def test_it_is_the_regression_that_is_documented(case):
    """Any numbers of clips, segments, voxels and repetitions, more voxels than clips or fewer."""
    rng = np.random.default_rng(case)
    segments = np.sort(rng.integers(0, rng.integers(2, 10), rng.integers(20, 90)))
    segments[:2] = segments[0], segments[-1] + 1
    voxels, width = rng.integers(3, 120), rng.integers(1, 12)
    fmri = rng.standard_normal((len(segments), rng.integers(1, 4), voxels)) + 0.3
    mixing = rng.standard_normal((voxels, width))
    noise = rng.choice([0.1, 3.0, 30.0]) * rng.standard_normal((len(segments), width))
    latents = fmri.mean(axis=1) @ mixing + noise + 5
    penalties = (0.03, 0.3, 3.0)
    layer = fit_first_layer(fmri.astype(np.float32), segments, latents, penalties)
    weight, bias, penalty, r2 = _explicit(fmri.astype(np.float32), segments, latents, penalties)
    assert layer.penalty == penalty and layer.clips == len(segments)
    np.testing.assert_allclose(layer.weight, weight, atol=2e-4 * np.abs(weight).max())
    np.testing.assert_allclose(layer.bias, bias, atol=1e-3)
    assert layer.r2 == pytest.approx(r2, abs=1e-3)


def test_the_penalty_of_wide_latents_is_chosen_on_projections_of_them():
    rng = np.random.default_rng(3)
    fmri = rng.standard_normal((40, 1, 30)).astype(np.float32)
    latents = fmri[:, 0] @ rng.standard_normal((30, 300)) + 8 * rng.standard_normal((40, 300))
    segments, penalties = np.repeat(np.arange(4), 10), (0.01, 0.1, 1.0, 10.0)
    layer = fit_first_layer(fmri, segments, latents, penalties)
    weight, _, penalty, r2 = _explicit(fmri, segments, latents, penalties)
    assert layer.penalty == penalty and layer.r2 == pytest.approx(r2, abs=1e-3)
    np.testing.assert_allclose(layer.weight, weight, atol=2e-4 * np.abs(weight).max())


def test_stretches_of_a_single_segment_choose_the_penalty():
    rng = np.random.default_rng(0)
    fmri = rng.standard_normal((30, 2, 10)).astype(np.float32)
    exact = fmri.mean(axis=1) @ rng.standard_normal((10, 3)).astype(np.float32)
    noise = rng.standard_normal((30, 3))
    one = np.zeros(30, int)
    assert fit_first_layer(fmri, one, exact, (0.01, 10.0)).penalty == 0.01
    assert fit_first_layer(fmri, one, noise, (0.01, 10.0)).penalty == 10.0
    with pytest.raises(UserError, match="at least two clips"):
        fit_first_layer(fmri[:1], one[:1], noise[:1])


def test_latents_are_means_over_those_who_saw_the_clip():
    rng = np.random.default_rng(1)
    names = [["seg1 0", "seg1 2", "seg2 0"], ["seg2 0", "seg3 0"]]
    outputs = [rng.standard_normal((len(own), 4)) for own in names]
    rows, latents = shared_latents(outputs, names, ["seg9 0", "seg3 0", "seg2 0", "seg1 0"])
    assert rows.tolist() == [1, 2, 3]
    wanted = [outputs[1][1], (outputs[0][2] + outputs[1][0]) / 2, outputs[0][0]]
    np.testing.assert_allclose(latents, wanted, rtol=1e-6)
    with pytest.raises(UserError, match="no training film that the pooled"):
        shared_latents(outputs, names, ["seg9 0"])
