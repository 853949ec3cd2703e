"""Voxel choice without repetitions: the statistics, their null, and what they find."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal, stats

from neuroclips_cli.signal.detrend import detrend
from neuroclips_cli.signal.selection import EncodingModel, PooledCorrelation, choose, choose_all

SEGMENTS, CLIPS, ORDER = 8, 60, 1


def _noise(rng: np.random.Generator, voxels: int, phi: float, clips: int = CLIPS) -> np.ndarray:
    """Detrended AR(1) noise, (clips, voxels)."""
    white = rng.normal(size=(clips + 50, voxels))
    return detrend(signal.lfilter([1.0], [1.0, -phi], white, axis=0)[50:], ORDER)


def _blocks(z: np.ndarray, size: int = 700) -> list[tuple[slice, np.ndarray]]:
    starts = range(0, z.shape[1], size)
    return [(slice(i, min(i + size, z.shape[1])), z[:, i : i + size]) for i in starts]


def _everything(voxels: int) -> dict[str, np.ndarray]:
    everywhere = np.ones(voxels, bool)
    return {"usable": everywhere, "region": None, "tested": everywhere}


def test_the_statistic_is_the_formula_written_out():
    rng = np.random.default_rng(0)
    pairs = [(_noise(rng, 3, 0.4, n), _noise(rng, 3, 0.6, n)) for n in (40, 60, 80)]
    test = PooledCorrelation(3, ORDER)
    for one, two in pairs:
        test.add(slice(0, 2), one[:, :2], two[:, :2])
        test.add(slice(2, 3), one[:, 2:], two[:, 2:])
    mean_z, t = test.statistic()
    for voxel in range(3):
        z = [np.arctanh(np.corrcoef(a[:, voxel], b[:, voxel])[0, 1]) for a, b in pairs]
        weight = [len(a) - ORDER - 3 for a, _ in pairs]
        assert np.isclose(mean_z[voxel], np.average(z, weights=weight))
        rho = []
        for side in (0, 1):
            series = [pair[side][:, voxel] for pair in pairs]
            lagged = [
                sum(np.dot(s[:-k] if k else s, s[k:]) if k <= len(s) // 4 else 0 for s in series)
                for k in range(21)
            ]
            rho.append(np.array(lagged) / lagged[0])
        lags = np.arange(1, 21)
        factor = 1 + 2 * np.sum(rho[0][1:] * rho[1][1:] / (1 - lags / 60))
        assert np.isclose(t[voxel], np.dot(weight, z) / np.sqrt(factor * np.sum(weight)))


@pytest.mark.parametrize("phi", [0.0, 0.3, 0.6])
def test_noise_is_selected_at_the_nominal_rate(phi):
    rng = np.random.default_rng(int(10 * phi))
    voxels = 4000
    test = PooledCorrelation(voxels, ORDER)
    for _ in range(SEGMENTS):
        test.add(slice(0, voxels), _noise(rng, voxels, phi), _noise(rng, voxels, phi))
    mean_z, t = test.statistic()
    # Two-sided tests of which the positive half is selected; 0.0025 is the binomial error.
    found = choose(mean_z, t, 0.05 * voxels, **_everything(voxels))
    assert found.p_threshold == 0.05
    assert abs(found.selected.mean() - 0.025) < 0.009
    assert stats.kurtosis(t) < 0.5
    assert choose(mean_z, t, 0.05, **_everything(voxels)).selected.sum() <= 1


@pytest.mark.parametrize("phi", [0.0, 0.5])
def test_an_encoding_model_of_noise_selects_no_more_than_the_nominal_rate(phi):
    rng = np.random.default_rng(3)
    voxels, width = 2000, 30
    model = EncodingModel(voxels, width, ORDER)
    data = [(_noise(rng, width, 0.5), _noise(rng, voxels, phi)) for _ in range(SEGMENTS)]
    for number, (features, z) in enumerate(data):
        model.learn(number, features, _blocks(z))
    for number, (features, z) in enumerate(data):
        model.score(number, features, _blocks(z))
    found = choose(*model.statistic(), 0.05 * voxels, **_everything(voxels))
    assert 0.0005 < found.selected.mean() < 0.035


def test_an_encoding_model_finds_the_voxels_that_follow_the_features():
    rng = np.random.default_rng(4)
    voxels, width = 300, 20
    weights = rng.normal(size=(width, voxels)) * (np.arange(voxels) < 100) / np.sqrt(width)
    data = []
    for _ in range(SEGMENTS):
        features = _noise(rng, width, 0.5)
        data.append((features, 0.7 * features @ weights + _noise(rng, voxels, 0.3)))
    model = EncodingModel(voxels, width, ORDER)
    for number, (features, z) in enumerate(data):
        model.learn(number, features, _blocks(z))
    for number, (features, z) in enumerate(data):
        model.score(number, features, _blocks(z))
    found = choose(*model.statistic(), 0.05, **_everything(voxels))
    assert found.selected[:100].mean() > 0.9 and found.selected[100:].sum() <= 1


def test_the_halves_are_ridge_regressions_whose_penalty_is_chosen_by_gcv():
    rng = np.random.default_rng(5)
    width = 6
    features = [_noise(rng, width, 0.3) for _ in range(4)]
    z = [f @ rng.normal(size=(width, 1)) * 0.3 + _noise(rng, 1, 0.2) for f in features]
    model = EncodingModel(1, width, ORDER)
    for number in range(4):
        model.learn(number, features[number], _blocks(z[number]))
    for number in range(4):
        model.score(number, features[number], _blocks(z[number]))
    expected = [PooledCorrelation(1, ORDER) for _ in range(2)]
    for half in range(2):
        x, y = (np.concatenate(part[1 - half :: 2]) for part in (features, z))
        size = np.linalg.eigvalsh(x.T @ x).mean()
        alphas = [size * 10.0**power for power in range(-3, 5)]
        errors = []
        for alpha in alphas:
            hat = x @ np.linalg.inv(x.T @ x + alpha * np.eye(width)) @ x.T
            errors.append(np.sum((y - hat @ y) ** 2) / (len(y) - np.trace(hat)) ** 2)
        alpha = alphas[int(np.argmin(errors))]
        weights = np.linalg.solve(x.T @ x + alpha * np.eye(width), x.T @ y)
        for number in range(half, 4, 2):
            expected[half].add(slice(0, 1), features[number] @ weights, z[number])
    ours, theirs = model.statistic(), [test.statistic() for test in expected]
    assert np.allclose(ours[1], (theirs[0][1] + theirs[1][1]) / 2, rtol=1e-4)


def test_all_voxels_of_a_region_are_chosen_without_a_test():
    usable, region = np.array([1, 1, 0, 1], bool), np.array([1, 0, 1, 1], bool)
    found = choose_all(usable=usable, region=region, tested=usable)
    assert found.selected.tolist() == [True, False, False, True] and found.tested == 3
    assert choose_all(usable=usable, region=None, tested=usable).selected.sum() == 3


def test_voxels_without_a_signal_in_a_segment_are_left_out_of_it():
    rng = np.random.default_rng(6)
    first = [_noise(rng, 2, 0.2) for _ in range(3)]
    whole, part = PooledCorrelation(2, ORDER), PooledCorrelation(2, ORDER)
    for number, series in enumerate(first):
        second = series + _noise(rng, 2, 0.2)
        whole.add(slice(0, 2), series, second)
        broken = second.copy()
        broken[3, 1] = np.nan if number == 0 else broken[3, 1]
        part.add(slice(0, 2), series, broken)
    assert whole.statistic()[1][0] == part.statistic()[1][0]
    assert np.isfinite(part.statistic()[1]).all() and part.statistic()[1][1] != 0
    usable = np.array([True, False])
    found = choose(*part.statistic(), 1.0, usable=usable, region=None, tested=usable)
    assert found.selected.tolist() == [True, False] and found.p[1] == 1
