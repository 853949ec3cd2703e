"""What the single metrics say about cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from neuroclips_cli.data.resample import ArrayClips, frame_indices, resize
from neuroclips_cli.metrics import consistency, controls, nway, pixel, retrieval
from neuroclips_cli.metrics.statistics import summarize


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def test_identical_frames_score_one_and_a_finite_psnr():
    clips = noise(2, 3, 16, 16, 3)
    np.testing.assert_allclose(pixel.ssim(clips, clips), 1.0)
    np.testing.assert_array_equal(pixel.psnr(clips, clips), pixel.PSNR_CAP_DB)


def test_psnr_of_a_constant_offset_is_the_textbook_value():
    black = np.zeros((1, 1, 8, 8, 3), np.uint8)
    expected = 20 * np.log10(255 / 10)
    assert pixel.psnr(black + np.uint8(10), black)[0, 0] == pytest.approx(expected)


def test_pixel_metrics_refuse_clips_of_different_shape():
    with pytest.raises(ValueError, match="expected two arrays"):
        pixel.ssim(noise(1, 2, 8, 8, 3), noise(1, 3, 8, 8, 3))


def test_nway_agrees_with_drawing_distractors_at_random():
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(5, 20))
    classes = rng.integers(0, 20, size=5)
    for row, exact in enumerate(nway.nway_accuracy(scores, classes, 6)):
        others = np.delete(scores[row], classes[row])
        draws = np.stack([rng.choice(others, 5, replace=False) for _ in range(4000)])
        sampled = np.mean(scores[row, classes[row]] > draws.max(axis=1))
        assert exact == pytest.approx(sampled, abs=0.04)


@pytest.mark.parametrize("ways", [2, 10, 50])
@pytest.mark.parametrize("known", [1, 3])
def test_a_constant_prediction_is_exactly_at_chance(ways, known):
    classes = np.arange(known)[None]
    accuracy = nway.nway_accuracy(np.full((1, 60), 1 / 60), classes, ways)
    assert accuracy[0] == pytest.approx(nway.chance(ways, known), abs=1e-12)


def test_published_three_class_chance_is_not_one_half():
    assert nway.chance(2, 3) == 0.75
    assert nway.chance(2) == 0.5
    assert nway.chance(50) == pytest.approx(0.02)


def test_nway_needs_enough_classes():
    with pytest.raises(ValueError, match="50-way"):
        nway.nway_accuracy(np.ones((1, 10)), np.array([0]), 50)


def test_clip_pcc_is_one_for_a_frozen_clip_and_lower_for_a_changing_one():
    embeddings = np.random.default_rng(0).normal(size=(4, 6, 32))
    np.testing.assert_allclose(consistency.clip_pcc(consistency.frozen(embeddings)), 1.0)
    assert np.all(consistency.clip_pcc(embeddings) < 0.9)


def test_frames_are_picked_at_the_nearest_time():
    assert frame_indices(16, 8, 3).tolist() == [0, 3, 5, 8, 11, 13]
    assert frame_indices(14, 7, 3).tolist() == [0, 2, 5, 7, 9, 12]
    assert frame_indices(60, 30, 3).tolist() == [0, 10, 20, 30, 40, 50]
    assert frame_indices(6, 3, 3).tolist() == list(range(6))
    assert len(frame_indices(48, 8, 3)) == 18


def test_shrinking_averages_areas_and_the_same_size_is_left_alone():
    frames = noise(2, 8, 8, 3)
    small = resize(frames, 4)
    expected = frames.reshape(2, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    assert np.abs(small - expected).max() <= 1  # Pillow rounds after each axis
    assert resize(frames, 8) is frames
    assert resize(frames, 16).shape == (2, 16, 16, 3)


def test_array_clips_are_read_in_the_order_asked_for():
    array = noise(5, 16, 8, 8, 3)
    source = ArrayClips(array, np.array([4, 1, 0]), fps=8, target_fps=3, size=8)
    np.testing.assert_array_equal(
        source.read(np.array([2, 0]), 6), array[[0, 4]][:, [0, 3, 5, 8, 11, 13]]
    )


def test_retrieval_of_perfect_embeddings_is_perfect_and_of_constant_ones_nothing():
    rows = np.random.default_rng(0).normal(size=(20, 4, 8))
    parts = retrieval.random_parts(20, 10, np.random.default_rng(0))
    for rank in retrieval.ranks(retrieval.cosine_matrix(rows, rows, block=7), parts):
        assert retrieval.hits(rank, 1).mean() == 1.0
    constant = np.ones_like(rows)
    for rank in retrieval.ranks(retrieval.cosine_matrix(constant, constant), parts):
        assert retrieval.hits(rank, 1).mean() == 0.0


def test_parts_have_the_size_asked_for_and_share_no_clip():
    parts = retrieval.random_parts(25, 10, np.random.default_rng(0))
    assert parts.shape == (2, 10)
    assert len(np.unique(parts)) == 20
    assert retrieval.random_parts(7, 300, np.random.default_rng(0)).shape == (1, 7)


@pytest.mark.parametrize("count", [2, 3, 50])
def test_no_shuffle_pairs_a_clip_with_itself(count):
    orders = controls.derangements(count, 40, seed=1)
    assert not np.any(orders == np.arange(count))
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(count), (40, 1)))


def test_one_clip_alone_cannot_be_shuffled():
    with pytest.raises(ValueError, match="two clips"):
        controls.derangements(1, 1, seed=0)


def test_split_half_reliability_recovers_the_simulated_value_around_missing_scans():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(400, 1, 30))
    scans = signal + 2 * rng.normal(size=(400, 10, 30))
    scans[5, 3] = np.nan
    facts = controls.split_half_reliability(scans.astype(np.float32), block=7)
    expected = 1 / (1 + 4 / 5)  # signal variance over that of a mean of five
    assert facts["split_half_r"] == pytest.approx(expected, abs=0.05)
    assert facts["spearman_brown_r"] == pytest.approx(1 / (1 + 4 / 10), abs=0.05)


def test_bootstrap_interval_matches_theory_and_scenes_widen_it():
    rng = np.random.default_rng(0)
    scenes = np.repeat(np.arange(60), 4)
    values = rng.normal(size=60)[scenes]
    summary = summarize(values, samples=4000, seed=0, groups=scenes)
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    assert np.diff(summary.ci95)[0] / 2 == pytest.approx(half, rel=0.1)
    assert np.diff(summary.ci95_scenes)[0] / np.diff(summary.ci95)[0] == pytest.approx(2, rel=0.15)
    assert summary == summarize(values, samples=4000, seed=0, groups=scenes)


def test_clips_without_a_value_are_left_out_of_the_summary():
    summary = summarize(np.array([1.0, np.nan, 3.0]), samples=100)
    assert (summary.mean, summary.n) == (2.0, 2)
    with pytest.raises(ValueError, match="no clip"):
        summarize(np.array([np.nan]))


@pytest.mark.parametrize("size", [(7, 7), (8, 31), (70, 40), (71, 9)])
def test_ssim_is_that_of_scikit_image(size):
    made = noise(2, 2, *size, 3)
    true = (made // 3 + noise(2, 2, *size, 3)[::-1] // 2).astype(np.uint8)
    true[0, 0], made[0, 1], true[0, 1] = 255, 0, 255
    expected = [
        [
            structural_similarity(a, b, channel_axis=-1, data_range=255)
            for a, b in zip(*pair, strict=True)
        ]
        for pair in zip(made, true, strict=True)
    ]
    np.testing.assert_allclose(pixel.ssim(made, true), expected, atol=1e-6)


def test_ssim_of_frames_smaller_than_its_window_is_refused():
    with pytest.raises(ValueError, match="7 x 7"):
        pixel.ssim(noise(1, 2, 6, 8, 3), noise(1, 2, 6, 8, 3))
