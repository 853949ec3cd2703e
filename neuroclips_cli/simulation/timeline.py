"""When a run's volumes were taken, and which stretches of which films were on screen meanwhile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.simulation.features import BIN_S
from neuroclips_cli.simulation.hemodynamics import response_at


@dataclass(frozen=True)
class Showing:
    """One stretch of a film on screen.

    Attributes
    ----------
    film : str
        The film's name.
    scan_start_s : float
        When the stretch began, in s after the first volume began.
    duration_s : float
    film_start_s : float
        Where in the film it begins, s; whole bins of :data:`features.BIN_S`, as is its length.
    """

    film: str
    scan_start_s: float
    duration_s: float
    film_start_s: float = 0.0


@dataclass(frozen=True)
class Timeline:
    """Volumes of a run, every `tr_s` seconds, and what was shown; the screen is blank between."""

    volumes: int
    tr_s: float
    shown: tuple[Showing, ...]

    def response_matrices(self, bins: Mapping[str, int]) -> dict[str, NDArray[np.float64]]:
        """Map the drive of every film that is shown to the volumes: float64 (volumes, bins).

        A volume stands for the middle of its acquisition.

        Parameters
        ----------
        bins
            Number of samples of the drive, by film.
        """
        # counted from the film's beginning in volumes, so that whole TRs give whole numbers
        matrices: dict[str, NDArray[np.float64]] = {}
        for showing in self.shown:
            total = matrices.setdefault(showing.film, np.zeros((self.volumes, bins[showing.film])))
            first = round(showing.film_start_s / BIN_S)
            count = round(showing.duration_s / BIN_S)
            leading = showing.scan_start_s / self.tr_s
            times_s = (np.arange(self.volumes) - leading + 0.5) * self.tr_s
            total[:, first : first + count] += response_at(times_s, count, BIN_S)
        return matrices


def volumes_for(seconds: float, tr_s: float) -> int:
    """Return how many volumes it takes to record so long."""
    return math.ceil(seconds / tr_s - 1e-9)
