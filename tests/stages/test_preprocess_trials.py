"""Trials of a few seconds: what preprocess makes of them, or says."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.simulation_world import CORTEX, settings_for, simulated_layout

from neuroclips_cli.errors import UserError
from neuroclips_cli.stages import preprocess


def test_trials_are_too_short_for_the_correlation_of_their_repetitions(tmp_path):
    root = simulated_layout("bold-moments")
    settings = settings_for(root, tmp_path, data__clip_s=3.0, data__standardize="run")
    with pytest.raises(UserError, match=r"was on for a few volumes only.* data\.selection"):
        preprocess.run(settings)


def test_trials_with_voxels_of_an_atlas_become_one_response_each(tmp_path):
    """Eight videos of either training run, seen twice in an order of their own."""
    root = simulated_layout("bold-moments")
    more = {"data__standardize": "run", "data__selection": "atlas"}
    done = preprocess.run(settings_for(root, tmp_path, data__clip_s=3.0, **more))
    train = np.load(done / "fmri_train.npy", mmap_mode="r")
    test = np.load(done / "fmri_test_repetitions.npy", mmap_mode="r")
    assert train.shape == (16, 2, CORTEX) and test.shape == (8, 2, CORTEX)
    assert np.isfinite(train).all()
    with np.load(root / "truth/sub-01_ground_truth.npz", allow_pickle=False) as truth:
        clear = truth["noise_ceiling"] > 0.6
    assert clear.sum() > 200
    pairs = [np.corrcoef(train[:, 0, v], train[:, 1, v])[0, 1] for v in np.flatnonzero(clear)]
    assert np.mean(pairs) > 0.3
