"""CineBrain: TR 0.8 s, clips of 4 s in files of their own, times of the runs in tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.readers.cinebrain import CLIP_S, TEST_CLIPS
from neuroclips_cli.io.atomic import write_json
from neuroclips_cli.io.csv import write_csv
from neuroclips_cli.settings.schema import DataSettings
from neuroclips_cli.simulation import films
from neuroclips_cli.simulation.layouts.base import Layout, Recording, Scan, Sink
from neuroclips_cli.simulation.layouts.clip_files import clip_writer
from neuroclips_cli.simulation.timeline import Showing, Timeline, volumes_for

_FRAMES, _FPS = 33, 8
_START_S, _TAIL_S = 8.25, 14.0


class CineBrain(Layout):
    """Every film is one run, shown once; the clips of the last runs are for testing."""

    name = "cinebrain"
    tr_s = 0.8
    top_level = ("stimuli", "sub_*", "truth", "videos")

    def clip_s(self, data: DataSettings) -> float:
        """See :meth:`Layout.clip_s`."""
        return CLIP_S

    def problems(self, scan: Scan) -> list[tuple[bool, str]]:
        """See :meth:`Layout.problems`."""
        plan = scan.simulate
        train = plan.train_segments * plan.clips_per_segment
        test = plan.test_segments * plan.test_clips_per_segment
        return [
            (plan.files != "cifti", "files must be cifti in the layout cinebrain"),
            (train > TEST_CLIPS[0], f"there can be at most {TEST_CLIPS[0]} training clips"),
            (test > len(TEST_CLIPS), f"there can be at most {len(TEST_CLIPS)} test clips"),
        ]

    def film_files(self, root: Path, plan: films.FilmPlan) -> tuple[Path, ...]:
        """See :meth:`Layout.film_files`."""
        return tuple(root / "videos" / f"{number:06d}.mp4" for number in _numbers(plan))

    def sink(self, root: Path, plan: films.FilmPlan, size: int) -> Sink | None:
        """See :meth:`Layout.sink`."""
        return clip_writer(self.film_files(root, plan), CLIP_S, _FRAMES, _FPS, size)

    def places(self, plan: films.FilmPlan) -> list[films.Place]:
        """See :meth:`Layout.places`."""
        return [
            films.Place(f"{number:06d}", place * CLIP_S, (place + 1) * CLIP_S)
            for place, number in enumerate(_numbers(plan))
        ]

    def recordings(self, number: int, scan: Scan) -> list[Recording]:
        """See :meth:`Layout.recordings`."""
        found = []
        folder = Path(f"sub_{number:04d}") / "dtseries"
        for run, (film, duration, _) in enumerate(self.seen(number, scan), start=1):
            count = volumes_for(_START_S + duration + _TAIL_S, scan.tr_s)
            timeline = Timeline(count, scan.tr_s, (Showing(film, _START_S, duration),))
            name = f"sub-{number:04d}_task-shape_run-{run}_space-fsLR_den-91k_bold"
            found.append(Recording(number, name, timeline, (folder / f"{name}.dtseries.nii",)))
        return found

    def write(
        self, root: Path, recording: Recording, series: NDArray[np.float32], scan: Scan
    ) -> None:
        """See :meth:`Layout.write`."""
        sidecar = (root / recording.files[0]).with_name(f"{recording.name}.json")
        write_json(sidecar, {"RepetitionTime": scan.tr_s})
        super().write(root, recording, series, scan)

    def write_tables(self, root: Path, plans: Sequence[films.FilmPlan], scan: Scan) -> None:
        """See :meth:`Layout.write_tables`: when the video of every run started and stopped."""
        for number in range(1, scan.simulate.subjects + 1):
            folder = root / f"sub_{number:04d}" / "beh_data"
            for run, recording in enumerate(self.recordings(number, scan), start=1):
                (shown,) = recording.timeline.shown
                times = [
                    f"{shown.scan_start_s:.3f}",
                    f"{shown.scan_start_s + shown.duration_s:.3f}",
                ]
                write_csv(
                    folder / f"sub_{number:04d}_{run}.csv",
                    ["", "videoStartTime", "videoStopTime"],
                    [["0", *times]],
                )


def _numbers(plan: films.FilmPlan) -> range:
    """Return the numbers of a film's clips: films of one split are as long as each other."""
    count = int(plan.duration_s / CLIP_S + 1e-9)
    train = plan.name.startswith("seg")
    place = int(plan.name.removeprefix("seg").removeprefix("test")) - 1
    first = place * count + (0 if train else TEST_CLIPS[0])
    return range(first, first + count)
