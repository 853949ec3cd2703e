"""Which clips the report shows, and how its numbers read."""

from __future__ import annotations

import io

import numpy as np
from helpers import fake_evaluators
from PIL import Image

from neuroclips_cli.reporting import clips, images, tables


def test_random_best_median_and_worst_are_what_they_say():
    score = np.arange(100.0)
    chosen = clips.select(score, seed=3)
    kinds = {kind: [row for row, k in chosen if k == kind] for _, kind in chosen}
    assert list(kinds) == ["random", "best", "median", "worst"]
    rest = np.setdiff1d(np.arange(100), kinds["random"])
    assert kinds["best"] == rest[:-3:-1].tolist()
    assert kinds["worst"] == rest[1::-1].tolist()
    assert kinds["median"] == rest[47:45:-1].tolist()
    assert len({row for row, _ in chosen}) == len(chosen) == 12


def test_every_clip_is_drawn_equally_often_whatever_its_score():
    counts = np.zeros(20)
    for seed in range(2000):
        drawn = [row for row, kind in clips.select(np.arange(20.0), seed=seed) if kind == "random"]
        counts[drawn] += 1
    assert np.abs(counts / 2000 - 6 / 20).max() < 0.04  # 4 standard errors


def test_few_clips_are_all_shown():
    assert clips.select(np.arange(5.0)) == [(row, "all") for row in range(5)]


def test_the_combined_score_uses_the_hardest_accuracies_and_shares_ranks():
    per_clip = {
        "ssim": np.array([0.1, 0.2, 0.3]),
        "frame_2way": np.array([1.0, 0.0, 0.0]),
        "frame_50way": np.array([0.5, 0.5, 0.5]),
        "video_50way": np.array([0.0, 0.5, 1.0]),
    }
    np.testing.assert_allclose(clips.combined_score(per_clip), [1 / 6, 0.5, 5 / 6])


def test_labels_and_digits_suit_the_metric():
    assert tables.label("video_50way") == "video 50-way"
    assert tables.label("psnr") == "PSNR (dB)"
    summary = {"mean": 12.3456, "ci95": [11.0, 13.0]}
    assert tables.with_interval("psnr", summary) == "12.35 [11.00, 13.00]"
    assert tables.with_interval("ssim", summary) == "12.346 [11.000, 13.000]"
    assert tables.with_interval("ssim", None) == ""


def test_a_moving_picture_lasts_as_long_as_the_clip():
    import base64

    clip = fake_evaluators.draw_clips(1, 16)[0]
    data = base64.b64decode(images.moving(clip, 2.0).partition(",")[2])
    with Image.open(io.BytesIO(data)) as image:
        assert 2 <= image.n_frames <= 16  # WebP stores a frame that does not change once
        durations = []
        for frame in range(image.n_frames):
            image.seek(frame)
            image.load()
            durations.append(image.info["duration"])
    assert sum(durations) == 2000
