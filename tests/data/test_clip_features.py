"""Simple features of clips, counted pixel by pixel."""

from __future__ import annotations

import numpy as np

from neuroclips_cli.data.clip_features import CELLS, clip_features, with_neighbors


def test_features_are_means_deviations_and_differences_of_the_cells():
    clips = np.random.default_rng(0).integers(0, 256, (5, 3, 18, 17, 3), dtype=np.uint8)
    found = clip_features(clips, block=2)
    assert found.shape == (5, 5 * CELLS**2) and found.dtype == np.float32
    high, wide = 18 // 4, 17 // 4
    for clip in range(5):
        for row in range(4):
            for column in range(4):
                cell = clips[clip, :, row * high :, column * wide :][:, :high, :wide] / 255.0
                place, grey = 4 * row + column, cell.mean(axis=-1)
                color = found[clip, 3 * place : 3 * place + 3]
                assert np.allclose(color, cell.mean(axis=(0, 1, 2)), atol=1e-5)
                deviation = np.mean([frame.std() for frame in grey])
                assert np.isclose(found[clip, 48 + place], deviation, atol=1e-5)
                motion = np.mean([abs(grey[1] - grey[0]), abs(grey[2] - grey[1])])
                assert np.isclose(found[clip, 64 + place], motion, atol=1e-5)
    assert not clip_features(clips[:, :1])[:, 64:].any()
    assert clip_features(clips[:0]).shape == (0, 80)


def test_neighbors_stand_beside_a_clip_and_nothing_beyond_the_film():
    found = with_neighbors(np.arange(1.0, 5.0)[:, None], (-1, 0, 2))
    assert found.tolist() == [[0, 1, 3], [1, 2, 4], [2, 3, 0], [3, 4, 0]]
    assert with_neighbors(np.ones((1, 2)), (-3, 0)).tolist() == [[0, 0, 1, 1]]
