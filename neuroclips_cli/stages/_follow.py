"""Decode a run while it is recorded: volumes in, one clip out as soon as its response is there."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli import console
from neuroclips_cli.data.incoming_volumes import Arrived, IncomingVolumes, open_incoming
from neuroclips_cli.data.new_scans import (
    WHOLE_RUN,
    FilmTiming,
    read_trained_voxels,
    read_training_statistics,
)
from neuroclips_cli.data.scan_files import require_cleaned, unstated_step
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.settings.schema import DataSettings
from neuroclips_cli.signal.causal import CausalStandardizer, FilmSpan
from neuroclips_cli.signal.clip_times import span
from neuroclips_cli.stages._requests import training_first_volumes, training_steps

if TYPE_CHECKING:
    from neuroclips_cli.generation.decoder import Decoded

POLL_S = 0.02
FOLLOWED = "follow"
"""Name of the result where the user gives none."""
STOP_FILE = "stop"
"""Name of the file that ends it, in the followed folder; beside a followed file ``<name>.stop``."""


@dataclass(frozen=True)
class FollowOptions:
    """When the film ran, and when to stop.

    Attributes
    ----------
    timing : FilmTiming
        When the film begins, and how long it lasts.
    first_clip : int
        Number of the first clip, which decides the random numbers.
    volumes : int or None
        Stop after so many.
    idle_s : float
        Stop when none came for so long.
    stop_file : pathlib.Path or None
        Stop when it exists; None: `STOP_FILE`.
    last : str
        The last part to make of a clip, as :meth:`neuroclips_cli.api.Run.decode` takes it.
    confounds_removed : bool
        The volumes come without the confounds that were regressed out of the training runs.
    """

    timing: FilmTiming = WHOLE_RUN
    first_clip: int = 0
    volumes: int | None = None
    idle_s: float = 60.0
    stop_file: Path | None = None
    last: str = "clips"
    confounds_removed: bool = False


UNTIL_IDLE = FollowOptions()


@dataclass(frozen=True)
class LiveVolume:
    """A volume that was standardized.

    Attributes
    ----------
    volume : int
        From 0.
    latency_s : float
        From its being there to its being standardized, in s.
    """

    volume: int
    latency_s: float


@dataclass(frozen=True)
class LiveClip:
    """A clip that was decoded.

    Attributes
    ----------
    number : int
        Of the clip.
    onset_s : float
        When it was shown, in s after the first volume.
    volume : int
        The last volume of its response, from 0.
    scan : numpy.ndarray
        float32 (voxels,), or (window, voxels): its standardized response.
    decoded : Decoded
        Of this one clip.
    latency_s : float
        From the arrival of its last volume to its being decoded, in s.
    """

    number: int
    onset_s: float
    volume: int
    scan: NDArray[np.float32]
    decoded: Decoded
    latency_s: float


class LiveDecoding:
    """Decodes what arrives at a path; iterate over it once.

    Parameters
    ----------
    settings : Settings
        As of a reconstruction.
    folders : mapping
        Finished stages ``preprocess``, ``train-pr`` and ``train-sr`` by name.
    path : pathlib.Path
        A folder into which volumes fall, or a growing file.
    options : FollowOptions
        When to begin and to stop.

    Raises
    ------
    UserError
        If the path cannot be followed, or the run lacks what is needed.

    Yields
    ------
    LiveVolume or LiveClip
        In the order of events.
    """

    def __init__(
        self, settings: Settings, folders: Mapping[str, Path], path: Path, options: FollowOptions
    ) -> None:
        self.settings, self.options, self.path = settings, options, path
        require_cleaned(settings.data.confounds, removed=options.confounds_removed)
        if settings.data.parcels and path.suffix != ".npy":
            raise UserError(
                f"{path} cannot be followed: the run was trained on parcels of "
                f"{settings.data.parcels}; let a .npy of their means grow, one row per volume"
            )
        preprocess = folders["preprocess"]
        voxels = read_trained_voxels(preprocess)
        statistics = read_training_statistics(preprocess, "volumes are standardized one by one")
        firsts = training_first_volumes(preprocess)
        self._first_s = firsts[0] if len(set(firsts)) == 1 else 0.0
        self.tr_s = unstated_step(training_steps(preprocess, settings), options.timing.tr_s)
        self._standardizer = CausalStandardizer(
            statistics, film_span(options.timing, settings.data, self.tr_s, self._first_s)
        )
        self._incoming: IncomingVolumes = open_incoming(path, voxels)
        self._decoder = LiveDecoder(settings, folders, options.last, voxels.count)
        self._history: dict[int, NDArray[np.float32]] = {}
        self._clips = 0
        self.warnings: list[str] = []

    def __iter__(self) -> Iterator[LiveVolume | LiveClip]:
        """Yield volumes and clips until the end; see the class."""
        came, limit = time.monotonic(), self.options.volumes
        while limit is None or self._standardizer.volumes < limit:
            arrived = self._incoming.poll()
            self._warn()
            for volume in arrived[: None if limit is None else limit - self._standardizer.volumes]:
                yield self._take(volume)
                yield from self._ready(volume.since)
            if arrived:
                came = time.monotonic()
            elif (
                self._is_over()
                or self._is_stopped()
                or time.monotonic() - came > self.options.idle_s
            ):
                break
            else:
                time.sleep(POLL_S)
        if not self._standardizer.volumes:
            raise UserError(
                f"no volume came to {self.path}: start the scanner, or wait longer with --idle"
            )

    def _is_stopped(self) -> bool:
        return (self.options.stop_file or default_stop_file(self.path)).exists()

    def _warn(self) -> None:
        """Hand on what the source of the volumes tells."""
        for sentence in self._incoming.warnings[len(self.warnings) :]:
            console.warn(sentence)
            self.warnings.append(sentence)

    def _take(self, arrived: Arrived) -> LiveVolume:
        """Standardize a volume and remember it for the clips that it answers to."""
        number = self._standardizer.volumes
        self._history[number] = self._standardizer.update(arrived.values)
        oldest = number - self.settings.data.window - 2
        self._history.pop(oldest, None)
        return LiveVolume(number, max(0.0, time.time() - arrived.since))

    def _ready(self, since: float) -> Iterator[LiveClip]:
        """Decode the clips whose response is complete."""
        data = self.settings.data
        while not self._is_over():
            timing, before = self.options.timing, self._clips
            positions = timing.positions(1, data, self.tr_s, self._first_s, after=before)[0]
            last = math.ceil(positions[-1])
            if last >= self._standardizer.volumes:
                return
            scan = np.stack([self._at(position) for position in positions])
            scan = scan if data.window > 1 else scan[0]
            number = self.options.first_clip + before
            onset_s = timing.start_s + before * data.clip_s
            self._clips += 1
            decoded = self._decoder(scan[None], number)
            latency_s = max(0.0, time.time() - since)
            yield LiveClip(number, onset_s, last, scan, decoded, latency_s)

    def _is_over(self) -> bool:
        """Tell whether all clips of the film were decoded."""
        duration_s = self.options.timing.duration_s
        after_s = (self._clips + 1) * self.settings.data.clip_s
        return duration_s is not None and after_s > duration_s + 1e-6

    def _at(self, position: float) -> NDArray[np.float32]:
        """Return the standardized series at a position, between two volumes by a straight line."""
        low = math.floor(position)
        share = position - low
        before = self._history.get(low)
        if before is None:
            raise UserError(
                f"the response to the first clip begins {-position:.3g} volumes before the run: "
                "give a later --start"
            )
        if not share:
            return before
        return ((1 - share) * before + share * self._history[low + 1]).astype(np.float32)


class LiveDecoder:
    """All networks of a run, kept in memory, which decode one clip at a time.

    Parameters
    ----------
    settings : Settings
        As of a reconstruction.
    folders : mapping
        Finished stages ``train-pr`` and ``train-sr`` by name.
    last : str
        The last part to make.
    voxels : int
        Voxels of a scan; one of zeros is decoded at once, so that all networks are there when the
        first volume comes.
    """

    def __init__(
        self, settings: Settings, folders: Mapping[str, Path], last: str, voxels: int
    ) -> None:
        from neuroclips_cli.backbones.loading import choose_device
        from neuroclips_cli.generation.decoder import Decoder
        from neuroclips_cli.runtime.precision import choose_precision

        device = choose_device(settings.run.device)
        precision = choose_precision(settings.run.precision, device)
        stages = (folders["train-pr"], folders["train-sr"])
        self._decoder = Decoder(settings, *stages, device, precision, keep=True)
        self._last = last
        window = settings.data.window
        self(np.zeros((1, window, voxels) if window > 1 else (1, voxels), np.float32), 0)

    def __call__(self, scan: NDArray[np.float32], number: int) -> Decoded:
        """Decode a scan, float32 (1, voxels), or (1, window, voxels)."""
        return self._decoder.decode(scan, [number], None, self._last)


def film_span(
    timing: FilmTiming, data: DataSettings, tr_s: float, first_s: float
) -> FilmSpan | None:
    """Return the volumes that will answer to a film; None where its length is not known.

    The first volume is measured ``first_s`` after the scan begins, and one follows every ``tr_s``.
    """
    clips = 0 if timing.duration_s is None else int(timing.duration_s / data.clip_s + 1e-6)
    if clips < 1:
        return None
    over = span(timing.positions(clips, data, tr_s, first_s))
    return FilmSpan(over.start, over.stop - over.start)


def default_stop_file(path: Path) -> Path:
    """Return the file that ends following a path, where none is named."""
    return path / STOP_FILE if path.is_dir() else path.with_name(f"{path.name}.{STOP_FILE}")
