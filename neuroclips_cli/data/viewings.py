"""One stretch of film in one run: which volumes answer to its clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.run_table import RunRow
from neuroclips_cli.data.runs import Run
from neuroclips_cli.data.slice_timing import FirstVolume
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.schema import DataSettings
from neuroclips_cli.signal import clip_times, confounds

Clean = Callable[[NDArray[np.float32]], NDArray[np.floating]]
"""Takes confounds off a run's series, (volumes, voxels)."""


@dataclass(frozen=True)
class Reading:
    """Which volumes of a run are standardized, and where among them the responses are read.

    Attributes
    ----------
    over : slice
        Volumes over which voxels are detrended and standardized.
    at : numpy.ndarray
        float64 (clips, window), in volumes, 0 for the first one of ``over``.
    method : str
        How the series is read between two volumes; see
        :func:`neuroclips_cli.signal.clip_times.at_positions`.
    """

    over: slice
    at: NDArray[np.float64]
    method: clip_times.Interpolation


@dataclass(frozen=True)
class Viewing:
    """A stretch of film as it was seen in one run.

    Attributes
    ----------
    row : RunRow
    run : Run
        Opened.
    tr_s : float
        Time between two volumes in s.
    start_s : float
        When the stretch was shown, in s after the first volume was measured; below 0 where it began
        before that.
    first_volume : FirstVolume
        When that was, in s after the scan began.
    """

    row: RunRow
    run: Run
    tr_s: float
    start_s: float
    first_volume: FirstVolume

    def positions(self, clips: int, data: DataSettings) -> NDArray[np.float64]:
        """Return where in the run the responses to clips lie, float64 (clips, window)."""
        return clip_times.response_positions(
            clips,
            start_s=self.start_s,
            clip_s=data.clip_s,
            delay_s=data.delay_s,
            tr_s=self.tr_s,
            window=data.window,
        )

    def reading(self, clips: int, data: DataSettings) -> Reading:
        """Return what is standardized and where the responses are read.

        Over one stretch of film these are the volumes that its responses are read from; the window
        moves with the delay (paper 4.1).
        """
        positions = self.positions(clips, data)
        over = clip_times.span(positions)
        if data.standardize == "run":
            over = slice(0, self.run.volumes)
        return Reading(over, positions - over.start, data.interpolation)

    def cleaner(self, data: DataSettings) -> Clean | None:
        """Return what takes the confounds off this run's series; None if nothing is to be done.

        Raises
        ------
        UserError
            If the table of confounds is missing or cannot be used.
        """
        if not data.confounds:
            return None
        if self.row.confounds is None:
            raise UserError(
                f"{self.row.run_name} has no table of confounds, which data.confounds = "
                f"{data.confounds} needs: name it in a run table, or leave data.confounds empty"
            )
        taken = confounds.regressors(self.row.confounds, data.confounds, self.run.volumes)
        return partial(confounds.regress, confounds=taken, tr_s=self.tr_s)

    def film_positions(
        self, clips: int, clip_s: float, like: Viewing, first_s: float
    ) -> NDArray[np.float64]:
        """Return moments of film at which ``like`` has volumes, as positions in this run.

        float64 (moments,), the first one ``first_s`` after the stretch begins: for comparing
        repetitions; no delay.
        """
        return clip_times.film_positions(
            self.run.volumes,
            clips * clip_s,
            start_s=self.start_s,
            tr_s=self.tr_s,
            grid_s=like.tr_s,
            first_s=first_s,
        )
