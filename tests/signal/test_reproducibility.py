"""Trimming, standardizing and the reproducibility test on hand-made series."""

from __future__ import annotations

import numpy as np
import pytest

from neuroclips_cli.errors import UserError
from neuroclips_cli.signal.detrend import detrend, standardize
from neuroclips_cli.signal.reproducibility import interrun_correlation, select_voxels
from neuroclips_cli.signal.windows import (
    leading_volumes,
)


@pytest.mark.parametrize(("volumes", "leading"), [(245, 1), (246, 2)])
def test_leading_volumes_are_what_the_film_and_the_end_leave(volumes, leading):
    assert leading_volumes(volumes, 240, 4, run="seg1_1", film="seg1.mp4") == leading


@pytest.mark.parametrize("volumes", [200, 244, 247, 300])
def test_a_wrong_number_of_volumes_names_the_file_and_both_counts(volumes):
    with pytest.raises(UserError) as error:
        leading_volumes(volumes, 240, 4, run="seg1_1.nii", film="seg1.mp4")
    message = str(error.value)
    assert "seg1_1.nii" in message and str(volumes) in message and "245 or 246" in message


def test_any_polynomial_of_the_order_vanishes():
    time = np.linspace(0, 1, 50)[:, None]
    series = 10000 + 300 * time - 900 * time**2 + 50 * time**4
    assert np.abs(detrend(series, 4)).max() < 1e-8


def test_columns_with_nan_or_without_variance_are_zero_and_reported():
    rng = np.random.default_rng(0)
    series = rng.normal(1e4, 20, (60, 4))
    series[3, 1] = np.nan
    series[:, 2] = 9000.0
    z, usable = standardize(series)
    assert usable.tolist() == [True, False, False, True]
    assert np.isfinite(z).all() and not z[:, 1:3].any()
    assert np.allclose(z[:, [0, 3]].std(axis=0, ddof=1), 1)


def test_a_pure_drift_counts_as_constant():
    series = 1e4 + np.arange(60.0)[:, None] ** 2
    assert not standardize(series)[1].any()


def test_a_constant_column_correlates_zero():
    assert interrun_correlation(np.ones((9, 1)), np.arange(9.0)[:, None])[0] == 0


def test_selection_wants_positive_correlation_and_leaves_excluded_voxels_out():
    rng = np.random.default_rng(1)
    z = rng.normal(0, 0.1, (18, 5))
    z[:, 0] += 1
    z[:, 1] -= 1
    z[:, 2] += 1
    z[:, 3] += 1
    chosen = select_voxels(
        z,
        0.05,
        usable=np.array([True, True, False, True, True]),
        region=np.array([True, True, True, False, True]),
    )
    assert chosen.selected.tolist() == [True, False, False, False, False]
    assert chosen.p_threshold == 0.01
    assert chosen.p[2] == 1 and chosen.t[2] == 0
