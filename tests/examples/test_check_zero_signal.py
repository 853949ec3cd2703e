"""The check that nothing is decoded from noise counts what it should."""

from __future__ import annotations

import check_zero_signal as check


def test_only_a_better_run_counts_as_beating_a_control():
    nothing = {"ssim": (0.1, 0.2, 1.0), "psnr": (-1.0, 0.001, 0.002)}
    better = {"ssim": (0.1, 0.01, 0.02), "psnr": (0.5, 0.04, 0.08)}
    found = [dict.fromkeys(check.CONTROLS, nothing), dict.fromkeys(check.CONTROLS, better)]
    for _, whole, alone in check.tally(found):
        assert whole == 1
        assert alone == {"ssim": 1, "psnr": 1}


def test_every_subject_is_another_one_without_signal(tmp_path):
    first, second = (check.settings_of(tmp_path, number) for number in (1, 2))
    assert first.simulate.signal_scale == second.simulate.signal_scale == 0
    assert first.run.seed != second.run.seed
    assert first.run.dataset != second.run.dataset
