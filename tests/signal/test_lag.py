"""The lag scan against a hemodynamic response that is built here, at several TRs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from neuroclips_cli.signal.lag import LagRun, LagScan, scan_delays

FINE_S, CLIP_S, CLIPS, VOXELS, LATENTS, RUNS = 0.1, 2.0, 60, 80, 6, 5


def _response(extra_s: float) -> np.ndarray:
    """Glover's two gammas in steps of FINE_S, later by ``extra_s``."""
    times = np.arange(0, 30, FINE_S) - extra_s
    rise = stats.gamma.pdf(times, 6, scale=0.9) - 0.35 * stats.gamma.pdf(times, 12, scale=0.9)
    return rise / rise.sum()


def _best_delay(extra_s: float) -> float:
    """Return the delay after the onset of a clip at which what it adds to the signal peaks."""
    box = np.ones(round(CLIP_S / FINE_S))
    return int(np.argmax(np.convolve(_response(extra_s), box))) * FINE_S


def _runs(tr_s: float, extra_s: float, start_s: float, noise: float, seed: int) -> list[LagRun]:
    """Simulate runs of films that change every second clip, on no grid of volumes."""
    rng = np.random.default_rng(seed)
    weights, shown = rng.normal(size=(LATENTS, VOXELS)), rng.normal(size=(LATENTS, 12))
    runs = []
    for _ in range(RUNS):
        shots = np.repeat(rng.normal(size=(CLIPS // 2, LATENTS)), 2, axis=0)
        seen = shots + 0.7 * rng.normal(size=shots.shape)
        fine = np.repeat(seen, round(CLIP_S / FINE_S), axis=0)
        before, after = np.zeros((round(start_s / FINE_S), LATENTS)), np.zeros((120, LATENTS))
        neural = np.concatenate([before, fine, after])
        bold = np.stack([np.convolve(c, _response(extra_s))[: len(c)] for c in neural.T], axis=1)
        sampled = bold[np.round(np.arange(0, len(bold) * FINE_S - tr_s, tr_s) / FINE_S).astype(int)]
        series = sampled @ weights
        series += noise * series.std() * rng.normal(size=series.shape)
        drift = np.linspace(0, 5, len(series))[:, None]
        features = seen @ shown + 0.2 * rng.normal(size=(CLIPS, 12))
        runs.append(LagRun(1000 + 3 * (series + drift), start_s, features))
    return runs


@pytest.mark.parametrize("tr_s", [0.8, 1.0, 1.49, 2.0, 2.5])
@pytest.mark.parametrize("extra_s", [0.0, 2.5])
def test_the_best_delay_is_found_within_one_tr(tr_s, extra_s):
    truth = _best_delay(extra_s)
    found = scan_delays(_runs(tr_s, extra_s, 3.0, 2.0, 1), clip_s=CLIP_S, tr_s=tr_s, order=1)
    assert abs(found.best_s - truth) < tr_s, (found, truth)
    assert found.delays_s[0] == 0 and found.delays_s[-1] <= 10 < found.delays_s[-1] + tr_s
    assert not found.is_far_off(truth, tr_s)
    far = [delay for delay in (truth - 4.5, truth + 4.5) if 0 <= delay <= 10]
    assert far and all(found.is_far_off(delay, tr_s) for delay in far)


def test_noise_warns_of_no_delay():
    runs = _runs(2.0, 0.0, 2.0, 1.0, 2)
    rng = np.random.default_rng(3)
    for _ in range(8):
        noise = [LagRun(rng.normal(size=r.series.shape), 2.0, r.features) for r in runs]
        found = scan_delays(noise, clip_s=CLIP_S, tr_s=2.0, order=1)
        assert not any(found.is_far_off(delay, 2.0) for delay in found.delays_s), found


def test_a_curve_is_read_between_its_points():
    curve = LagScan((0.0, 2.0, 4.0, 6.0), (0.1, 0.2, 0.4, 0.4), 0.01)
    assert curve.best_s == pytest.approx(5.0)
    assert curve.at(3.0) == pytest.approx(0.3)
    assert LagScan((0.0, 2.0), (0.3, 0.1), 0.01).best_s == 0.0
    flat = LagScan((0.0, 2.0, 4.0, 6.0), (0.01, 0.02, 0.02, 0.01), 0.01)
    assert not flat.is_far_off(0.0, 2.0)


def test_one_run_is_too_few():
    with pytest.raises(ValueError, match="two runs"):
        scan_delays(_runs(2.0, 0.0, 2.0, 1.0, 2)[:1], clip_s=CLIP_S, tr_s=2.0, order=1)
