"""The seven metrics together, evaluated by small stand-ins for the classifiers and CLIP."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers import fake_evaluators

from neuroclips_cli.data.resample import ArrayClips, ClipShape
from neuroclips_cli.metrics import evaluation
from neuroclips_cli.metrics.common_time import NothingInCommon, pair_up
from neuroclips_cli.metrics.controls import derangements, scene_derangement
from neuroclips_cli.metrics.retrieval import KeyframeTokens, retrieve
from neuroclips_cli.metrics.statistics import summarize
from neuroclips_cli.protocols.rules import ProtocolRules

PLAN = evaluation.MeasureOptions(ways=(2, 50), batch_size=7, shuffles=3, seed=0)


def source(array: np.ndarray, rows: np.ndarray | None = None) -> ArrayClips:
    """Clips of 2 s at the protocol's rate."""
    rows = np.arange(len(array)) if rows is None else rows
    return ArrayClips(array, rows, fps=array.shape[1] / 2, target_fps=3, size=array.shape[2])


@pytest.fixture(scope="module")
def clips() -> np.ndarray:
    return fake_evaluators.draw_clips(60, 6)


@pytest.fixture(scope="module")
def perfect(clips: np.ndarray) -> evaluation.Scores:
    return evaluation.measure(source(clips), source(clips), fake_evaluators.fake_evaluators(), PLAN)


def test_a_perfect_reconstruction_scores_one(perfect):
    for name in ("frame_2way", "frame_50way", "video_2way", "video_50way", "ssim"):
        np.testing.assert_allclose(perfect.metrics[name], 1.0, err_msg=name)
    assert np.isfinite(perfect.metrics["psnr"]).all()
    np.testing.assert_array_equal(perfect.metrics["clip_pcc"], perfect.ground_truth["clip_pcc"])


def test_metrics_of_shuffled_pairs_are_lower_and_the_accuracies_at_chance(perfect):
    for name in evaluation.metric_names(PLAN.ways):
        if name != "clip_pcc":
            assert perfect.shuffled[name].mean() < perfect.metrics[name].mean() - 0.1, name
    assert perfect.shuffled["frame_2way"].mean() == pytest.approx(0.5, abs=0.1)
    assert perfect.shuffled["video_50way"].mean() == pytest.approx(0.02, abs=0.1)


def test_clip_pcc_does_not_notice_the_shuffle_and_a_frozen_frame_beats_it(perfect):
    shuffled, own = perfect.shuffled["clip_pcc"].mean(), perfect.metrics["clip_pcc"].mean()
    assert shuffled == pytest.approx(own, abs=0.01)
    np.testing.assert_allclose(perfect.frozen_frame["clip_pcc"], 1.0)


def test_unrelated_clips_are_at_chance_within_their_interval():
    clips, other = (fake_evaluators.draw_clips(300, 2, seed=seed) for seed in (0, 1))
    scores = evaluation.measure(
        source(other),
        source(clips),
        fake_evaluators.fake_evaluators(),
        evaluation.MeasureOptions(shuffles=0),
    )
    for name, chance in (("frame_2way", 0.5), ("video_2way", 0.5), ("frame_50way", 0.02)):
        low, high = summarize(scores.metrics[name], 1000).ci95
        assert low <= chance <= high, name
    assert scores.shuffled == {}


def test_the_result_does_not_depend_on_the_batch_size(clips, perfect):
    plan = evaluation.MeasureOptions(ways=(2, 50), batch_size=60, shuffles=3, seed=0)
    again = evaluation.measure(
        source(clips), source(clips), fake_evaluators.fake_evaluators(), plan
    )
    for name, values in perfect.shuffled.items():
        np.testing.assert_allclose(again.shuffled[name], values, err_msg=name)


def test_progress_reaches_the_announced_total(clips):
    done: list[int] = []
    plan = evaluation.MeasureOptions(batch_size=7, shuffles=3)
    evaluation.measure(
        source(clips), source(clips), fake_evaluators.fake_evaluators(), plan, done.append
    )
    assert sum(done) == evaluation.steps(len(clips), plan)


def test_many_clips_need_fewer_pixel_shuffles():
    assert evaluation.pixel_shuffles(100, 10) == 10
    assert evaluation.pixel_shuffles(1200, 10) == 2
    assert evaluation.pixel_shuffles(5000, 10) == 1
    assert evaluation.pixel_shuffles(5000, 0) == 0


def test_a_ground_truth_of_another_length_is_refused(clips):
    with pytest.raises(ValueError, match="60 reconstructions"):
        evaluation.measure(
            source(clips), source(clips[:5]), fake_evaluators.fake_evaluators(), PLAN
        )


def test_retrieval_from_the_right_tokens_is_perfect_and_from_shuffled_ones_at_chance(clips):
    rows = np.arange(60)[::-1]
    images = KeyframeTokens(clips, rows, fake_evaluators.PatchEmbedder())
    brain = fake_evaluators.PatchEmbedder().tokens(clips[rows, 3]).astype(np.float16)
    found = retrieve(brain, images, 20, shuffles=20, seed=0, block=9)
    assert found.part == 20
    for name, hit in found.metrics.items():
        assert hit.mean() == 1.0, name
        chance = (5 if name.endswith("top5") else 1) / 20
        assert found.shuffled[name].mean() == pytest.approx(chance, abs=0.05), name


def test_whole_scenes_are_exchanged_and_neighbors_stay_neighbors():
    scenes = np.repeat([f"s{number}" for number in range(7)], [5, 2, 9, 1, 4, 6, 3])
    rng = np.random.default_rng(0)
    for _ in range(50):
        order = scene_derangement(scenes, rng)
        assert sorted(order) == list(range(len(scenes)))
        assert np.all(scenes[order] != scenes)
        assert np.mean(np.diff(order) == 1) > 0.5
    assert scene_derangement(np.repeat(["a", "b"], [6, 4]), rng) is None


def test_the_scene_control_is_at_chance_where_neighbors_would_give_the_answer_away(clips):
    scenes = tuple(f"scene {number // 4}" for number in range(len(clips)))
    alike = np.repeat(clips[::4], 4, axis=0)[: len(clips)]
    plan = evaluation.MeasureOptions(ways=(2, 50), batch_size=7, shuffles=5, scenes=scenes)
    done: list[int] = []
    scores = evaluation.measure(
        source(alike), source(alike), fake_evaluators.fake_evaluators(), plan, done.append
    )
    assert sum(done) == evaluation.steps(len(clips), plan)
    assert scores.metrics["video_2way"].mean() == 1
    moved = scores.shuffled_scenes
    assert set(moved) == set(scores.shuffled)
    assert abs(moved["video_2way"].mean() - 0.5) < 0.2
    assert moved["ssim"].mean() < 0.7 < scores.metrics["ssim"].mean()
    without = evaluation.measure(
        source(alike), source(alike), fake_evaluators.fake_evaluators(), evaluation.MeasureOptions()
    )
    assert without.shuffled_scenes == {}


class Ragged:
    """Clips of different length, held as they are."""

    def __init__(self, clips: list[np.ndarray]) -> None:
        self.clips = clips
        self.lengths = np.array([len(clip) for clip in clips])

    def __len__(self) -> int:
        return len(self.clips)

    def read(self, clips: np.ndarray, frames: int) -> np.ndarray:
        return np.stack([self.clips[int(clip)][:frames] for clip in clips])


@pytest.mark.parametrize(
    "rules", [ProtocolRules(), ProtocolRules(truth_classes=3, pairs="all", similarity_gate=0.5)]
)
def test_pairs_of_different_length_have_the_values_of_each_pair_alone(rules):
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 7, size=14)
    true = [c[:n] for c, n in zip(fake_evaluators.draw_clips(14, 6), lengths, strict=True)]
    made = [c[:n] for c, n in zip(fake_evaluators.draw_clips(14, 6, seed=5), lengths, strict=True)]
    plan = evaluation.MeasureOptions(batch_size=4, shuffles=2, rules=rules, monte_carlo=20)
    together = evaluation.measure(
        Ragged(made), Ragged(true), fake_evaluators.fake_evaluators(), plan
    )
    alone = evaluation.MeasureOptions(shuffles=0, rules=rules)
    for row, (one, other) in enumerate(zip(made, true, strict=True)):
        single = evaluation.measure(
            Ragged([one]), Ragged([other]), fake_evaluators.fake_evaluators(), alone
        )
        for name, values in together.metrics.items():
            if len(one) == 1 and name == "clip_pcc":
                assert np.isnan(values[row]) and name not in single.metrics
            else:
                assert values[row] == pytest.approx(single.metrics[name][0], abs=1e-6), name
    order = derangements(14, 2, 0)
    for name in ("frame_2way", "clip_similarity", "ssim"):
        expected = np.zeros(14)
        for pairing in order:
            for row, source in enumerate(pairing):
                both = min(lengths[row], lengths[source])
                pair = Ragged([made[source][:both]]), Ragged([true[row][:both]])
                single = evaluation.measure(*pair, fake_evaluators.fake_evaluators(), alone)
                expected[row] += single.metrics[name][0] / 2
        np.testing.assert_allclose(together.shuffled[name], expected, atol=1e-6, err_msg=name)


def test_metrics_without_their_evaluators_are_left_out(clips):
    whole = evaluation.measure(
        source(clips), source(clips[::-1]), fake_evaluators.fake_evaluators(), PLAN
    )
    lacking = {
        "image": {"frame_2way", "frame_50way"},
        "video": {"video_2way", "video_50way"},
        "clip": {"clip_pcc", "clip_similarity"},
    }
    for evaluator, names in lacking.items():
        some = dataclasses.replace(fake_evaluators.fake_evaluators(), **{evaluator: None})
        scores = evaluation.measure(source(clips), source(clips[::-1]), some, PLAN)
        assert whole.metrics.keys() - scores.metrics.keys() == names
        assert scores.shuffled.keys() == scores.metrics.keys()
        for name, values in scores.metrics.items():
            np.testing.assert_array_equal(values, whole.metrics[name], err_msg=name)


def test_pairs_are_cut_to_the_time_that_both_clips_have():
    frames = np.arange(2 * 8, dtype=np.uint8).reshape(2, 8, 1, 1, 1).repeat(3, -1)

    class Shaped(Ragged):
        def __init__(self, clips, starts) -> None:
            super().__init__(clips)
            self.shapes = [
                ClipShape(len(c), 4, 1, 1, s) for c, s in zip(clips, starts, strict=True)
            ]

    made = Shaped([frames[0], frames[1][2:]], [0, 0.5])
    true = Shaped([frames[0][:5], frames[1]], [0, 0])
    pairs = pair_up(made, true, ["a", "b"], 4)
    assert [pair.compared_s for pair in pairs.unequal] == [1.25, 1.5]
    assert pairs.pred.lengths.tolist() == pairs.gt.lengths.tolist() == [5, 6]
    for row, count in ((0, 5), (1, 6)):
        read = [side.read(np.array([row]), count) for side in (pairs.pred, pairs.gt)]
        np.testing.assert_array_equal(*read)
    late = Shaped([frames[0], frames[1]], [0, 2.0])
    with pytest.raises(NothingInCommon, match="pair b: 2 to 4 s and 0 to 2 s"):
        pair_up(late, true, ["a", "b"], 4)
