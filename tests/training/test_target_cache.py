"""Names of cached targets, and networks of frames that take clips."""

from __future__ import annotations

import numpy as np

from neuroclips_cli.training.target_cache import per_frame, target_key


def test_target_name_follows_films_and_network(tmp_path):
    (tmp_path / "a").write_text("1")
    first = target_key("films", "hub/x", tmp_path)
    assert first == target_key("films", "another name", tmp_path)
    assert first != target_key("other films", "hub/x", tmp_path)
    assert first != target_key("films", "hub/x", tmp_path, "bfloat16")
    (tmp_path / "a").write_text("2")
    assert first != target_key("films", "hub/x", tmp_path)


def test_a_function_of_frames_takes_clips():
    clips = np.arange(70 * 2).reshape(70, 2, 1, 1, 1).astype(np.uint8)
    rows = per_frame(lambda frames: frames.reshape(len(frames), 1) / 2)(clips)
    np.testing.assert_array_equal(rows[..., 0], clips[..., 0, 0, 0] / 2)
