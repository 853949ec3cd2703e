"""BOLD Moments: trials of 3 s videos, 4 s apart, as events of BIDS runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from neuroclips_cli.data.readers.bold_moments import CLIP_S
from neuroclips_cli.io.csv import write_csv
from neuroclips_cli.settings.schema import DataSettings
from neuroclips_cli.simulation import films
from neuroclips_cli.simulation.layouts.base import Scan, Sink
from neuroclips_cli.simulation.layouts.clip_files import clip_writer
from neuroclips_cli.simulation.layouts.fmriprep import BidsRecording, Fmriprep
from neuroclips_cli.simulation.noise import named_rng
from neuroclips_cli.simulation.timeline import Showing, Timeline, volumes_for

_APART_S, _FIRST_S, _LAST_S = 4.0, 7.0, 16.0
_FIRST_TEST_VIDEO = 1001
_ODDBALL_EVERY = 12
_FRAMES = round(CLIP_S * films.FPS)


class BoldMoments(Fmriprep):
    """Every film is cut into videos; each run shows the videos of one film in an order of its own.

    After every twelfth trial comes an oddball, which shows no video.
    """

    name = "bold-moments"
    tr_s = 1.75
    shows_videos = False
    captioned = False  # trials come in random order
    derivatives = Path("derivatives") / "versionB" / "fmriprep"

    def clip_s(self, data: DataSettings) -> float:
        """See :meth:`Layout.clip_s`."""
        return CLIP_S

    def problems(self, scan: Scan) -> list[tuple[bool, str]]:
        """See :meth:`Layout.problems`."""
        plan = scan.simulate
        videos, most = plan.train_segments * plan.clips_per_segment, _FIRST_TEST_VIDEO - 1
        return [(videos > most, f"there can be at most {most} training clips")]

    def film_files(self, root: Path, plan: films.FilmPlan) -> tuple[Path, ...]:
        """See :meth:`Layout.film_files`."""
        count = int(plan.duration_s / CLIP_S + 1e-9)
        return tuple(root / "stimuli" / _video(plan.name, place, count) for place in range(count))

    def sink(self, root: Path, plan: films.FilmPlan, size: int) -> Sink | None:
        """See :meth:`Layout.sink`."""
        return clip_writer(self.film_files(root, plan), CLIP_S, _FRAMES, films.FPS, size)

    def places(self, plan: films.FilmPlan) -> list[films.Place]:
        """See :meth:`Layout.places`."""
        return [
            films.Place(file.stem, place * CLIP_S, (place + 1) * CLIP_S)
            for place, file in enumerate(self.film_files(Path(), plan))
        ]

    def runs(self, number: int, scan: Scan) -> Iterator[BidsRecording]:
        """List a subject's runs: sessions are repetitions, from the second one on."""
        for film, duration, repetitions in self.seen(number, scan):
            task = "train" if film.startswith("seg") else "test"
            run = int(film.removeprefix("seg").removeprefix("test"))
            count = int(duration / CLIP_S + 1e-9)
            for repetition in range(1, repetitions + 1):
                stem = f"ses-{repetition + 1:02d}_task-{task}_run-{run}"
                order = named_rng(number, stem).permutation(count)
                shown = tuple(
                    Showing(film, _onset(trial), CLIP_S, float(place) * CLIP_S)
                    for trial, place in enumerate(order)
                )
                whole = volumes_for(_onset(count) + _LAST_S, scan.tr_s)
                timeline = Timeline(whole, scan.tr_s, shown)
                yield self.recording(number, scan, stem, task, timeline)

    def write_events(self, root: Path, recording: BidsRecording) -> None:
        """Write what a run showed, and when, into the raw tree."""
        shown = recording.timeline.shown
        rows: list[list[str]] = [
            [
                f"{one.scan_start_s:g}",
                f"{one.duration_s:g}",
                recording.task,
                _video(one.film, round(one.film_start_s / CLIP_S), len(shown)),
            ]
            for one in shown
        ]
        for trial in range(_ODDBALL_EVERY, len(shown), _ODDBALL_EVERY):
            rows.append([f"{_onset(trial) - _APART_S:g}", f"{CLIP_S:g}", "oddball", "n/a"])
        rows.sort(key=lambda row: float(row[0]))
        write_csv(
            root / recording.folder / f"{recording.stem}_events.tsv",
            ["onset", "duration", "trial_type", "stim_file"],
            rows,
        )


def _onset(trial: int) -> float:
    """Return when a trial begins, in s: an oddball takes a trial's time after every twelfth."""
    return _FIRST_S + (trial + trial // _ODDBALL_EVERY) * _APART_S


def _video(film: str, place: int, count: int) -> str:
    number = int(film.removeprefix("seg").removeprefix("test")) - 1
    first = 1 if film.startswith("seg") else _FIRST_TEST_VIDEO
    return f"vid{first + number * count + place:04d}.mp4"
