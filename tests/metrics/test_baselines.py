"""Predictions that decode nothing."""

from __future__ import annotations

import numpy as np
import pytest

from neuroclips_cli.metrics import baselines
from neuroclips_cli.signal.reproducibility import mean_over_repetitions


def test_the_nearest_scan_is_the_one_that_correlates_most():
    rng = np.random.default_rng(0)
    library = rng.normal(size=(37, 20)).astype(np.float32)
    scans = rng.normal(size=(9, 20)).astype(np.float32)
    scans[0] = 5 * library[30] + 2  # scale and offset do not matter
    library[4] = 1.0  # a constant scan correlates with nothing
    with np.errstate(invalid="ignore"):
        r = np.nan_to_num(np.corrcoef(scans, library)[:9, 9:])
    for block in (1, 10, 100):
        found = baselines.nearest_scans(scans, library, block)
        assert found.tolist() == r.argmax(axis=1).tolist()
    assert found[0] == 30


def test_the_mean_frame_is_over_all_frames_of_all_clips():
    clips = np.random.default_rng(1).integers(0, 256, (7, 3, 4, 5, 3), dtype=np.uint8)
    found = baselines.mean_frame(clips, block=2)
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.rint(clips.mean(axis=(0, 1))))


def test_noise_has_every_voxels_mean_and_deviation_and_its_seed():
    scans = np.random.default_rng(2).normal([1, -3], [0.5, 2], size=(4000, 2)).astype(np.float32)
    noise = baselines.noise_scans(scans, seed=7)
    assert noise.mean(axis=0) == pytest.approx(scans.mean(axis=0), abs=0.1)
    assert noise.std(axis=0) == pytest.approx(scans.std(axis=0), rel=0.05)
    assert abs(np.corrcoef(noise[:, 0], scans[:, 0])[0, 1]) < 0.06
    assert np.array_equal(noise, baselines.noise_scans(scans, seed=7))


def test_missing_repetitions_are_averaged_around():
    repetitions = np.array([[[1.0, np.nan], [3, np.nan]], [[2, 4], [np.nan, 0]]], np.float32)
    for block in (1, 256):
        assert mean_over_repetitions(repetitions, block).tolist() == [[2, 0], [2, 2]]
