"""Pixel metrics of pairs of clips, by the names under which they are reported."""

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
    """Return the pixel metrics that are always computed.

    Parameters
    ----------
    rules : ProtocolRules
        The protocol; it chooses the variant of SSIM.

    Returns
    -------
    dict
        Name -> function of two uint8 arrays (clips, frames, height, width, 3) that returns float64
        (clips,), the mean over the frames of each clip; PSNR in dB.

    Examples
    --------
    >>> import numpy as np
    >>> from neuroclips_cli.metrics.pairwise import pair_metrics
    >>> from neuroclips_cli.metrics.rules import ProtocolRules
    >>> metrics = pair_metrics(ProtocolRules())
    >>> black = np.zeros((1, 2, 8, 8, 3), dtype=np.uint8)
    >>> metrics["psnr"](black, black).tolist(), metrics["ssim"](black, black).tolist()
    ([100.0], [1.0])
    """
    return {
        "ssim": lambda made, true: ssim_variants.ssim(made, true, rules.ssim).mean(axis=1),
        "psnr": lambda made, true: pixel.psnr(made, true).mean(axis=1),
        "pixel_pearson": lambda made, true: pixel.pearson(made, true).mean(axis=1),
        "hue_similarity": lambda made, true: pixel.hue_similarity(made, true).mean(axis=1),
    }
