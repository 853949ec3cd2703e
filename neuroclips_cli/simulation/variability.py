"""Noise that neighbors in function share: what a brain represents fluctuates between repetitions.

Noise of its own in every vertex averages out over vertices, so that one repetition would be as good
as ten. In real scans it is not: attention, arousal and gaze move vertices of like tuning together
(noise correlations that limit information; Moreno-Bote et al. 2014, doi:10.1038/nn.3807).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PATTERNS = 40
"""Patterns that fluctuate, each a random mixture of the responses to the films."""
MOST_SHARED = 0.8
"""Largest share of a vertex's noise variance that is shared."""


@dataclass(frozen=True)
class SharedNoise:
    """How the noise of responding vertices divides.

    Attributes
    ----------
    patterns : float32 (patterns, responding)
        Noise per unit of each fluctuation, in deviations of a vertex's whole noise.
    private : float32 (responding,)
        Deviation of what remains a vertex's own; with the patterns the variance is 1.
    """

    patterns: NDArray[np.float32]
    private: NDArray[np.float32]


def shared_noise(
    rng: np.random.Generator,
    responses: Sequence[NDArray[np.float32]],
    amplitude: NDArray[np.float64],
    strength: float,
) -> SharedNoise:
    """Let random mixtures of the responses fluctuate.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws the mixtures. (Principal components would do as well, but their signs differ between
        machines.)
    responses : sequence of numpy.ndarray
        float32 (volumes, responding) of every training film, at amplitude 1.
    amplitude : numpy.ndarray
        float64 (responding,), response in deviations of the noise.
    strength : float
        Variance of all fluctuations together in units of the responses' variance, at least 0.

    Returns
    -------
    SharedNoise
        No vertex's noise grows: what is shared replaces noise of its own, up to `MOST_SHARED`.
    """
    series = np.concatenate([response - response.mean(axis=0) for response in responses])
    series *= amplitude.astype(np.float32)
    mixtures = rng.standard_normal((PATTERNS, len(series)), dtype=np.float32)
    patterns = mixtures @ series * np.float32(np.sqrt(strength / PATTERNS / len(series)))
    shared = np.square(patterns).sum(axis=0)
    patterns *= np.sqrt(np.minimum(1, MOST_SHARED / np.maximum(shared, 1e-12)))
    shared = np.minimum(shared, MOST_SHARED)
    return SharedNoise(patterns.astype(np.float32), np.sqrt(1 - shared).astype(np.float32))
