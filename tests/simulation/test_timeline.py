"""Responses at any TR: between volumes, before and after films, and the delay that is true."""

from __future__ import annotations

import numpy as np
import pytest

from neuroclips_cli.simulation.hemodynamics import best_delay_s, double_gamma, response_at
from neuroclips_cli.simulation.timeline import Showing, Timeline, volumes_for

STEPS_S = (0.8, 1.0, 1.49, 2.0)


def _convolved(drive: np.ndarray, bin_s: float, times_s: np.ndarray) -> np.ndarray:
    """Return the response by a convolution on a grid of 10 ms."""
    fine = np.repeat(drive, round(bin_s / 0.01))
    kernel = double_gamma(np.arange(0, 33, 0.01))
    answer = np.convolve(fine, kernel)[: len(fine) + len(kernel)] * 0.01
    return np.interp(times_s, (np.arange(len(answer)) + 0.5) * 0.01, answer)


@pytest.mark.parametrize("tr_s", STEPS_S)
def test_the_response_is_right_between_volumes(tr_s):
    drive = np.random.default_rng(3).standard_normal(120)
    times_s = np.arange(5, 90, tr_s) + 0.5 * tr_s
    expected = _convolved(drive, 0.5, times_s)
    assert np.abs(response_at(times_s, 120, 0.5) @ drive - expected).max() < 0.01 * expected.std()


def test_a_stretch_of_a_film_drives_the_run_when_it_is_shown():
    shown = (
        Showing("seg1", 7.3, 12.0, 4.0),
        Showing("seg2", 40.0, 6.0),
        Showing("seg1", 70.1, 3.0),
    )
    timeline = Timeline(volumes_for(110, 1.49), 1.49, shown)
    matrices = timeline.response_matrices({"seg1": 40, "seg2": 12, "test1": 8})
    assert set(matrices) == {"seg1", "seg2"}
    drive = {
        name: np.random.default_rng(1).standard_normal(m.shape[1]) for name, m in matrices.items()
    }
    screen = np.zeros(220)  # what was on, in bins of .5 s that begin 0.3 s after each showing's
    expected = np.zeros(timeline.volumes)
    times_s = (np.arange(timeline.volumes) + 0.5) * 1.49
    for showing in shown:
        first = round(showing.film_start_s / 0.5)
        piece = drive[showing.film][first : first + round(showing.duration_s / 0.5)]
        screen[: len(piece)] = piece
        late = times_s - showing.scan_start_s
        expected += np.where(late > 0, _convolved(piece, 0.5, late), 0)
    answer = sum(matrices[name] @ drive[name] for name in matrices)
    assert np.abs(answer - expected).max() < 0.02 * expected.std()
    assert not answer[times_s < 7.3].any()


@pytest.mark.parametrize("tr_s", STEPS_S)
@pytest.mark.parametrize("clip_s", [2.0, 3.0, 4.0])
def test_the_true_delay_is_where_the_answer_to_a_clip_peaks(tr_s, clip_s):
    delays_s = np.arange(0, 15, 0.05)
    answer = _convolved(np.ones(round(clip_s / 0.5)), 0.5, delays_s + tr_s / 2)
    assert abs(best_delay_s(clip_s, tr_s) - delays_s[answer.argmax()]) <= 0.06
