"""The sign-flip test, Holm's correction, and paired differences between two runs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroclips_cli.metrics.statistics import holm, paired_differences, shared_clips, sign_flip_p


def test_few_scenes_are_tried_in_every_pattern():
    values = np.array([1.0, 2.0, -0.5, 3.0, 0.2, 0.1])
    scenes = np.array(["a", "a", "b", "c", "c", "d"])
    sums = np.array([3.0, -0.5, 3.2, 0.1])
    patterns = [abs(np.dot(s, sums)) for s in itertools.product((-1, 1), repeat=4)]
    expected = np.mean(np.array(patterns) >= abs(sums.sum()) - 1e-12)
    assert sign_flip_p(values, scenes) == pytest.approx(expected, abs=0)


def test_drawn_patterns_approach_the_exact_p_and_never_reach_zero():
    rng = np.random.default_rng(3)
    values = rng.normal(0.4, 1, 14)
    exact = sign_flip_p(values)
    drawn = sign_flip_p(values, permutations=5000)
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 5000))
    assert sign_flip_p(np.ones(60), permutations=999) == 1 / 1000
    assert sign_flip_p(np.zeros(60)) == 1


def test_scenes_guard_against_clips_that_repeat_each_other():
    """Without any effect, testing scenes keeps the 5 % level; testing clips breaks it."""
    rng = np.random.default_rng(5)
    scenes = np.arange(20).repeat(5)
    false_alarms = {"scenes": 0, "clips": 0}
    for _ in range(300):
        values = rng.normal(size=20).repeat(5) + 0.1 * rng.normal(size=100)
        false_alarms["scenes"] += sign_flip_p(values, scenes, 400) < 0.05
        false_alarms["clips"] += sign_flip_p(values, None, 400) < 0.05
    assert false_alarms["scenes"] <= 27  # 15 expected; 27 is the 99.8 % bound of 300 at 5 %
    assert false_alarms["clips"] > 60


def test_holm_agrees_with_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_between_the_raw_p_and_bonferroni_and_keeps_the_order(p):
    corrected = holm(p)
    for raw, stepped in zip(p, corrected, strict=True):
        assert raw <= stepped <= min(1, raw * len(p)) + 1e-12
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(np.array(corrected)[order]) >= 0)


def test_differences_are_paired_and_leave_out_what_a_metric_does_not_cover():
    rng = np.random.default_rng(0)
    theirs = {"ssim": rng.random(40), "part": rng.random(40), "only": rng.random(40)}
    ours = {"ssim": theirs["ssim"] + 0.1, "part": theirs["part"].copy(), "none": np.ones(40)}
    ours["part"][:30] = np.nan
    ours["void"], theirs["void"] = np.full(40, np.nan), np.ones(40)
    found = paired_differences(ours, theirs, np.arange(40) // 4, samples=200)
    assert list(found) == ["ssim", "part"]
    assert found["ssim"].summary.mean == pytest.approx(0.1)
    assert found["ssim"].summary.ci95 == pytest.approx((0.1, 0.1))
    assert (found["ssim"].units, found["part"].units) == (10, 3)
    assert found["ssim"].p == 2 / 2**10
    assert found["ssim"].p_holm == 4 / 2**10
    assert found["part"].p == 1


def test_shared_clips_keep_the_order_of_the_first_run():
    assert shared_clips([["9", "10", "2"], ["2", "9", "x"]]) == ["9", "2"]
