"""The simulated brain: which vertices respond, to what, and how strongly.

About 40 % of the cortical vertices respond, half of them early (retinotopic: a Gaussian receptive
field over the feature maps), half of them higher (graded attributes of the scene). The rest
carries nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.simulation.attributes import Drive
from neuroclips_cli.simulation.features import (
    CHANNELS,
    COLOR,
    FORM,
    MOTION,
    ORIENTATIONS,
    grid_positions,
)

RESPONDING_SHARE = 0.4
AREAS = ("none", "early", "higher")
# Shares of early vertices by what they mainly answer to, and how much of the rest they mix in.
_EARLY_FAMILIES = ((FORM, 0.35), (COLOR, 0.4), (MOTION, 0.25))
_MIXING = 0.3
# Noise ceilings: Beta(0.9, 1.75), whose median is 0.3, stretched over 0.4 to 2.4 reliabilities.
_CEILING_BETA = (0.9, 1.75)
_CEILING_RANGE = (0.4, 2.4)
_LARGEST_CEILING = 0.95


@dataclass(frozen=True)
class Brain:
    """Facts of one subject's responding vertices.

    Attributes
    ----------
    vertices : int64 (responding,)
        Positions among the cortical vertices.
    early : bool (responding,)
    ceiling : float64 (responding,)
        Wanted correlation between two repetitions.
    centers, sizes : float64 (responding, 2) and (responding,)
        Receptive fields in units of half the picture's width; NaN for higher vertices.
    channel_loadings : float32 (responding, channels)
        Weights of the feature channels; zero for higher vertices.
    attribute_loadings : float32 (responding, dims)
        Weights of the attributes; zero for early vertices.
    amplitude : float64 (responding,)
        Response per unit of drive, in deviations of the noise; 1 until calibrated.
    """

    vertices: NDArray[np.int64]
    early: NDArray[np.bool_]
    ceiling: NDArray[np.float64]
    centers: NDArray[np.float64]
    sizes: NDArray[np.float64]
    channel_loadings: NDArray[np.float32]
    attribute_loadings: NDArray[np.float32]
    amplitude: NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of the features over the training films."""

    map_mean: NDArray[np.float32]
    map_deviation: NDArray[np.float32]
    drive_mean: NDArray[np.float32]
    drive_deviation: NDArray[np.float32]
    drive_mixing: NDArray[np.float32]

    @classmethod
    def of(cls, maps: Sequence[NDArray[np.float32]], drives: Sequence[Drive]) -> Scale:
        """Measure the scale on training films: maps (bins, channels, cells), drives (bins, dims).

        A cell's deviation is kept above half of its channel's mean deviation, so that cells in
        which little happens are not blown up. `drive_mixing` is the inverse fourth root of the
        attributes' covariance: it evens out how many vertices care for each attribute.
        """
        count = sum(len(m) for m in maps)
        mean = sum(m.sum(axis=0, dtype=np.float64) for m in maps) / count
        square = sum(np.square(m - mean).sum(axis=0, dtype=np.float64) for m in maps) / count
        deviation = np.sqrt(square)
        deviation = np.maximum(deviation, 0.5 * deviation.mean(axis=-1, keepdims=True))
        values = np.concatenate([d.values for d in drives]).astype(np.float64)
        spread = np.maximum(values.std(axis=0), 1e-6)
        scaled = (values - values.mean(axis=0)) / spread
        return cls(
            mean.astype(np.float32),
            np.maximum(deviation, 1e-6).astype(np.float32),
            values.mean(axis=0).astype(np.float32),
            spread.astype(np.float32),
            _group_mixing(scaled, drives[0]).astype(np.float32),
        )

    def maps(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardize feature maps."""
        return (maps - self.map_mean) / self.map_deviation

    def attributes(self, drive: Drive) -> NDArray[np.float32]:
        """Standardize attributes, (bins, dims)."""
        return (drive.values - self.drive_mean) / self.drive_deviation


def _group_mixing(values: NDArray[np.float64], drive: Drive) -> NDArray[np.float64]:
    """Inverse fourth root of each group's covariance, block-diagonal (dims, dims)."""
    mixing = np.zeros((values.shape[1], values.shape[1]))
    for _, dims, _ in drive.groups:
        size, axes = np.linalg.eigh(np.cov(values[:, dims].T))
        mixing[dims, dims] = axes @ np.diag(np.maximum(size, 0.05) ** -0.25) @ axes.T
    return mixing


def draw_brain(
    rng: np.random.Generator, cortex: int, drive: Drive, scale: Scale, reliability: float
) -> Brain:
    """Draw a subject.

    Parameters
    ----------
    rng
        The subject's own source of randomness.
    cortex
        Number of cortical vertices.
    drive
        Any film's attributes (for their groups).
    scale
        Scale of the features.
    reliability
        Median correlation between two repetitions of responding vertices, 0 to 0.4 sensibly.
    """
    count = round(RESPONDING_SHARE * cortex)
    early = np.zeros(count, bool)
    early[: count // 2] = True
    low, high = (reliability * r for r in _CEILING_RANGE)
    eccentricity = np.sqrt(rng.uniform(0, 1, count)) * 0.95
    angle = rng.uniform(0, 2 * np.pi, count)
    centers = np.stack([eccentricity * np.cos(angle), eccentricity * np.sin(angle)], axis=1)
    sizes = 0.1 + 0.15 * eccentricity + rng.uniform(0, 0.08, count)
    channels = _early_loadings(rng, count)
    attributes = _higher_loadings(rng, count, drive) @ scale.drive_mixing
    return Brain(
        vertices=rng.permutation(cortex)[:count],
        early=early,
        ceiling=np.clip(low + (high - low) * rng.beta(*_CEILING_BETA, count), 0, _LARGEST_CEILING),
        centers=np.where(early[:, None], centers, np.nan),
        sizes=np.where(early, sizes, np.nan),
        channel_loadings=np.where(early[:, None], channels, 0).astype(np.float32),
        attribute_loadings=np.where(early[:, None], 0, attributes).astype(np.float32),
        amplitude=np.ones(count),
    )


def _early_loadings(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    families = [family for family, _ in _EARLY_FAMILIES]
    main = rng.choice(len(families), size=count, p=[share for _, share in _EARLY_FAMILIES])
    loadings = _MIXING * rng.standard_normal((count, len(CHANNELS)))
    preferred = rng.uniform(0, 2 * np.pi, (count, 1))
    orientations = 2 * np.pi * np.arange(ORIENTATIONS) / ORIENTATIONS
    tuned = np.exp(2 * (np.cos(orientations - preferred) - 1))
    octave = rng.uniform(0.2, 1, (count, 2))
    form = (octave[:, :, None] * tuned[:, None, :]).reshape(count, -1)
    headings = np.array([np.pi, 0, 1.5 * np.pi, 0.5 * np.pi])  # left, right, up, down
    motion = np.concatenate(
        [np.exp(2 * (np.cos(headings - preferred) - 1)), rng.uniform(0, 0.5, (count, 1))], axis=1
    )
    tunings = (form, rng.standard_normal((count, COLOR.stop - COLOR.start)), motion)
    for index, (family, tuning) in enumerate(zip(families, tunings, strict=True)):
        loadings[main == index, family] += tuning[main == index]
    return loadings


def _higher_loadings(rng: np.random.Generator, count: int, drive: Drive) -> NDArray[np.float64]:
    shares = np.array([share for _, _, share in drive.groups])
    main = rng.choice(len(shares), size=count, p=shares / shares.sum())
    loadings = rng.standard_normal((count, drive.values.shape[1]))
    for index, (_, dims, _) in enumerate(drive.groups):
        weight = np.where(main == index, 1.0, _MIXING) / np.sqrt(dims.stop - dims.start)
        loadings[:, dims] *= weight[:, None]
    return loadings


def receptive_fields(brain: Brain) -> NDArray[np.float32]:
    """Gaussian weights of the early vertices over the maps' cells, (early, cells), unit sum."""
    offset = brain.centers[brain.early][:, None, :] - grid_positions()[None]
    size = brain.sizes[brain.early][:, None]
    weights = np.exp(-np.square(offset).sum(axis=-1) / (2 * size**2))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def neural_drive(
    brain: Brain,
    fields: NDArray[np.float32],
    maps: NDArray[np.float32],
    attributes: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Drive of every responding vertex during a film.

    Parameters
    ----------
    fields
        :func:`receptive_fields` of `brain`.
    maps, attributes
        Standardized features, (bins, channels, cells) and (bins, dims).

    Returns
    -------
    float32 (bins, responding)
    """
    drive = np.empty((len(maps), len(brain.early)), np.float32)
    drive[:, ~brain.early] = attributes @ brain.attribute_loadings[~brain.early].T
    loadings = brain.channel_loadings[brain.early]
    total = np.zeros((len(maps), len(loadings)), np.float32)
    for channel in range(maps.shape[1]):
        total += (maps[:, channel] @ fields.T) * loadings[:, channel]
    drive[:, brain.early] = total
    return drive


def calibrate(
    brain: Brain,
    signal_variance: NDArray[np.float64],
    noise_variance: NDArray[np.float64],
) -> Brain:
    """Scale the responses so that every vertex reaches its noise ceiling.

    Solves ``mean_s a^2 v_s / (a^2 v_s + u) = ceiling`` for the amplitude a by bisection.

    Parameters
    ----------
    signal_variance
        (segments, responding) variance of the detrended response per unit of amplitude.
    noise_variance
        (responding,) or (segments, responding), variance of the detrended noise in the same unit.
    """
    low, high = np.full(len(brain.ceiling), -12.0), np.full(len(brain.ceiling), 12.0)
    for _ in range(45):
        middle = (low + high) / 2
        reached = expected_ceiling(np.exp(middle), signal_variance, noise_variance)
        low = np.where(reached < brain.ceiling, middle, low)
        high = np.where(reached < brain.ceiling, high, middle)
    driven = signal_variance.max(axis=0) > 1e-9
    return replace(brain, amplitude=np.where(driven, np.exp((low + high) / 2), 0.0))


def expected_ceiling(
    amplitude: NDArray[np.float64],
    signal_variance: NDArray[np.float64],
    noise_variance: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Explainable share of a repetition's variance, mean over segments, (responding,).

    It is the correlation to expect between two repetitions.
    """
    signal = amplitude**2 * signal_variance
    total = signal + noise_variance
    return np.divide(signal, total, out=np.zeros_like(signal), where=total > 0).mean(axis=0)
