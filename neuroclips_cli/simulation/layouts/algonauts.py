"""Algonauts 2025: series of 1000 parcels in HDF5 files, films as .mkv files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.hdf5_files import import_h5py
from neuroclips_cli.io.atomic import atomic_path
from neuroclips_cli.simulation import films
from neuroclips_cli.simulation.layouts.base import Layout, Recording, Scan
from neuroclips_cli.simulation.timeline import Showing, Timeline, volumes_for

PARCELS = 1000
_ATLAS = "space-MNI152NLin2009cAsym_atlas-Schaefer18_parcel-1000Par7Net"
_TAIL_S = 8.0
_ROOM = 98  # episodes of two halves each that a season's names can count


@dataclass(frozen=True)
class ParcelRecording(Recording):
    """A run with its name inside the file."""

    key: str


class Algonauts(Layout):
    """Training films are halves of Friends' episodes, seen once; test films are parts of Life."""

    name = "algonauts"
    tr_s = 1.49
    top_level = ("stimuli", "fmri", "truth")

    def problems(self, scan: Scan) -> list[tuple[bool, str]]:
        """See :meth:`Layout.problems`."""
        plan = scan.simulate
        return [
            (plan.files != "cifti", "files must be left alone in the layout algonauts"),
            (plan.test_repetitions < 2, "test_repetitions must be at least 2 in algonauts"),
            (plan.train_segments > 2 * _ROOM, f"train_segments must be at most {2 * _ROOM}"),
        ]

    def film_files(self, root: Path, plan: films.FilmPlan) -> tuple[Path, ...]:
        """See :meth:`Layout.film_files`."""
        task = _task(plan.name)
        folder = root / "stimuli" / "movies"
        if plan.name.startswith("seg"):
            return (folder / "friends" / "s1" / f"friends_{task}.mkv",)
        return (folder / "movie10" / "life" / f"{task}.mkv",)

    def cortex(self, scan: Scan) -> NDArray[np.bool_]:
        """See :meth:`Layout.cortex`: every parcel is cortical."""
        return np.ones(PARCELS, bool)

    def recordings(self, number: int, scan: Scan) -> list[Recording]:
        """See :meth:`Layout.recordings`: a film begins with the first volume."""
        found: list[Recording] = []
        folder = Path("fmri") / f"sub-{number:02d}" / "func"
        for film, duration, repetitions in self.seen(number, scan):
            train = film.startswith("seg")
            task, desc = ("friends", "_desc-s123456") if train else ("movie10", "")
            file = folder / f"sub-{number:02d}_task-{task}_{_ATLAS}{desc}_bold.h5"
            count = volumes_for(duration + _TAIL_S, scan.tr_s)
            timeline = Timeline(count, scan.tr_s, (Showing(film, 0.0, duration),))
            for run in range(1, (1 if train else repetitions) + 1):
                key = f"ses-{len(found) + 1:03d}_task-{_task(film)}" + (
                    "" if train else f"_run-{run}"
                )
                found.append(ParcelRecording(number, key, timeline, (file,), key))
        return found

    def write_runs(
        self,
        root: Path,
        recordings: Sequence[Recording],
        record: Callable[[Recording], NDArray[np.float32]],
        scan: Scan,
        advance: Callable[[int], None],
    ) -> None:
        """See :meth:`Layout.write_runs`: all runs of a file at once, standardized as released."""
        h5py = import_h5py(f"writing {root}")
        for file in dict.fromkeys(recording.files[0] for recording in recordings):
            mine = [recording for recording in recordings if recording.files[0] == file]
            if not (root / file).exists():
                with atomic_path(root / file) as temporary, h5py.File(temporary, "w") as out:
                    for recording in mine:
                        series = record(recording)
                        series -= series.mean(axis=0)
                        name = recording.key if isinstance(recording, ParcelRecording) else ""
                        out[name] = series / series.std(axis=0)
            advance(len(mine))

    def truth_positions(self, scan: Scan) -> dict[str, NDArray[np.int64]]:
        """See :meth:`Layout.truth_positions`: the parcels' numbers."""
        return {"position": np.arange(PARCELS)}


def _task(film: str) -> str:
    if film.startswith("test"):
        return f"life{int(film.removeprefix('test')):02d}"
    number = int(film.removeprefix("seg")) - 1
    return f"s01e{number // 2 + 1:02d}{'ab'[number % 2]}"
