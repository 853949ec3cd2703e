"""What a layout decides: films and runs, their files, and the tables beside them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.settings.schema import DataSettings, SimulateSettings
from neuroclips_cli.simulation import films
from neuroclips_cli.simulation.brain_files import cortex_of, positions_of, write_cifti
from neuroclips_cli.simulation.hemodynamics import best_delay_s
from neuroclips_cli.simulation.subjects import viewers
from neuroclips_cli.simulation.timeline import Timeline

Sink = AbstractContextManager[Callable[[NDArray[np.uint8]], None]]
"""Gives a function that appends uint8 (frames, size, size, 3) to a film."""


@dataclass(frozen=True)
class Recording:
    """One run of one subject.

    Attributes
    ----------
    subject : int
    name : str
        Tells it from the subject's other runs; its noise follows from the name.
    timeline : Timeline
    files : tuple of Path
        Below the data set's folder; the run is complete when all of them are there.
    """

    subject: int
    name: str
    timeline: Timeline
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Scan:
    """All that the settings say about the simulated scans."""

    simulate: SimulateSettings
    data: DataSettings
    tr_s: float
    clip_s: float


class Layout(ABC):
    """One way in which people's films and runs lie in folders.

    Attributes
    ----------
    name : str
        As ``--layout`` takes it.
    tr_s : float
        The data set's own TR in s.
    top_level : tuple of str
        What it writes into the data set's folder, as patterns.
    shows_videos : bool
        Given videos can be shown instead of the synthetic dataset.
    captioned : bool
        Its clips are numbered in the order of the films, so that captions can be told by number.
    corrected : bool
        Sidecars say that slices were brought to the middle of a volume (``StartTime``).
    """

    name: str
    tr_s: float
    top_level: tuple[str, ...]
    shows_videos = False
    captioned = True
    corrected = False

    def scan(self, simulate: SimulateSettings, data: DataSettings) -> Scan:
        """Put the settings together with the layout's own TR and clips."""
        return Scan(simulate, data, simulate.tr_s or self.tr_s, self.clip_s(data))

    def clip_s(self, data: DataSettings) -> float:
        """Return the length of a clip in s."""
        return data.clip_s

    def problems(self, scan: Scan) -> list[tuple[bool, str]]:
        """List what is impossible with this layout: whether it is the case, and how to say it."""
        return []

    def lengths(self, scan: Scan) -> dict[str, float]:
        """Return the length in s of every film by its name, ``seg1`` or ``test1``."""
        plan = scan.simulate
        return {
            name: scan.clip_s
            * (plan.clips_per_segment if name.startswith("seg") else plan.test_clips_per_segment)
            for name in films.film_names(plan.train_segments, plan.test_segments)
        }

    def seen(self, number: int, scan: Scan) -> list[tuple[str, float, int]]:
        """List the films that a subject saw: name, length in s, and how often."""
        plan, everybody = scan.simulate, viewers(scan.simulate)
        return [
            (film, length, _repetitions(film, plan))
            for film, length in self.lengths(scan).items()
            if number in everybody[film]
        ]

    def plans(self, scan: Scan, seed: int) -> list[films.FilmPlan]:
        """Draw the films of the synthetic dataset."""
        return films.world_plans(self.lengths(scan), seed)

    @abstractmethod
    def film_files(self, root: Path, plan: films.FilmPlan) -> tuple[Path, ...]:
        """Return the files that a film is written to."""

    def sink(self, root: Path, plan: films.FilmPlan, size: int) -> Sink | None:
        """Open a film's file; None: it is written by :meth:`write_films`."""
        return films.film_writer(self.film_files(root, plan)[0], size)

    def write_films(self, root: Path, plans: Sequence[films.FilmPlan], size: int) -> None:
        """Write the files that hold several films; there are none in most layouts."""
        return

    def places(self, plan: films.FilmPlan) -> list[films.Place]:
        """Return in which files a film lies, for the list of scenes."""
        (file,) = self.film_files(Path(), plan)
        return [films.Place(file.stem, 0.0, plan.duration_s)]

    def cortex(self, scan: Scan) -> NDArray[np.bool_]:
        """Tell which columns of the series are cortical, bool (columns,)."""
        return cortex_of(scan.simulate.grayordinates)

    @abstractmethod
    def recordings(self, number: int, scan: Scan) -> list[Recording]:
        """List a subject's runs."""

    def write_runs(
        self,
        root: Path,
        recordings: Sequence[Recording],
        record: Callable[[Recording], NDArray[np.float32]],
        scan: Scan,
        advance: Callable[[int], None],
    ) -> None:
        """Write a subject's runs that are not there yet."""
        for recording in recordings:
            if not all((root / file).exists() for file in recording.files):
                self.write(root, recording, record(recording), scan)
            advance(1)

    def write(
        self, root: Path, recording: Recording, series: NDArray[np.float32], scan: Scan
    ) -> None:
        """Write one run; as a dense time series in most layouts."""
        path = root / recording.files[0]
        write_cifti(path, series, scan.tr_s, scan.simulate.grayordinates)

    def write_tables(self, root: Path, plans: Sequence[films.FilmPlan], scan: Scan) -> None:
        """Write what describes the data set, beside scenes.csv and captions.csv, if anything."""
        return

    def truth_file(self, number: int) -> Path:
        """Return where a subject's ground truth lies, below the data set's folder."""
        return Path("truth") / f"sub-{number:02d}_ground_truth.npz"

    def truth_positions(self, scan: Scan) -> dict[str, NDArray[np.int64]]:
        """Return where the rows of the ground truth lie in the files."""
        return {"position": positions_of(scan.simulate.grayordinates, scan.simulate.files)}


def _repetitions(film: str, plan: SimulateSettings) -> int:
    return plan.train_repetitions if film.startswith("seg") else plan.test_repetitions


def timing_truth(scan: Scan, *, corrected: bool) -> dict[str, Any]:
    """Return what is known of the runs' timing: the delay counts from when a volume is measured."""
    first_s = scan.tr_s / 2 if corrected else 0.0
    return {
        "tr_s": scan.tr_s,
        "clip_s": scan.clip_s,
        "volume_stands_for_s_after_its_beginning": scan.tr_s / 2,
        "first_volume_s": first_s,
        "true_delay_s": round(best_delay_s(scan.clip_s, scan.tr_s) + first_s, 2),
    }
