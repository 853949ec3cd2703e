"""Causal standardization: by the past alone, against the regression written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from neuroclips_cli.signal.causal import LEVELS, PRIOR_VOLUMES, CausalStandardizer, FilmSpan
from neuroclips_cli.signal.detrend import standardize
from neuroclips_cli.signal.training_statistics import TrainingStatistics, over_runs, run_statistics

VOXELS, VOLUMES = 60, 50


def _run(rng: np.random.Generator, volumes: int = VOLUMES, order: int = 2) -> np.ndarray:
    times = np.linspace(-1, 1, volumes)[:, None]
    drift = sum(rng.normal(size=VOXELS) * 2 * times**k for k in range(1, order + 1))
    baseline = 1000 + 100 * rng.normal(size=VOXELS)
    return baseline + 5 * (drift + rng.normal(size=(volumes, VOXELS)))


def _statistics(rng: np.random.Generator, order: int = 2) -> TrainingStatistics:
    runs = [run_statistics(_run(rng, order=order), order) for _ in range(8)]
    return over_runs(runs)


def _through(
    statistics: TrainingStatistics, series: np.ndarray, span: FilmSpan | None = None
) -> np.ndarray:
    standardizer = CausalStandardizer(statistics, span)
    return np.stack([standardizer.update(volume) for volume in series])


@pytest.mark.parametrize("span", [None, FilmSpan(4, 30)])
def test_a_volume_is_what_the_joint_normal_distribution_expects_of_noise(span):
    """The same as the expectation of noise given all volumes so far, without any weights."""
    rng = np.random.default_rng(0)
    statistics = replace(_statistics(rng), autocorrelation=0.4)
    series = 1.3 * _run(rng, 30)
    z = _through(statistics, series, span)
    scaled, center = series / statistics.deviation, statistics.mean / statistics.deviation
    shares = np.median(np.square(statistics.drift / statistics.deviation), axis=1)
    shares = np.maximum(shares - np.array([3, 5]) / VOLUMES, 1e-6)
    levels = LEVELS * np.median(np.square(statistics.between_runs / statistics.deviation))
    first, length = (0, VOLUMES) if span is None else (span.first, span.volumes)
    basis = np.polynomial.legendre.legvander(np.linspace(-1, 1, length), 2)
    if first:
        before = -1 - 2 / (length - 1) * np.arange(first, 0, -1)
        basis = np.concatenate([np.polynomial.legendre.legvander(before, 2), basis])
    noise = 0.4 ** np.abs(np.subtract.outer(np.arange(30), np.arange(30)))
    trends = [(basis[:30] * [level, *shares]) @ basis[:30].T for level in levels]
    squares, count = np.full(VOXELS, float(PRIOR_VOLUMES)), PRIOR_VOLUMES
    gains, likely = series @ statistics.mean / np.sum(statistics.mean**2), np.zeros(len(levels))
    for t in range(30):
        g = np.median(gains[: t + 1])
        apart = scaled[: t + 1] - g * center
        for place, trend in enumerate(trends):
            joint = (trend + noise)[: t + 1, : t + 1]
            precision = np.linalg.inv(joint)
            error, spread = precision[t] @ apart / precision[t, t], 1 / precision[t, t]
            size = np.median(error**2 / (g**2 * squares / count)) / stats.chi2(1).median()
            likely[place] -= (np.log(spread) + size / spread) / 2
        joint = (trends[int(np.argmax(likely))] + noise)[: t + 1, : t + 1]
        rest = noise[t, : t + 1] @ np.linalg.inv(joint) @ apart / g
        spread = noise[t, : t + 1] @ np.linalg.inv(joint) @ noise[t, : t + 1]
        assert np.allclose(z[t], rest / np.sqrt(spread * squares / count), atol=3e-3), t
        squares, count = squares + rest**2 / spread, count + 1


def test_a_lasting_response_is_no_trend():
    """Volumes that resemble the one before are not taken for a drift; the film's span is known."""
    rng = np.random.default_rng(2)
    statistics = replace(_statistics(rng), autocorrelation=0.8)
    noise = rng.normal(size=(VOLUMES, VOXELS))
    for t in range(1, VOLUMES):
        noise[t] = 0.8 * noise[t - 1] + 0.6 * noise[t]
    series = _run(rng) + 50 * noise
    whole = standardize(series, 2)[0]
    white = replace(statistics, autocorrelation=0.0)
    near, far = (
        np.corrcoef(_through(one, series)[10:].ravel(), whole[10:].ravel())[0, 1]
        for one in (statistics, white)
    )
    assert near > far + 0.05


@pytest.mark.parametrize("order", [1, 4])
def test_noise_is_of_unit_deviation_from_the_first_volumes_on(order):
    rng = np.random.default_rng(order)
    z = np.stack([_through(_statistics(rng, order), _run(rng, order=order)) for _ in range(20)])
    assert np.all(np.abs(z.std(axis=(0, 2))[1:] - 1) < 0.15)
    assert abs(z.std() - 1) < 0.05


def test_the_past_alone_decides_and_the_end_agrees_with_the_whole_run():
    rng = np.random.default_rng(3)
    statistics, series = _statistics(rng), _run(rng)
    z = _through(statistics, series)
    changed = series.copy()
    changed[30:] += 400
    assert np.array_equal(_through(statistics, changed)[:30], z[:30])
    whole = standardize(series, 2)[0]
    agreement = [stats.pearsonr(z[t], whole[t])[0] for t in range(VOLUMES)]
    assert np.mean(agreement[10:]) > 0.9
    assert np.corrcoef(z[10:].ravel(), whole[10:].ravel())[0, 1] > 0.9


@pytest.mark.parametrize(("scale", "offset"), [(5.0, 0.0), (0.2, 0.0), (1.0, 300.0), (1.0, -400.0)])
def test_another_scale_and_baseline_of_the_session_are_followed(scale, offset):
    rng = np.random.default_rng(4)
    statistics = _statistics(rng)
    z = _through(statistics, scale * _run(rng) + offset)
    assert abs(z[5:].std() - 1) < 0.3


def test_a_common_gain_is_known_from_the_first_volume_on():
    """Voxels whose baselines differ by one factor alone need no run to know them."""
    rng = np.random.default_rng(8)
    baseline = rng.uniform(800, 1200, VOXELS)
    runs = [g * (baseline + 5 * rng.normal(size=(VOLUMES, VOXELS))) for g in (0.9, 1.0, 1.1)]
    statistics = over_runs([run_statistics(run, 0) for run in runs])
    assert np.all(statistics.between_runs < 3) and np.std([r.mean() for r in runs]) > 50
    noise = rng.normal(size=(VOLUMES, VOXELS))
    z = _through(statistics, 1.2 * (baseline + 5 * noise))
    assert np.corrcoef(z[0], noise[0])[0, 1] > 0.9


def test_a_run_longer_than_those_of_training_goes_on():
    rng = np.random.default_rng(5)
    statistics = _statistics(rng)
    z = _through(statistics, _run(rng, volumes=3 * VOLUMES))
    assert abs(z[VOLUMES:].std() - 1) < 0.15 and np.isfinite(z).all()


def test_lost_volumes_and_voxels_count_as_predicted():
    rng = np.random.default_rng(6)
    statistics, series = _statistics(rng), _run(rng)
    broken = series.copy()
    broken[20] = np.nan
    broken[25, 0] = np.inf
    z, clean = _through(statistics, broken), _through(statistics, series)
    assert not z[20].any() and z[25, 0] == 0 and np.isfinite(z).all()
    assert np.array_equal(z[:20], clean[:20])
    assert np.corrcoef(z[26:].ravel(), clean[26:].ravel())[0, 1] > 0.99


def test_one_training_run_and_no_drift_are_enough():
    rng = np.random.default_rng(7)
    alone = over_runs([run_statistics(_run(rng, order=0), 0)])
    assert alone.drift.shape == (0, VOXELS)
    z = _through(alone, _run(rng, order=0))
    assert abs(z[5:].std() - 1) < 0.1
