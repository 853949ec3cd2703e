"""Pixel metrics and N-way accuracy of 1200 clips, against the loops that the peers publish."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

CLIPS, FRAMES, SIZE, CLASSES, TRIALS = 1200, 6, 256, 1000, 100
BATCH = 32
PART = 12
"""Clips that the loops are measured on; their time grows with the number of clips."""


def main(folder: Path) -> list[tuple[str, float, str]]:
    """Measure ours on all clips, batch by batch, and the loops on a part."""
    draw = np.random.default_rng(0)
    batch = draw.integers(0, 256, (2, BATCH, FRAMES, SIZE, SIZE, 3), np.uint8)
    scores = draw.random((CLIPS * FRAMES, CLASSES), np.float32)
    truth = draw.integers(0, CLASSES, len(scores))
    began = time.perf_counter()
    _ours(batch, scores, truth)
    ours = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    loops = [_timed(_pixel_loop, batch), _timed(_nway_loop, scores, truth)]
    slow = sum(loops) * CLIPS / PART
    return [
        ("1200 clips of 6 frames, SSIM, PSNR, 2- and 50-way, s", ours, ""),
        ("the same by loops, s (12 clips, scaled up)", slow, f"{slow / ours:.0f} x ours"),
        ("... of which pixels, s", loops[0] * CLIPS / PART, ""),
        ("... of which N-way with 100 trials, s", loops[1] * CLIPS / PART, ""),
        ("peak memory of ours, GB", peak, ""),
    ]


def _timed(work: Callable[..., None], *inputs: np.ndarray) -> float:
    began = time.perf_counter()
    work(*inputs)
    return time.perf_counter() - began


def _ours(batch: np.ndarray, scores: np.ndarray, truth: np.ndarray) -> None:
    from neuroclips_cli.metrics import nway, pixel

    for start in range(0, CLIPS, BATCH):
        count = min(BATCH, CLIPS - start)
        pixel.ssim(batch[0, :count], batch[1, :count])
        pixel.psnr(batch[0, :count], batch[1, :count])
    for ways in (2, 50):
        nway.nway_accuracy(scores, truth, ways)


def _pixel_loop(batch: np.ndarray) -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    for clip, frame in np.ndindex(PART, FRAMES):
        made, true = batch[0, clip, frame], batch[1, clip, frame]
        structural_similarity(made, true, channel_axis=-1, data_range=255)
        peak_signal_noise_ratio(true, made, data_range=255)


def _nway_loop(scores: np.ndarray, truth: np.ndarray) -> None:
    """Draw the distractors anew in every trial, as the classical estimate does."""
    draw = np.random.RandomState(0)
    for ways in (2, 50):
        for row in range(PART * FRAMES):
            others = np.delete(np.arange(CLASSES), truth[row])
            for _ in range(TRIALS):
                drawn = draw.choice(others, ways - 1, replace=False)
                int(np.argmax(scores[row][[truth[row], *drawn]]) == 0)
