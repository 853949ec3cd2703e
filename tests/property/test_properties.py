"""What must hold for any input: signal, losses and metrics (hypothesis)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neuroclips_cli.data.resample import frame_count, frame_indices
from neuroclips_cli.losses.contrastive import frame_info_nce, info_nce
from neuroclips_cli.losses.mixco import draw_mix, mix_rows, mix_targets
from neuroclips_cli.metrics.nway import chance, nway_accuracy, win_probability
from neuroclips_cli.metrics.pixel import PSNR_CAP_DB, psnr, ssim
from neuroclips_cli.metrics.retrieval import cosine_matrix
from neuroclips_cli.metrics.statistics import bootstrap_interval
from neuroclips_cli.signal.detrend import detrend, polynomial_basis, standardize, usable_columns
from neuroclips_cli.signal.quality import saturated_columns, scan_run
from neuroclips_cli.signal.reproducibility import fisher_z, interrun_correlation
from neuroclips_cli.signal.windows import film_window, leading_volumes

few = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
values = st.floats(-1e6, 1e6, width=32)
series = arrays(np.float32, st.tuples(st.integers(12, 40), st.integers(1, 6)), elements=values)


@few
@given(series, st.floats(0.01, 100), st.floats(-1e3, 1e3))
def test_standardizing_forgets_scale_and_offset(data, scale, offset):
    z, usable = standardize(data, 2)
    again, _ = standardize(data.astype(np.float64) * scale + offset, 2)
    assert np.isfinite(z).all() and (z[:, ~usable] == 0).all()
    assert np.allclose(z[:, usable].mean(axis=0), 0, atol=1e-6)
    assert np.allclose(z[:, usable].std(axis=0, ddof=1), 1, atol=1e-6)
    clear = usable & (detrend(data, 2).std(axis=0) > 1e-4 * (np.abs(data).max(axis=0) + offset**2))
    assert np.allclose(z[:, clear], again[:, clear], atol=1e-3)


@few
@given(series, st.integers(0, 4))
def test_detrending_twice_is_detrending_once_and_leaves_nothing_of_the_polynomials(data, order):
    once = detrend(data, order)
    size = np.abs(data).max() + 1e-6
    assert np.allclose(detrend(once, order), once, atol=1e-6 * size)
    assert np.abs(polynomial_basis(len(data), order).T @ once).max() < 1e-6 * size * len(data)


@few
@given(series, st.sampled_from([np.nan, np.inf, -np.inf]), st.data())
def test_a_bad_value_costs_its_own_voxel_only(data, bad, draw):
    row = draw.draw(st.integers(0, data.shape[0] - 1))
    column = draw.draw(st.integers(0, data.shape[1] - 1))
    before = usable_columns(data)
    data[row, column] = bad
    after = usable_columns(data)
    found = scan_run(data)
    assert not after[column] and (np.delete(after, column) == np.delete(before, column)).all()
    assert np.flatnonzero(~found.finite).tolist() == [column]
    assert found.first_bad[column] == row
    assert (np.delete(found.first_bad, column) == -1).all()


@few
@given(series)
def test_saturated_voxels_are_never_the_constant_ones(data):
    assert not (saturated_columns(data) & (data.max(axis=0) == data.min(axis=0))).any()
    ramp = np.arange(len(data), dtype=np.float32)[:, None]
    assert not saturated_columns(ramp).any()
    assert saturated_columns(np.minimum(ramp, ramp[len(ramp) // 2])).all()


@few
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(6, 80), st.integers(1, 30)),
        elements=st.sampled_from([*range(-4, 5), np.nan, np.inf, -np.inf]),
        fill=st.sampled_from([0.0, 0.5]),
    ),
    st.data(),
)
def test_saturated_voxels_are_those_often_at_their_largest_or_smallest_value(data, draw):
    for column in range(0, data.shape[1], 2):  # few ties, so that hardly any row is counted
        data[:, column] = draw.draw(st.permutations(range(len(data))))

    def often_at_an_edge(values: np.ndarray) -> bool:
        edges = [int((values == edge).sum()) for edge in (values.min(), values.max())]
        return values.max() > values.min() and max(edges) >= max(6, len(values) // 10)

    assert saturated_columns(data).tolist() == [often_at_an_edge(v) for v in data.T]


@few
@given(series, series)
def test_correlations_lie_between_minus_and_plus_one_and_are_symmetric(first, second):
    rows, columns = (min(a, b) for a, b in zip(first.shape, second.shape, strict=True))
    a, b = first[:rows, :columns], second[:rows, :columns]
    r = interrun_correlation(a, b)
    assert (np.abs(r) <= 1 + 1e-9).all() and np.isfinite(fisher_z(r)).all()
    assert np.allclose(r, interrun_correlation(b, a))


@few
@given(st.integers(6, 500), st.sampled_from([1, 2]), st.integers(0, 6), st.data())
def test_every_clip_has_its_response_within_the_run(clips, leading, trailing, draw):
    delay = draw.draw(st.integers(0, trailing))
    volumes = leading + clips + trailing
    assert leading_volumes(volumes, clips, trailing, run="r", film="f") == leading
    window = film_window(leading, clips)
    assert window.stop - window.start == clips and window.stop + delay <= volumes


batches = st.tuples(st.integers(2, 8), st.integers(2, 6), st.integers(0, 10**6))


def _unit(count: int, dim: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, dim, generator=generator), dim=1)


@few
@given(batches, st.floats(0.02, 2))
def test_infonce_does_not_depend_on_the_order_of_pairs_and_is_at_most_log_n_for_equal_rows(
    sizes, temperature
):
    count, dim, seed = sizes
    a, b = _unit(count, dim, seed), _unit(count, dim, seed + 1)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    loss = info_nce(a, b, temperature)
    assert loss >= 0 and torch.isfinite(loss)
    assert torch.allclose(loss, info_nce(a[order], b[order], temperature), atol=1e-4)
    assert torch.allclose(loss, info_nce(b, a, temperature), atol=1e-4)
    same = a[:1].expand(count, -1)
    assert float(info_nce(same, same, temperature)) == pytest.approx(math.log(count), abs=1e-4)
    clips = frame_info_nce(a[None], b[None], temperature)
    assert torch.allclose(clips, frame_info_nce(3 * a[None], b[None], temperature), atol=1e-4)


@few
@given(batches)
def test_mixing_keeps_each_row_between_its_two_parents_and_targets_sum_to_one(sizes):
    count, dim, seed = sizes
    torch.manual_seed(seed)
    mix = draw_mix(count, 0.15, torch.device("cpu"))
    rows = _unit(count, dim, seed)
    mixed, targets = mix_rows(rows, mix), mix_targets(mix)
    other = mix.partner != torch.arange(count)
    # a row that is its own partner keeps what the original's assignment leaves it
    assert torch.allclose(targets.sum(1)[other], torch.ones(int(other.sum())), atol=1e-5)
    assert torch.allclose(targets.diagonal()[~other], 1 - mix.coefficient[~other])
    assert torch.allclose((targets @ rows)[other], mixed[other], atol=1e-5)
    assert (targets >= 0).all()


clips = arrays(np.uint8, (1, 2, 8, 8, 3))


@few
@given(clips, clips)
def test_pixel_metrics_are_symmetric_bounded_and_best_for_equal_frames(a, b):
    for metric, best in ((ssim, 1.0), (psnr, PSNR_CAP_DB)):
        found = metric(a, b)
        assert np.isfinite(found).all() and (found <= best + 1e-9).all()
        assert np.allclose(found, metric(b, a))
        assert np.allclose(metric(a, a), best)
    assert (ssim(a, b) >= -1 - 1e-9).all() and (psnr(a, b) >= -1e-9).all()


@few
@given(st.integers(3, 60), st.data())
def test_the_chance_to_win_lies_between_0_and_1_and_falls_with_more_ways(others, draw):
    above = draw.draw(st.integers(0, others))
    tied = draw.draw(st.integers(0, others - above))
    ways = draw.draw(st.integers(2, others))
    p = win_probability(others, above, tied, ways)
    assert 0 <= p <= 1 + 1e-12
    assert win_probability(others, above, tied, ways + 1) <= p + 1e-9
    assert win_probability(others, 0, 0, ways) == pytest.approx(1)


@few
@given(arrays(np.float64, (6, 12), elements=st.floats(0, 1)), st.integers(2, 8))
def test_nway_accuracy_averages_to_chance_over_all_classes(scores, ways):
    every = [nway_accuracy(scores, np.full(len(scores), c)[:, None], ways) for c in range(12)]
    assert np.allclose(np.mean(every, axis=0), chance(ways), atol=1e-9)


@few
@given(batches)
def test_cosines_do_not_depend_on_the_length_of_rows(sizes):
    count, dim, seed = sizes
    rows = np.random.default_rng(seed).standard_normal((count, dim))
    matrix = cosine_matrix(rows, 3 * rows)
    assert np.allclose(np.diag(matrix), 1, atol=1e-5) and (np.abs(matrix) <= 1 + 1e-5).all()
    assert np.allclose(matrix, matrix.T, atol=1e-5)


@few
@given(st.integers(1, 200), st.floats(0.5, 60), st.floats(0.5, 60))
def test_resampled_frames_exist_and_come_in_order(frames, fps, target):
    index = frame_indices(frames, fps, target)
    assert len(index) == frame_count(frames, fps, target)
    assert (np.diff(index) >= 0).all() and index.min() >= 0 and index.max() < frames


@few
@given(arrays(np.float64, st.integers(2, 30), elements=st.floats(-5, 5)), st.integers(0, 99))
def test_an_interval_holds_the_mean_of_symmetric_values(data, seed):
    both = np.concatenate([data, -data])
    low, high = bootstrap_interval(both, 200, seed)
    assert low <= high and both.min() - 1e-9 <= low and high <= both.max() + 1e-9
