"""Preprocessing against the numbers of the original MATLAB code (Wen et al. 2017)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from neuroclips_cli.signal.detrend import detrend, standardise
from neuroclips_cli.signal.reproducibility import fisher_z, repeat_correlation, select_voxels
from neuroclips_cli.signal.windows import film_window, leading_volumes

pytestmark = pytest.mark.oracle
SHARED = Path(os.environ.get("NEUROCLIPS_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="module")
def reference():
    path = SHARED / "fixtures" / "preprocess_reference.npz"
    if not path.exists():
        pytest.skip(f"reference data not found: {path}")
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("run", ["run245", "run246"])
def test_trimmed_detrended_and_standardised_runs_match_the_original(reference, run):
    series = [reference[f"{run}_x{i}"].T for i in (1, 2)]
    leading = leading_volumes(len(series[0]), 240, 4, run=run, film="film")
    assert leading == reference[f"{run}_drop_first"]
    trimmed = [x[film_window(leading, 240)] for x in series]
    stored = int(reference[f"{run}_n_full_voxels"])
    angle = np.cos(0.37 * np.arange(1, 241))
    scores = []
    for i, x in enumerate(trimmed, start=1):
        flat = detrend(x)
        assert np.abs(flat[:, :stored].T - reference[f"{run}_detrended{i}"]).max() < 1e-8
        spread = reference[f"{run}_detrended{i}_std_ddof1"]
        assert np.allclose(flat.std(axis=0, ddof=1), spread, rtol=1e-11)
        z, usable = standardise(x)
        assert usable.all()
        assert np.abs(z[:, :stored].T - reference[f"{run}_z{i}"]).max() < 1e-10
        assert np.allclose(angle @ z, reference[f"{run}_z{i}_dot_cos"], atol=1e-8)
        scores.append(z)
    r = repeat_correlation(*scores)
    assert np.allclose(r, reference[f"{run}_r"], atol=1e-11)
    assert np.allclose(fisher_z(r), reference[f"{run}_fisher_z"], atol=1e-11)


def test_the_t_test_over_segments_and_its_mask_match_the_original(reference):
    chosen = select_voxels(fisher_z(reference["seg_r"]).T, 0.05)
    assert np.allclose(fisher_z(reference["seg_r"]), reference["seg_fisher_z"], atol=1e-11)
    assert np.allclose(chosen.mean_z, reference["seg_mean_fisher_z"], atol=1e-11)
    assert np.allclose(chosen.t, reference["seg_t"], rtol=1e-9)
    assert np.allclose(chosen.p, reference["seg_p_two_sided"], rtol=1e-7)
    mask = reference["seg_mask_bonf05_two_sided_and_positive"]
    assert np.array_equal(chosen.selected, mask)
    assert mask.sum() == 39


def test_raw_segments_give_the_original_correlations_end_to_end(reference):
    voxels = reference["seg_raw_voxels"]
    for segment in range(18):
        pair = [reference[f"seg_raw_x{i}"][:, :, segment].T[film_window(1, 240)] for i in (1, 2)]
        r = repeat_correlation(*(standardise(x)[0] for x in pair))
        assert np.allclose(r, reference["seg_r"][voxels, segment], atol=1e-11)
