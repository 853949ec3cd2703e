"""Baseline, drift and noise of training runs, against numpy's polynomial fits."""

from __future__ import annotations

import numpy as np
import pytest

from neuroclips_cli.signal.detrend import standardize
from neuroclips_cli.signal.training_statistics import gain, over_runs, run_statistics


def _runs(order: int) -> list[np.ndarray]:
    rng = np.random.default_rng(order)
    times = np.linspace(-1, 1, 40)[:, None]
    return [
        10_000 + 300 * rng.normal() + 80 * rng.normal() * times + rng.normal(0, 50, (40, 7))
        for _ in range(5)
    ]


@pytest.mark.parametrize("order", [0, 1, 4])
def test_a_run_is_its_legendre_series_and_what_is_left(order):
    series = _runs(order)[0]
    found = run_statistics(series, order)
    fits = [
        np.polynomial.Legendre.fit(np.arange(40), column, order, domain=[0, 39])
        for column in series.T
    ]
    assert np.allclose(found.trend, np.stack([fit.coef for fit in fits], axis=1))
    left = [c - fit(np.arange(40)) for c, fit in zip(series.T, fits, strict=True)]
    assert np.allclose(found.deviation, np.std(left, axis=1, ddof=1))
    lagged = [np.sum(rest[1:] * rest[:-1]) / np.sum(rest**2) for rest in left]
    assert np.allclose(found.autocorrelation, lagged) and found.volumes == 40
    z, _ = standardize(series, order)
    trend = np.polynomial.legendre.legvander(np.linspace(-1, 1, 40), order) @ found.trend
    assert np.allclose(z * found.deviation + trend, series)


def _gain(image: np.ndarray, mean: np.ndarray, voxel_3_is_dead: bool) -> float:
    used = np.arange(7) != 3 if voxel_3_is_dead else np.arange(7) >= 0
    return float(np.sum(image[used] * mean[used]) / np.sum(mean[used] ** 2))


def test_runs_are_combined_voxel_by_voxel_without_those_that_carry_nothing():
    series = _runs(1)
    series[2][:, 3] = np.nan
    series[4][:, 3] = 7.0
    measured = [run_statistics(run, 1) for run in series]
    found = over_runs(measured)
    for voxel in (0, 3):
        used = [0, 1, 3] if voxel == 3 else [0, 1, 2, 3, 4]
        means = [series[i][:, voxel].mean() for i in used]
        assert np.isclose(found.mean[voxel], np.mean(means))
        rises = [np.polyfit(np.linspace(-1, 1, 40), series[i][:, voxel], 1)[0] for i in used]
        assert np.isclose(found.drift[0, voxel], np.sqrt(np.mean(np.square(rises))))
        images = np.array([measured[i].trend[0] for i in used])
        gains = [_gain(measured[i].trend[0], found.mean, i in (2, 4)) for i in used]
        corrected = images[:, voxel] / gains - found.mean[voxel]
        expected = np.sqrt(np.sum(corrected**2) / (len(used) - 1))
        assert np.isclose(found.between_runs[voxel], expected)
        left = [measured[i].deviation[voxel] ** 2 for i in used]
        assert np.isclose(found.deviation[voxel], np.sqrt(np.mean(left)))
    assert found.volumes == 40
    lagged = np.array([run.autocorrelation for run in measured])
    lagged[4, 3] = np.nan  # a constant voxel
    assert found.autocorrelation == max(0.0, np.median(np.nanmean(lagged, axis=0)))
    dead = over_runs([run_statistics(np.full((9, 1), np.nan), 1)])
    centered = [run_statistics(run - run.mean(axis=0), 1) for run in _runs(1)]
    assert np.all(over_runs(centered).between_runs < 1e-6)
    assert gain(np.full(3, 7.0), np.zeros(3), np.ones(3)) == 1.0
    assert gain(np.array([np.nan, 55.0]), np.array([40.0, 50.0]), np.ones(2)) == 1.1
    assert (dead.mean[0], dead.deviation[0], dead.between_runs[0]) == (0, 1, 0)
