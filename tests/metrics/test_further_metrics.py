"""Sampled accuracies, forms of SSIM, correlation, hue, motion and the likeness by CLIP."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import fake_evaluators

from neuroclips_cli.data.resample import ArrayClips
from neuroclips_cli.errors import UserError
from neuroclips_cli.metrics import captions, consistency, evaluation, flow, nway, pixel
from neuroclips_cli.metrics.perceptual import LAYERS, SHAPES, Lpips
from neuroclips_cli.metrics.retrieval import NotFinite, cosine_matrix
from neuroclips_cli.protocols.rules import SSIM_VARIANTS, ProtocolRules


def source(array: np.ndarray) -> ArrayClips:
    return ArrayClips(array, np.arange(len(array)), array.shape[1] / 2, 3, array.shape[2])


@pytest.mark.parametrize("known", [1, 3])
@pytest.mark.parametrize("ways", [2, 50])
def test_drawing_agrees_with_the_closed_form_within_its_error_and_has_a_seed(ways, known):
    rng = np.random.default_rng(4)
    scores = rng.normal(size=(40, 60))
    scores[:5] = 0.0  # ties throughout
    classes = np.argsort(rng.normal(size=(40, 60)), axis=1)[:, :known]
    exact = nway.nway_accuracy(scores, classes, ways)
    draws = [
        nway.sampled_accuracy(scores, classes, ways, 4000, np.random.default_rng(1))
        for _ in range(2)
    ]
    np.testing.assert_array_equal(draws[0][0], draws[1][0])
    values, errors = draws[0]
    assert np.all(np.abs(values - exact) <= 5 * np.sqrt(exact * (1 - exact) / 4000) + 1e-12)
    np.testing.assert_allclose(errors, np.sqrt(values * (1 - values) / 4000))


def test_drawing_needs_enough_classes():
    with pytest.raises(ValueError, match="50-way"):
        nway.sampled_accuracy(np.ones((1, 10)), np.array([0]), 50, 5, np.random.default_rng(0))


@pytest.mark.parametrize("variant", SSIM_VARIANTS)
def test_every_form_of_ssim_gives_one_for_equal_frames_and_refuses_tiny_ones(variant):
    clips = fake_evaluators.draw_clips(2, 2, size=24)
    other = fake_evaluators.draw_clips(2, 2, size=24, seed=5)
    np.testing.assert_allclose(pixel.ssim_variant(clips, clips, variant), 1.0)
    assert np.all(pixel.ssim_variant(clips, other, variant) < 0.9)
    with pytest.raises(ValueError, match="pixels or more"):
        pixel.ssim_variant(clips[:, :, :6, :6], clips[:, :, :6, :6], variant)


def test_grey_columns_reads_the_picture_upright_only():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 1, 1, 32, 32, 3), dtype=np.uint8)
    a[..., ::2, :] //= 4  # vertical stripes
    b[..., ::2, :] //= 4
    upright = pixel.ssim_variant(a, b, "grey-columns")
    turned = pixel.ssim_variant(a.swapaxes(2, 3), b.swapaxes(2, 3), "grey-columns")
    assert abs(upright - turned)[0, 0] > 0.01


def test_correlation_is_that_of_numpy_and_one_color_correlates_with_nothing():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 2, 3, 8, 9, 3), dtype=np.uint8)
    expected = [
        [np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(*pair, strict=True)]
        for pair in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(pixel.pearson(a, b), expected, atol=1e-12)
    assert np.all(pixel.pearson(np.full_like(a, 7), b) == 0)


def test_hue_of_equal_frames_is_one_and_of_grey_ones_nothing():
    clips = fake_evaluators.draw_clips(2, 3)
    np.testing.assert_allclose(pixel.hue_similarity(clips, clips), 1.0)
    grey = np.repeat(clips[..., :1], 3, axis=-1)
    assert np.all(pixel.hue_similarity(grey, clips) == 0)


def test_hue_is_opencvs_for_every_kind_of_color():
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    colors = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    expected = cv2.cvtColor(colors, cv2.COLOR_BGR2HSV)[..., 0]
    np.testing.assert_array_equal(pixel._swapped_hue(colors), expected)


def test_motion_that_agrees_has_no_end_point_error():
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    base = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    still = np.kron(base, np.ones((4, 4, 1))).astype(np.uint8)[None, None].repeat(3, axis=1)
    moving = np.stack([np.roll(still[0, 0], 2 * step, axis=1) for step in range(3)])[None]
    assert flow.end_point_error(moving, moving)[0] == 0
    assert 0.5 < flow.end_point_error(moving, still)[0] < 6


def test_what_is_not_installed_is_one_sentence(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match=r"needs OpenCV: pip install 'neuroclips\[flow\]'"):
        flow.load_opencv()
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image.lpips", None)
    with pytest.raises(UserError, match=r"needs torchmetrics: pip install 'neuroclips\[lpips\]'"):
        Lpips("")


def test_lpips_reads_local_weights_and_says_when_there_are_none(tmp_path):
    pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
    import torch

    with pytest.raises(UserError, match="needs torchvision's AlexNet weights and found none"):
        Lpips("")
    (tmp_path / "junk.pth").write_bytes(b"no weights")
    with pytest.raises(UserError, match="found none in .*junk"):
        Lpips(str(tmp_path / "junk.pth"))
    torch.manual_seed(0)
    weights = {}
    for layer, shape in zip(LAYERS, SHAPES, strict=True):
        weights[f"features.{layer}.weight"] = torch.randn(shape) / np.sqrt(np.prod(shape[1:]))
        weights[f"features.{layer}.bias"] = torch.zeros(shape[0])
    torch.save(weights, tmp_path / "alexnet.pth")
    distance = Lpips(str(tmp_path / "alexnet.pth"))
    first = distance.network.net.slice1[0].weight
    assert torch.equal(first, weights[f"features.{LAYERS[0]}.weight"])
    clips, other = (fake_evaluators.draw_clips(2, 2, size=64, seed=seed) for seed in (0, 1))
    assert np.allclose(distance(clips, clips), 0, atol=1e-7)
    assert np.all(distance(clips, other) > 1e-5)


def test_all_pairs_see_a_drift_that_adjacent_frames_hide():
    angles = np.linspace(0, np.pi / 2, 6)
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)[None]
    assert consistency.clip_pcc(embeddings)[0] == pytest.approx(np.cos(np.pi / 10))
    pairs = [np.cos(b - a) for i, a in enumerate(angles) for b in angles[i + 1 :]]
    assert consistency.clip_pcc(embeddings, "all")[0] == pytest.approx(np.mean(pairs))


def test_rules_change_the_class_chance_and_gate_the_smoothness():
    clips, other = (fake_evaluators.draw_clips(200, 2, seed=seed) for seed in (0, 1))
    evaluators = fake_evaluators.fake_evaluators()
    three = evaluation.MeasureOptions(
        shuffles=0, rules=ProtocolRules(truth_classes=3, similarity_gate=0.5), monte_carlo=50
    )
    scores = evaluation.measure(source(other), source(clips), evaluators, three)
    assert scores.metrics["frame_2way"].mean() == pytest.approx(nway.chance(2, 3), abs=0.08)
    gated = scores.metrics["clip_pcc"] == 0
    assert 0.1 < gated.mean() < 1
    plain = evaluation.measure(
        source(other), source(clips), evaluators, evaluation.MeasureOptions(shuffles=0)
    )
    np.testing.assert_array_equal(
        scores.metrics["clip_pcc"][~gated], plain.metrics["clip_pcc"][~gated]
    )
    for name, (values, errors) in scores.monte_carlo.items():
        gap = abs(values.mean() - scores.metrics[name].mean())
        assert gap < 5 * np.sqrt((errors**2).sum()) / len(errors), name


def test_clip_similarity_is_one_for_the_film_itself_and_lower_for_another():
    clips = fake_evaluators.draw_clips(20, 3)
    plan = evaluation.MeasureOptions(shuffles=2)
    scores = evaluation.measure(
        source(clips), source(clips), fake_evaluators.fake_evaluators(), plan
    )
    for name in evaluation.extra_metric_names():
        np.testing.assert_allclose(scores.metrics[name], 1.0, err_msg=name)
        assert scores.shuffled[name].mean() < 0.97, name


def test_captions_that_agree_are_alike_and_shuffled_ones_are_not():
    texts = np.random.default_rng(0).normal(size=(30, 16))
    values, shuffled = captions.similarity(texts, texts, shuffles=4, seed=0)
    np.testing.assert_allclose(values["caption_similarity"], 1.0)
    assert abs(shuffled["caption_similarity"].mean()) < 0.2
    assert captions.similarity(texts[:1], texts[:1], shuffles=4, seed=0)[1] == {}


def test_embeddings_with_nan_win_nothing_but_are_refused():
    rows = np.random.default_rng(0).normal(size=(6, 4))
    rows[2, 1] = np.nan
    with pytest.raises(NotFinite, match="not finite"):
        cosine_matrix(rows, np.ones((6, 4)))
