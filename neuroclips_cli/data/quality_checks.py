"""Everything found wrong with a data set's values: refused, or repaired with a warning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.errors import UserError

if TYPE_CHECKING:
    from neuroclips_cli.data.stimuli import Stimulus
    from neuroclips_cli.data.stretches import Stretch
    from neuroclips_cli.signal.quality import RunQuality

Series = Callable[["Stretch", int, NDArray[np.int64]], NDArray[np.float64]]


class QualityReport:
    """Collects what was found; each run is looked through once."""

    def __init__(self) -> None:
        self._files: list[str] = []
        self._said: dict[str, str] = {}
        self._found: dict[str, RunQuality] = {}
        self._lifeless: NDArray[np.bool_] | None = None

    def files(self, warnings: Iterable[str]) -> None:
        """Note what was found wrong with headers and masks; whole sentences."""
        self._files = list(warnings)

    def films(self, films: Iterable[Stimulus]) -> None:
        """Note the films whose frame rate varies, or whose pictures begin late."""
        for film in films:
            said, times = [], film.times
            if not film.steady:
                said.append(
                    f"its frame rate varies (longest picture {times.longest_s:.2f} s); frames are "
                    "taken by time"
                )
            if times.start_s:
                said.append(
                    f"its first picture appears {times.start_s:.2f} s after the beginning of the "
                    "file; time is counted from that beginning"
                )
            if said:
                self._said[str(film.path)] = "; ".join(said)

    def run(self, path: Path | str, found: RunQuality, voxels: int) -> None:
        """Note what was found in a run: voxels that have to be left out, and its scale.

        Raises
        ------
        UserError
            If it holds no measurement; see :func:`data.runs.require_valid_run`.
        """
        from neuroclips_cli.data.runs import require_valid_run

        name = str(path)
        if name not in self._found:
            require_valid_run(path, found, voxels)
            self._found[name] = found

    def lifeless_everywhere(self, lifeless: NDArray[np.bool_]) -> None:
        """Note the voxels, bool (voxels,), that hold no signal in any run: reported once."""
        self._lifeless = lifeless

    def twins(
        self,
        segments: Sequence[Stretch],
        z: NDArray[np.float64],
        usable: NDArray[np.bool_],
        series: Series,
    ) -> None:
        """Refuse training runs that correlate nowhere with their repetition.

        Parameters
        ----------
        segments
            One per row of ``z``.
        z
            (segments, voxels) Fisher z of the repeat correlation.
        usable
            bool (voxels,).
        series
            ``series(segment, repetition, columns)``, (clips, voxels), to find where a run belongs.

        Raises
        ------
        UserError
            Names the runs and, where one is found, the run that each of them resembles.
        """
        from neuroclips_cli.signal.quality import (
            FEWEST_CLIPS,
            best_matching_run,
            inconsistent_segments,
        )

        inconsistent, best = inconsistent_segments(z, usable)
        runs = {
            f"{segments[row].name}_{repetition}": series(segments[row], repetition, best)
            for row in inconsistent
            for repetition in segments[row].rows
        }
        if not runs or min(len(data) for data in runs.values()) < FEWEST_CLIPS:
            return
        alike = {
            a: b
            for a, b in best_matching_run(runs).items()
            if a.rsplit("_", 1)[0] != b.rsplit("_", 1)[0]
        }
        hint = "".join(f", {a} answers like {b}" for a, b in alike.items())
        files = ", ".join(map(str, segments[inconsistent[0]].runs.values()))
        raise UserError(
            f"the repetitions of {', '.join(segments[row].name for row in inconsistent)} correlate "
            f"nowhere although those of the other segments do ({files}{hint}): runs are "
            "swapped between segments or subjects, or belong to another film; put them right, or "
            "remove the segment"
        )

    def repetitions(self, segment: Stretch, responses: NDArray[np.floating]) -> None:
        """Refuse test runs that do not go with the other repetitions of their film.

        Parameters
        ----------
        segment
            A test segment.
        responses
            (clips, repetitions, voxels) in the order of the repetitions' numbers.

        Raises
        ------
        UserError
            Names the file.
        """
        from neuroclips_cli.signal.quality import inconsistent_repetitions

        for position in inconsistent_repetitions(responses):
            raise UserError(
                f"{segment.runs[position + 1]} does not correlate with the other repetitions of "
                f"{segment.name}: it is swapped with a run of another segment or subject; put it "
                "right, or remove the file"
            )

    def warnings(self) -> list[str]:
        """Return one sentence for all repairs, for the terminal and the manifest."""
        from neuroclips_cli.signal.quality import odd_scales

        said = [*self._files, *(f"{name}: {words}" for name, words in self._said.items())]
        if self._lifeless is not None and self._lifeless.any():
            said.append(
                f"{int(self._lifeless.sum())} voxels are constant or not finite in every run: left "
                "out, and not counted as comparisons"
            )
        words = {name: found.in_words(self._lifeless) for name, found in self._found.items()}
        said += [f"{name}: {text}: left out" for name, text in words.items() if text]
        scales = {name: found.scale for name, found in self._found.items()}
        said += [
            f"{name}: its values are scaled by about {ratio:.3g} against the other runs; every run "
            "is standardized by itself"
            for name, ratio in odd_scales(scales).items()
        ]
        return said
