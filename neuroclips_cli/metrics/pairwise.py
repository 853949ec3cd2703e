"""The metrics that look at the pixels of a reconstruction and of its ground truth together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neuroclips_cli.metrics import pixel, ssim_variants
from neuroclips_cli.metrics.rules import ProtocolRules

PairMetric = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Takes reconstructions and ground truths, uint8 (clips, frames, h, w, 3); gives (clips,)."""

SLOW = ("epe", "lpips")
"""These take part in one shuffle of the control only."""


def pair_metrics(rules: ProtocolRules) -> dict[str, PairMetric]:
    """Return the pixel metrics that are always computed, by name; frame metrics as clip means."""
    return {
        "ssim": lambda made, true: ssim_variants.ssim(made, true, rules.ssim).mean(axis=1),
        "psnr": lambda made, true: pixel.psnr(made, true).mean(axis=1),
        "pixel_pearson": lambda made, true: pixel.pearson(made, true).mean(axis=1),
        "hue_similarity": lambda made, true: pixel.hue_similarity(made, true).mean(axis=1),
    }
