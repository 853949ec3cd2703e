"""Metrics that are asked for by name (``evaluate.extra_metrics``), and all that is said of them.

A new one is a function in a module of its own, a row of :data:`EXTRA_METRICS`, and its name among
the words of ``evaluate.extra_metrics`` in ``settings/schema.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neuroclips_cli.metrics import flow, perceptual

if TYPE_CHECKING:
    from neuroclips_cli.protocols.evaluation_config import EvaluationConfig

PairMetric = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Takes reconstructions and ground truths, uint8 (clips, frames, h, w, 3); gives (clips,)."""


@dataclass(frozen=True)
class ExtraMetric:
    """A metric of pairs of clips that is measured where it is asked for.

    Attributes
    ----------
    label : str
        In tables.
    definition : str
        One line for ``metrics.json``.
    load : callable
        Looks for what the metric needs, and returns it; takes how is evaluated, and the device.
    digits : int
        Behind the point, in tables.
    slow : bool
        Whether it takes part in one shuffle of the control only.
    """

    label: str
    definition: str
    load: Callable[[EvaluationConfig, str], PairMetric]
    digits: int = 3
    slow: bool = True


def _load_flow(_config: EvaluationConfig, _device: str) -> PairMetric:
    flow.load_opencv()
    return flow.end_point_error


def _load_lpips(config: EvaluationConfig, device: str) -> PairMetric:
    return perceptual.Lpips(config.perceptual, device)


EXTRA_METRICS: dict[str, ExtraMetric] = {
    "epe": ExtraMetric("end-point error (px)", flow.WHAT, _load_flow, digits=2),
    "lpips": ExtraMetric("LPIPS", perceptual.WHAT, _load_lpips),
}
"""Name to metric; the names are those that ``evaluate.extra_metrics`` takes."""


def load_extra_metrics(config: EvaluationConfig, device: str) -> dict[str, PairMetric]:
    """Return the metrics that were asked for by name; what they need is looked for first.

    Parameters
    ----------
    config : EvaluationConfig
        ``extra_metrics`` names them.
    device : str
        A torch device.

    Raises
    ------
    UserError
        If one lacks its package or its weights.
    """
    return {
        name: metric.load(config, device)
        for name, metric in EXTRA_METRICS.items()
        if name in config.extra_metrics
    }
