"""An own study after fMRIPrep: a raw BIDS tree with events, and its derivatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.io.atomic import write_json, write_text
from neuroclips_cli.io.csv import write_csv
from neuroclips_cli.simulation import films
from neuroclips_cli.simulation.brain_files import (
    MESHES,
    SPACE,
    write_cifti,
    write_gifti,
    write_volumes,
)
from neuroclips_cli.simulation.layouts.base import Layout, Recording, Scan
from neuroclips_cli.simulation.layouts.confounds import write_confounds
from neuroclips_cli.simulation.noise import named_rng
from neuroclips_cli.simulation.timeline import Showing, Timeline, volumes_for

REST_BEFORE_S, REST_AFTER_S = 6.0, 14.0
"""Rest before the film of a run and after it, in s."""
BIDS_VERSION = "1.9.0"


NO_RAW = ("/simulation.json", "/captions.csv", "/scenes.csv", "truth", "/task-*_bold.json")
"""What is no part of a raw BIDS tree: no raw runs are written, so that their sidecars have none."""
NO_DERIVATIVE = ("*_bold.*", "*_mask.*", "*_timeseries.*")
"""What BIDS has no names for, or wants more of in the sidecar, in fMRIPrep's outputs."""


@dataclass(frozen=True)
class BidsRecording(Recording):
    """A run with the entities of its name: ``sub-01_ses-02_task-train_run-03``."""

    stem: str
    folder: Path
    task: str


class Fmriprep(Layout):
    """Sessions are repetitions; every run shows one film between two rests.

    The first volume of a run begins with the run, and volumes are taken at any TR, so that a film
    begins between two volumes.
    """

    name = "fmriprep"
    tr_s = 1.5
    top_level = (
        *("stimuli", "sub-*", "derivatives", "truth", "dataset_description.json"),
        *("participants.tsv", "task-*_bold.json", ".bidsignore"),
    )
    shows_videos = True
    corrected = True
    derivatives = Path("derivatives") / "fmriprep"
    label = "sub-{:02d}"

    def film_files(self, root: Path, plan: films.FilmPlan) -> tuple[Path, ...]:
        """See :meth:`Layout.film_files`."""
        return (root / "stimuli" / f"{plan.name}.mp4",)

    def recordings(self, number: int, scan: Scan) -> list[Recording]:
        """See :meth:`Layout.recordings`."""
        return list(self.runs(number, scan))

    def runs(self, number: int, scan: Scan) -> Iterator[BidsRecording]:
        """List a subject's runs: all films of a session, then those of the next one."""
        seen = self.seen(number, scan)
        for session in range(1, max(repetitions for *_, repetitions in seen) + 1):
            run = {"train": 0, "test": 0}
            for film, duration, repetitions in seen:
                if session > repetitions:
                    continue
                task = "train" if film.startswith("seg") else "test"
                run[task] += 1
                whole = REST_BEFORE_S + duration + REST_AFTER_S
                timeline = Timeline(
                    volumes_for(whole, scan.tr_s),
                    scan.tr_s,
                    (Showing(film, REST_BEFORE_S, duration),),
                )
                stem = f"ses-{session:02d}_task-{task}_run-{run[task]:02d}"
                yield self.recording(number, scan, stem, task, timeline)

    def recording(
        self, number: int, scan: Scan, stem: str, task: str, timeline: Timeline
    ) -> BidsRecording:
        """Name a run's files after its entities; those of a session lie in its folder."""
        subject = self.label.format(number)
        session = stem.split("_", 1)[0] if stem.startswith("ses-") else ""
        folder = Path(subject) / session / "func"
        full = f"{subject}_{stem}"
        names = [f"{full}_{ending}" for ending in endings(scan)]
        files = tuple(self.derivatives / folder / name for name in names)
        return BidsRecording(number, stem, timeline, files, full, folder, task)

    def write(
        self, root: Path, recording: Recording, series: NDArray[np.float32], scan: Scan
    ) -> None:
        """See :meth:`Layout.write`."""
        assert isinstance(recording, BidsRecording)
        kind, grayordinates = scan.simulate.files, scan.simulate.grayordinates
        paths = tuple(root / file for file in recording.files)
        sidecar = {
            "RepetitionTime": scan.tr_s,
            "SliceTimingCorrected": True,
            "StartTime": round(scan.tr_s / 2, 6),
            "TaskName": recording.task,
        }
        for path in paths if kind != "volume" else paths[:1]:
            write_json(path.with_name(f"{path.name.split('.')[0]}.json"), sidecar)
        write_confounds(
            root / self.derivatives / recording.folder,
            recording.stem,
            recording.timeline,
            named_rng(scan.simulate.subjects, recording.subject, recording.stem),
        )
        if kind == "cifti":
            write_cifti(paths[0], series, scan.tr_s, grayordinates)
        elif kind == "gifti":
            write_gifti(paths, series, grayordinates)
        else:
            write_volumes(paths[0], paths[1], series, scan.tr_s, grayordinates)

    def write_tables(self, root: Path, plans: Sequence[films.FilmPlan], scan: Scan) -> None:
        """See :meth:`Layout.write_tables`: descriptions, participants, and every run's events."""
        described = {"Name": "simulated by neuroclips", "BIDSVersion": BIDS_VERSION}
        write_json(root / "dataset_description.json", {**described, "DatasetType": "raw"})
        made_by = [{"Name": "fMRIPrep", "Version": "0+simulated"}, {"Name": "neuroclips"}]
        write_json(
            root / self.derivatives / "dataset_description.json",
            {**described, "DatasetType": "derivative", "GeneratedBy": made_by},
        )
        for folder, patterns in ((root, NO_RAW), (root / self.derivatives, NO_DERIVATIVE)):
            write_text(folder / ".bidsignore", "".join(f"{pattern}\n" for pattern in patterns))
        numbers = range(1, scan.simulate.subjects + 1)
        labels = [[self.label.format(number)] for number in numbers]
        write_csv(root / "participants.tsv", ["participant_id"], labels)
        for number in numbers:
            for recording in self.runs(number, scan):
                self.write_events(root, recording)
        for task in ("train", "test"):
            step = {"RepetitionTime": scan.tr_s, "TaskName": task}
            write_json(root / f"task-{task}_bold.json", step)

    def write_events(self, root: Path, recording: BidsRecording) -> None:
        """Write what a run showed, and when, into the raw tree."""
        write_csv(
            root / recording.folder / f"{recording.stem}_events.tsv",
            ["onset", "duration", "trial_type", "stim_file"],
            [
                [f"{s.scan_start_s:.6g}", f"{s.duration_s:.6g}", "movie", f"{s.film}.mp4"]
                for s in recording.timeline.shown
            ],
        )


def endings(scan: Scan) -> tuple[str, ...]:
    """Return the endings of a run's files, as fMRIPrep calls them."""
    mesh = MESHES[scan.simulate.grayordinates][0]
    space = f"space-{SPACE}_res-2_desc"
    return {
        "cifti": ("space-fsLR_den-91k_bold.dtseries.nii",),
        "gifti": tuple(f"hemi-{side}_space-{mesh}_bold.func.gii" for side in "LR"),
        "volume": (f"{space}-preproc_bold.nii.gz", f"{space}-brain_mask.nii.gz"),
    }[scan.simulate.files]
