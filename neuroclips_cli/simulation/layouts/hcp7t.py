"""HCP 7T movies: four films of excerpts between rests, whose last excerpt is the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.readers.hcp7t import MOVIES
from neuroclips_cli.simulation import films
from neuroclips_cli.simulation.layouts.base import Layout, Recording, Scan, Sink
from neuroclips_cli.simulation.timeline import Showing, Timeline, volumes_for

_FILMS = {1: "CC1", 2: "HO1", 3: "CC2", 4: "HO2"}
_WAYS = {1: "AP", 2: "PA", 3: "PA", 4: "AP"}
_ENDING = "Atlas_MSMAll_hp2000_clean.dtseries.nii"
_FIRST_SUBJECT = 100610


class Hcp7t(Layout):
    """The excerpts have the HCP's own times: 14 training films, and a test film four times.

    Numbers of segments, clips and repetitions are the data set's, not those of the settings.
    """

    name = "hcp7t"
    tr_s = 1.0
    top_level = ("stimuli", "truth", "[0-9][0-9][0-9][0-9][0-9][0-9]")

    def lengths(self, scan: Scan) -> dict[str, float]:
        """See :meth:`Layout.lengths`."""
        return {name: stop - start for name, _, start, stop in _excerpts()}

    def problems(self, scan: Scan) -> list[tuple[bool, str]]:
        """See :meth:`Layout.problems`."""
        return [(scan.simulate.files != "cifti", "files must be cifti in the layout hcp7t")]

    def film_files(self, root: Path, plan: films.FilmPlan) -> tuple[Path, ...]:
        """See :meth:`Layout.film_files`: the films that hold an excerpt."""
        return tuple(
            root / "stimuli" / f"{_stem(movie)}.mp4"
            for name, movie, *_ in _excerpts()
            if name == plan.name
        )

    def sink(self, root: Path, plan: films.FilmPlan, size: int) -> Sink | None:
        """See :meth:`Layout.sink`."""
        return None

    def write_films(self, root: Path, plans: Sequence[films.FilmPlan], size: int) -> None:
        """See :meth:`Layout.write_films`: excerpts at their times, black between them."""
        by_name = {plan.name: plan for plan in plans}
        for movie, known in MOVIES.items():
            path = root / "stimuli" / f"{_stem(movie)}.mp4"
            if path.exists():
                continue
            with films.film_writer(path, size) as append:
                now = 0.0
                for name, of, start, stop in _excerpts():
                    if of == movie:
                        append(_black(start - now, size))
                        for chunk in films.film_frames(by_name[name], size):
                            append(chunk)
                        now = stop
                append(_black(known.volumes - now, size))

    def places(self, plan: films.FilmPlan) -> list[films.Place]:
        """See :meth:`Layout.places`."""
        return [
            films.Place(_stem(movie), 0.0, plan.duration_s, start)
            for name, movie, start, _ in _excerpts()
            if name == plan.name
        ]

    def recordings(self, number: int, scan: Scan) -> list[Recording]:
        """See :meth:`Layout.recordings`."""
        found = []
        for movie, known in MOVIES.items():
            shown = tuple(
                Showing(name, start, stop - start)
                for name, of, start, stop in _excerpts()
                if of == movie
            )
            run = f"tfMRI_MOVIE{movie}_7T_{_WAYS[movie]}"
            label = str(_FIRST_SUBJECT + number - 1)
            folder = Path(label) / "MNINonLinear" / "Results" / run
            timeline = Timeline(volumes_for(known.volumes, scan.tr_s), scan.tr_s, shown)
            found.append(Recording(number, run, timeline, (folder / f"{run}_{_ENDING}",)))
        return found

    def truth_file(self, number: int) -> Path:
        """See :meth:`Layout.truth_file`."""
        return Path("truth") / f"{_FIRST_SUBJECT + number - 1}_ground_truth.npz"


def _stem(movie: int) -> str:
    return f"7T_MOVIE{movie}_{_FILMS[movie]}_v2"


def _excerpts() -> Iterator[tuple[str, int, float, float]]:
    """Yield name, movie, beginning and end of every excerpt in the order of the runs.

    The repeated one is called test1; in all four films it is of the same length.
    """
    count = 0
    for movie, known in MOVIES.items():
        for start, stop in known.excerpts[:-1]:
            count += 1
            yield f"seg{count}", movie, float(start), float(stop)
        start, stop = known.excerpts[-1]
        yield "test1", movie, float(start), float(stop)


def _black(seconds: float, size: int) -> NDArray[np.uint8]:
    return np.zeros((round(seconds * films.FPS), size, size, 3), np.uint8)
