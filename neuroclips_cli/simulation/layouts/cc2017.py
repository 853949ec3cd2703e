"""cc2017's layout: ``subject1/fmri/seg1/cifti/seg1_1_Atlas.dtseries.nii``, ``stimuli/seg1.mp4``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.settings.schema import DataSettings, SimulateSettings
from neuroclips_cli.simulation import films
from neuroclips_cli.simulation.layouts.base import Layout, Recording, Scan
from neuroclips_cli.simulation.scanner import cc2017_timeline


class Cc2017(Layout):
    """One run per film and repetition, one volume per clip."""

    name = "cc2017"
    tr_s = 2.0
    top_level = ("stimuli", "subject*")
    shows_videos = True

    def scan(self, simulate: SimulateSettings, data: DataSettings) -> Scan:
        """See :meth:`Layout.scan`; a volume lasts as long as a clip."""
        return Scan(simulate, data, simulate.tr_s or data.clip_s, data.clip_s)

    def problems(self, scan: Scan) -> list[tuple[bool, str]]:
        """See :meth:`Layout.problems`."""
        return [
            (scan.tr_s != scan.clip_s, "a clip must last as long as a volume (clip_s = tr_s)"),
            (scan.simulate.train_repetitions < 2, "train_repetitions must be at least 2"),
            (scan.simulate.files != "cifti", "files must be cifti in the layout cc2017"),
        ]

    def film_files(self, root: Path, plan: films.FilmPlan) -> tuple[Path, ...]:
        """See :meth:`Layout.film_files`."""
        return (root / "stimuli" / f"{plan.name}.mp4",)

    def recordings(self, number: int, scan: Scan) -> list[Recording]:
        """See :meth:`Layout.recordings`."""
        found = []
        for film, duration, repetitions in self.seen(number, scan):
            timeline = cc2017_timeline(film, duration, scan.tr_s, scan.data.trailing_volumes)
            folder = Path(f"subject{number}") / "fmri" / film / "cifti"
            for repetition in range(1, repetitions + 1):
                name = f"{film}_{repetition}"
                file = folder / f"{name}_Atlas.dtseries.nii"
                found.append(Recording(number, name, timeline, (file,)))
        return found

    def truth_file(self, number: int) -> Path:
        """See :meth:`Layout.truth_file`."""
        return Path(f"subject{number}") / "ground_truth.npz"

    def truth_positions(self, scan: Scan) -> dict[str, NDArray[np.int64]]:
        """See :meth:`Layout.truth_positions`; one row per cortical vertex of the files."""
        return {}
