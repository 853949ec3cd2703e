"""One simulated subject in the scanner: films in, runs out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.settings.schema import DataSettings, SimulateSettings
from neuroclips_cli.signal.detrend import detrend
from neuroclips_cli.signal.windows import film_window
from neuroclips_cli.simulation import noise
from neuroclips_cli.simulation.attributes import Drive
from neuroclips_cli.simulation.encoding import (
    AREAS,
    Brain,
    Scale,
    calibrate,
    draw_brain,
    expected_ceiling,
    neural_drive,
    receptive_fields,
)
from neuroclips_cli.simulation.features import BIN_S
from neuroclips_cli.simulation.noise import named_rng
from neuroclips_cli.simulation.subjects import draw_scaling, share_topography
from neuroclips_cli.simulation.timeline import Showing, Timeline
from neuroclips_cli.simulation.variability import shared_noise

_BASELINE = (8000.0, 12000.0)
_NOISE_DEVIATION = (30.0, 80.0)
_AUTOCORRELATION = (0.15, 0.45)
_GAIN = (0.9, 1.1)
REFERENCE_TR_S = 2.0
"""Reliability and the noise's autocorrelation are stated for volumes so far apart (cc2017's)."""


@dataclass(frozen=True)
class FilmFeatures:
    """What a film offers to a brain: feature maps (bins, channels, cells) and attributes."""

    maps: NDArray[np.float32]
    drive: Drive


def leading_volumes_of(film: str) -> int:
    """Volumes recorded before the film: 1 in training runs and test 1, 2 in later tests."""
    return 1 if film.startswith("seg") or film == "test1" else 2


def cc2017_timeline(film: str, duration_s: float, tr_s: float, trailing: int) -> Timeline:
    """Return the run of one film: leading volumes, one per `tr_s` of the film, trailing ones."""
    leading = leading_volumes_of(film)
    volumes = leading + round(duration_s / tr_s) + trailing
    return Timeline(volumes, tr_s, (Showing(film, leading * tr_s, duration_s),))


def scale_of(features: Mapping[str, FilmFeatures]) -> Scale:
    """Scale of the features, measured on the training films only."""
    train = [f for name, f in features.items() if name.startswith("seg")]
    return Scale.of([f.maps for f in train], [f.drive for f in train])


def reference_step(simulate: SimulateSettings, data: DataSettings) -> float:
    """Return the time between volumes, in s, for which the settings state reliability and noise."""
    return data.clip_s if simulate.layout == "cc2017" else REFERENCE_TR_S


class Subject:
    """A simulated subject.

    Everything about it follows from the seed and its number: the brain, and, with the name of a
    run, the run's noise. Runs may therefore be written in any order, or again.

    Parameters
    ----------
    number
        Subject's number from 1.
    seed
        Seed of the data set.
    cortex
        bool (grayordinates,): which columns are cortical.
    features, scale
        Features of all films, by film name, and their scale.
    simulate, data
        Settings.
    timelines
        Runs of other layouts than cc2017's, which :meth:`record` can be asked for.
    """

    def __init__(
        self,
        number: int,
        seed: int,
        cortex: NDArray[np.bool_],
        features: Mapping[str, FilmFeatures],
        scale: Scale,
        simulate: SimulateSettings,
        data: DataSettings,
        timelines: Iterable[Timeline] = (),
    ) -> None:
        self._key = [seed, number]
        self._simulate, self._data = simulate, data
        self.cortex = cortex
        self.scaling = draw_scaling(number, seed, simulate)
        rng, vertices = named_rng(seed, number, "brain"), int(cortex.sum())
        drive, reliability = next(iter(features.values())).drive, simulate.reliability
        brain = draw_brain(rng, vertices, drive, scale, reliability)
        if number > 1:
            reference = draw_brain(named_rng(seed, 1, "brain"), vertices, drive, scale, reliability)
            brain = share_topography(brain, reference, vertices, number, seed, simulate)
        columns = len(cortex)
        self._baseline = rng.uniform(*_BASELINE, columns).astype(np.float32)
        self._deviation = rng.uniform(*_NOISE_DEVIATION, columns).astype(np.float32)
        self._phi = rng.uniform(*_AUTOCORRELATION, columns)
        self._columns = np.flatnonzero(cortex)[brain.vertices]
        step, trailing = reference_step(simulate, data), data.trailing_volumes
        self.films = {
            film: cc2017_timeline(film, len(feature.maps) * BIN_S, step, trailing)
            for film, feature in features.items()
        }
        wanted = [*self.films.values(), *timelines]
        self._responses = self._unit_responses(brain, features, scale, wanted)
        self.brain, self.noise_ceiling = self._calibrated(brain)
        self._shared = shared_noise(
            named_rng(seed, number, "shared noise"),
            [
                self._responses[timeline]
                for film, timeline in self.films.items()
                if film.startswith("seg")
            ],
            self.brain.amplitude,
            simulate.shared_noise,
        )

    def _unit_responses(
        self,
        brain: Brain,
        features: Mapping[str, FilmFeatures],
        scale: Scale,
        timelines: Iterable[Timeline],
    ) -> dict[Timeline, NDArray[np.float32]]:
        """BOLD responses (volumes, responding) in every run at amplitude 1."""
        fields = receptive_fields(brain)
        bins = {film: len(feature.maps) for film, feature in features.items()}
        different = list(dict.fromkeys(timelines))
        responses: dict[Timeline, NDArray[np.float32]] = {}
        for film, feature in features.items():
            drive = neural_drive(
                brain, fields, scale.maps(feature.maps), scale.attributes(feature.drive)
            )
            for timeline in different:
                matrix = timeline.response_matrices(bins).get(film)
                if matrix is None:
                    continue
                response = matrix.astype(np.float32) @ drive
                before = responses.get(timeline)
                responses[timeline] = response if before is None else before + response
        return responses

    def _calibrated(self, brain: Brain) -> tuple[Brain, NDArray[np.float64]]:
        """Set the amplitudes, and tell the noise ceilings (responding,) at the asked scales."""
        order, trailing = self._data.detrend_order, self._data.trailing_volumes
        signal, unexplained = [], []
        for film, timeline in self.films.items():
            if not film.startswith("seg"):
                continue
            response = self._responses[timeline]
            leading = leading_volumes_of(film)
            clips = len(response) - leading - trailing
            inside = detrend(response[film_window(leading, clips)], order)
            signal.append(inside.var(axis=0, ddof=1))
            phi = self._phi[self._columns]
            unexplained.append(noise.left_after_detrending(phi, clips, order))
        v, u = np.array(signal), np.array(unexplained)
        brain = calibrate(brain, v, u)
        scaled = brain.amplitude * self._simulate.signal_scale
        return brain, expected_ceiling(scaled, v, u * self._noise_scale**2)

    @property
    def _noise_scale(self) -> float:
        return self._simulate.noise_scale * self.scaling.noise

    def run(self, film: str, repetition: int) -> NDArray[np.float32]:
        """Record a film as cc2017 does, one run per showing; see :meth:`record`."""
        return self.record(self.films[film], f"{film}_{repetition}")

    def record(self, timeline: Timeline, name: str) -> NDArray[np.float32]:
        """Record one run.

        The noise is one process in time, whatever the TR: its size and its autocorrelation over
        :data:`REFERENCE_TR_S` are the same, so that a shorter TR looks at it more often.

        Parameters
        ----------
        timeline
            One of those that were announced.
        name
            The run's name, from which its noise follows.

        Returns
        -------
        float32 (volumes, grayordinates), arbitrary scanner units
        """
        rng = named_rng(*self._key, name)
        response = self._responses[timeline]
        volumes, columns = len(response), len(self.cortex)
        step = timeline.tr_s / reference_step(self._simulate, self._data)
        series = noise.autocorrelated(rng, volumes, self._phi**step)
        series[:, self._columns] *= self._shared.private
        series *= np.float32(self._noise_scale)
        strength = (self.brain.amplitude * self._simulate.signal_scale).astype(np.float32)
        series[:, self._columns] += response * strength
        series += noise.drift(rng, volumes, columns, timeline.tr_s)
        gain = rng.uniform(*_GAIN) * self.scaling.gain
        phi = np.full(len(self._shared.patterns), np.mean(_AUTOCORRELATION))
        fluctuation = noise.autocorrelated(rng, volumes, phi**step)
        fluctuation *= np.float32(self._noise_scale)
        series[:, self._columns] += fluctuation @ self._shared.patterns
        series *= self._deviation
        series += self._baseline
        series *= np.float32(gain)
        return series

    def ground_truth(self) -> dict[str, NDArray]:
        """Everything known about the cortical vertices, one row per cortical vertex.

        ``responding`` bool, ``area`` (none, early, higher), ``noise_ceiling`` (explainable share
        of one repetition's variance = expected correlation of two repetitions, at the asked noise
        and signal), ``receptive_field_center`` and ``_size`` (half picture widths; NaN where there
        is none), ``channel_loadings``, ``attribute_loadings``.
        """
        count, brain = int(self.cortex.sum()), self.brain

        def spread(values: NDArray, empty: float) -> NDArray:
            full = np.full((count, *values.shape[1:]), empty, dtype=values.dtype)
            full[brain.vertices] = values
            return full

        active = (brain.amplitude > 0) & (self._simulate.signal_scale != 0)
        responding = spread(active.astype(float), 0.0) > 0
        kind = spread(np.where(brain.early, 1.0, 2.0), 0.0).astype(int)
        return {
            "responding": responding,
            "area": np.array(AREAS)[np.where(responding, kind, 0)],
            "noise_ceiling": spread(self.noise_ceiling, 0.0),
            "receptive_field_center": spread(brain.centers, np.nan),
            "receptive_field_size": spread(brain.sizes, np.nan),
            "channel_loadings": spread(brain.channel_loadings, 0.0),
            "attribute_loadings": spread(brain.attribute_loadings, 0.0),
        }
