"""Chains of clips and the matcher that decides on them."""

from __future__ import annotations

import numpy as np

from neuroclips_cli.generation.fusion import build_chains, neighbors
from neuroclips_cli.models.matcher import Matcher, draw_pairs, fit_matcher


def test_only_clips_that_follow_each_other_in_a_segment_are_neighbors():
    segments = ["1", "1", "1", "2", "2"]
    onsets = [0.0, 2.0, 6.0, 8.0, 10.0]
    assert neighbors(segments, onsets, 2.0).tolist() == [True, False, False, True]


def test_chains_end_at_a_change_or_when_they_are_full():
    joined = np.array([True, True, True, True, False, True])
    assert build_chains(joined, longest=3) == [[0, 1, 2], [3, 4], [5, 6]]
    assert build_chains(joined, longest=1) == [[clip] for clip in range(7)]
    assert build_chains(np.zeros(0, dtype=bool), longest=3) == [[0]]


def scenes(count: int, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    centers = rng.normal(size=(count, 16))
    rows = np.repeat(centers, 4, axis=0) + 0.2 * rng.normal(size=(4 * count, 16))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32), [str(scene) for scene in range(count) for _ in range(4)]


def test_pairs_are_half_matching_and_half_different():
    groups = ["a", "a", "b", "b", "c"]
    pairs = draw_pairs(groups, 20, np.random.default_rng(0))
    match = [groups[i] == groups[j] for i, j in zip(pairs.first, pairs.second, strict=True)]
    assert match == [bool(same) for same in pairs.same] and sum(match) == 20
    assert all(i != j for i, j in zip(pairs.first, pairs.second, strict=True))
    assert len(draw_pairs(["a", "a"], 4, np.random.default_rng(0)).same) == 0
    assert len(draw_pairs(["a", "b"], 4, np.random.default_rng(0)).same) == 0


def test_the_matcher_learns_scenes_that_it_has_not_seen():
    rng = np.random.default_rng(0)
    rows, groups = scenes(60, rng)
    other, other_groups = scenes(20, rng)
    matcher, facts = fit_matcher(
        rows,
        draw_pairs(groups, 600, rng),
        (other, draw_pairs(other_groups, 200, rng)),
        hidden=32,
        epochs=20,
        learning_rate=3e-3,
        seed=0,
    )
    assert facts["accuracy_held_out"] > 0.9
    assert np.allclose(
        matcher.probability(other[:5], other[5:10]),
        matcher.probability(other[5:10], other[:5]),
        atol=1e-5,
    )


def test_training_the_matcher_twice_gives_the_same():
    rows, groups = scenes(8, np.random.default_rng(0))
    pairs = draw_pairs(groups, 50, np.random.default_rng(0))
    options = {"hidden": 8, "epochs": 2, "learning_rate": 1e-3, "seed": 3}
    results = [fit_matcher(rows, pairs, (rows, pairs), **options)[0] for _ in range(2)]
    assert isinstance(results[0], Matcher)
    one, two = (matcher.probability(rows[:4], rows[4:8]) for matcher in results)
    assert np.array_equal(one, two)
