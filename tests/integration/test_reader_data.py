"""From each layout's files, written by nibabel, h5py, json and csv, to arrays: answers by scipy.

fMRIPrep's many forms are in ``test_fmriprep_data.py``.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import nibabel as nib
import numpy as np
import pytest
from helpers.bids_tree import write_cifti
from helpers.movie_runs import VERTICES, VOXELS, WrittenRun, facts, write_film
from helpers.simulation_world import settings_for
from numpy.typing import NDArray
from scipy import stats
from scipy.interpolate import CubicSpline

from neuroclips_cli.data.new_scans import FilmTiming
from neuroclips_cli.data.run_table import RunRow, read_run_table
from neuroclips_cli.data.runs import CiftiRun
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.stages import preprocess
from neuroclips_cli.stages.decode import ScanReader

DELAY_S, SILENT, DEAD = 4.0, 12, 2
"""Delay of the responses; voxels that answer to nothing, the last ones; zeros, the first ones."""
REGION = slice(10, 50)
"""Vertices of the atlas."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shown:
    """A stretch of film in a run.

    `first_s` is when the run's first volume was measured, and `onset_s` when the film began, in s
    after the scan did.
    """

    run: WrittenRun
    onset_s: float
    first_s: float = 0.0


@dataclass
class Segment:
    """A segment of the clip table: its film, where in it it begins, and its repetitions."""

    film: Path
    film_start_s: float
    clips: int
    repetitions: list[Shown]


@dataclass
class Study:
    """A data set, and the segments of its arrays in their order."""

    layout: str
    train: list[Segment] = field(default_factory=list)
    test: list[Segment] = field(default_factory=list)
    clip_s: float = 2.0
    whole: bool = False
    subject: int = 1
    others: list[Segment] = field(default_factory=list)
    settings: dict[str, object] = field(default_factory=dict)


def measured(tr_s: float, volumes: int, films: list[tuple[int, float, float, float]], seed: int):
    """Return a run of films ``(number, film_start_s, onset_s, duration_s)`` after its first volume.

    Some voxels of it are dead, others do not answer.
    """
    run = WrittenRun("", volumes, tr_s, films, seed, lag_s=DELAY_S)
    noise = np.random.default_rng([9, seed]).normal(1000, 10, (volumes, SILENT))
    run.data[:, -SILENT:] = noise
    run.data[:, :DEAD] = 0
    return run


def write_json(path: Path, **values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), "utf-8")


def write_rows(path: Path, rows: list[list[Any]], delimiter: str = "\t") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=delimiter).writerows(rows)


def cc2017(root: Path) -> Study:
    """Four training films seen twice and a test film seen three times, one or two volumes early."""
    study = Study("cc2017")
    for number, name in enumerate(("seg1", "seg2", "seg3", "seg4", "test1"), 1):
        segment = Segment(root / "stimuli" / f"{name}.mp4", 0.0, 18, [])
        write_film(segment.film, number, 36.0)
        for repetition in range(1, 4 if name == "test1" else 3):
            leading = 1 + (number + repetition) % 2
            films = [(number, 0.0, 2.0 * leading, 36.0)]
            run = measured(2.0, leading + 18 + 4, films, 10 * number + repetition)
            folder = root / "subject1" / "fmri" / name / "cifti"
            write_cifti(folder / f"{name}_{repetition}_Atlas.dtseries.nii", run.data, 2.0)
            segment.repetitions.append(Shown(run, 2.0 * leading))
        (study.test if name == "test1" else study.train).append(segment)
    return study


def algonauts(root: Path) -> Study:
    """Parcels in HDF5 files: three halves of episodes and a part of Life, each seen twice."""
    study = Study("algonauts", subject=2, settings={"data__test_films": ("life*",)})
    func = root / "fmri" / "sub-02" / "func"
    func.mkdir(parents=True)
    for number, task in enumerate(("s01e01a", "s01e01b", "s01e02a", "life01"), 1):
        movie = "movie10" if task == "life01" else "friends"
        name = f"{task}.mkv" if task == "life01" else f"friends_{task}.mkv"
        segment = Segment(root / "stimuli" / "movies" / name, 0.0, 18, [])
        write_film(segment.film, number, 36.0)
        with h5py.File(func / f"sub-02_task-{movie}_atlas-Schaefer18_bold.h5", "a") as out:
            for repetition in (1, 2):
                run = measured(1.49, 32, [(number, 0.0, 0.0, 36.0)], 10 * number + repetition)
                out[f"ses-{repetition:03d}_task-{task}_run-{repetition}"] = run.data
                segment.repetitions.append(Shown(run, 0.0))
        (study.test if task == "life01" else study.train).append(segment)
    return study


EXCERPTS = {
    1: (921, "AP", "CC1", ((20, 264), (284, 506), (526, 714), (734, 798), (818, 901))),
    2: (918, "PA", "HO1", ((20, 247), (267, 525), (546, 795), (815, 898))),
}
"""Volumes, phase encoding, film, and seconds of the excerpts of the first two of HCP's runs."""


def hcp7t(root: Path) -> Study:
    """Two runs of two subjects; the last excerpt is the same in both runs."""
    chosen = {"data__selection": "intersubject", "data__other_subjects": (100611,)}
    study = Study("hcp7t", subject=100610, settings=chosen)
    last: list[Shown] = []
    for movie, (volumes, way, name, excerpts) in EXCERPTS.items():
        film = root / "stimuli" / f"7T_MOVIE{movie}_{name}_v2.mp4"
        write_film(film, movie, volumes, rate=1)
        for subject in (100610, 100611):
            shown = [(movie, a, a, b - a) for a, b in excerpts[:-1]]
            shown.append((1, 818.0, excerpts[-1][0], 83.0))
            run = measured(1.0, volumes, shown, subject + movie)
            stem = f"tfMRI_MOVIE{movie}_7T_{way}"
            folder = root / str(subject) / "MNINonLinear" / "Results" / stem
            write_cifti(folder / f"{stem}_Atlas.dtseries.nii", run.data, 1.0)
            own = [Segment(film, a, (b - a) // 2, [Shown(run, float(a))]) for a, b in excerpts[:-1]]
            (study.train if subject == study.subject else study.others).extend(own)
            last += [Shown(run, float(excerpts[-1][0]))] * (subject == study.subject)
    study.test = [Segment(root / "stimuli" / "7T_MOVIE1_CC1_v2.mp4", 818.0, 41, last)]
    return study


def cinebrain(root: Path) -> Study:
    """Clips of 4 s dealt out over three runs, whose slices were brought to the middle of the TR."""
    study = Study("cinebrain", clip_s=4.0, whole=True, subject=3)
    study.settings = {"data__selection": "atlas", "data__mask": str(atlas(root.parent))}
    for number, onset_s in ((1, 8.25), (2, 7.5), (3, 9.1)):
        clips = [(number - 1) * 6 + place + 7548 * (number == 3) for place in range(6)]
        films = [(clip, 0.0, onset_s + 4 * k - 0.4, 4.0) for k, clip in enumerate(clips)]
        run = measured(0.8, 60, films, number)
        path = root / "dtseries" / f"sub-0003_task-shape_run-{number}_space-fsLR_den-91k_bold.json"
        write_json(path, RepetitionTime=0.8, SliceTimingCorrected=True, StartTime=0.4)
        write_cifti(path.with_suffix(".dtseries.nii"), run.data, 0.8)
        times = [["videoStartTime", "videoStopTime"], [onset_s, onset_s + 24]]
        write_rows(root / "beh_data" / f"sub_0003_{number}.csv", times, ",")
        for place, clip in enumerate(clips):
            film = root / "videos" / f"{clip:06d}.mp4"
            # 33 pictures at 8 per second as released; films that look alike would be one film
            write_film(film, clip % 7548, 33 / 8, rate=8)
            shown = Shown(run, onset_s + 4 * place, 0.4)
            (study.test if number == 3 else study.train).append(Segment(film, 0.0, 1, [shown]))
    return study


def bold_moments(root: Path) -> Study:
    """Trials of 3 s in an order of every run's own, with oddballs and fixations between them."""
    study = Study("bold-moments", clip_s=3.0, whole=True)
    study.settings = {"data__selection": "atlas", "data__mask": str(atlas(root.parent))}
    write_json(root / "dataset_description.json", Name="BOLD Moments", BIDSVersion="1.7.0")
    for task, numbers, sessions in (
        ("train", (3, 1, 5, 2, 4), (2, 3)),
        ("test", (1002, 1001, 1003), (2, 3, 4)),
    ):
        segments = {
            number: Segment(root / "stimuli" / f"vid{number:04d}.mp4", 0.0, 1, [])
            for number in numbers
        }
        for number, segment in segments.items():
            write_film(segment.film, number % 1000 + 5 * (task == "test"), 3.0)
        for session in sessions:
            order = list(numbers) if session == 2 else list(np.roll(numbers, session))
            onsets = [7.0 + 4 * place + 8 * (place > 1) for place in range(len(order))]
            films = [(n, 0.0, onset, 3.0) for n, onset in zip(order, onsets, strict=True)]
            run = measured(1.75, 28, films, 10 * session + (task == "test"))
            events = [["onset", "duration", "trial_type", "stim_file"]]
            events += [
                [o, 3, "video", f"vid{n:04d}.mp4"] for n, o in zip(order, onsets, strict=True)
            ]
            events += [[15.0, 3, "oddball", "oddball.mp4"], [19.0, 4, "fixation", "n/a"]]
            where = Path("sub-01") / f"ses-{session:02d}" / "func"
            stem = f"sub-01_ses-{session:02d}_task-{task}_run-1"
            write_rows(root / where / f"{stem}_events.tsv", events)
            path = root / "derivatives" / "versionB" / "fmriprep" / where / f"{stem}_space-fsLR"
            path = path.with_name(f"{path.name}_den-91k_bold.json")
            write_json(path, RepetitionTime=1.75)
            write_cifti(path.with_suffix(".dtseries.nii"), run.data, 1.0)
            for number, onset in zip(order, onsets, strict=True):
                segments[number].repetitions.append(Shown(run, onset))
        setattr(study, task, list(segments.values()))
    return study


def atlas(folder: Path) -> Path:
    """Write labels of some vertices of both hemispheres."""
    sides = [
        nib.cifti2.BrainModelAxis.from_surface(np.arange(VERTICES), VERTICES, f"Cortex{side}")
        for side in ("Left", "Right")
    ]
    keys = np.zeros((1, VOXELS), np.float32)
    keys[0, REGION] = 1
    table = {0: ("???", (0, 0, 0, 0)), 1: ("V1", (1, 0, 0, 1))}
    path = folder / "areas.dlabel.nii"
    axes = (nib.cifti2.LabelAxis(["areas"], [table]), sides[0] + sides[1])
    nib.cifti2.Cifti2Image(keys, header=axes).to_filename(path)
    return path


def standardized(series: Array) -> Array:
    """Remove a line and bring to unit deviation."""
    design = np.stack([np.ones(len(series)), np.arange(len(series))], axis=1)
    left = series - design @ np.linalg.lstsq(design, series, rcond=None)[0]
    deviation = left.std(axis=0, ddof=1)
    return np.asarray(left / np.where(deviation > 0, deviation, 1))


def responses(study: Study, segment: Segment, shown: Shown) -> Array:
    """Return (clips, voxels): cubic between the volumes, which are standardized before."""
    onsets_s = shown.onset_s - shown.first_s + study.clip_s * np.arange(segment.clips)
    places = (onsets_s + DELAY_S) / shown.run.tr_s
    places = np.where(np.abs(places - places.round()) < 1e-6, places.round(), places)
    first, last = int(np.floor(places.min())), int(np.ceil(places.max()))
    if study.whole:
        first, last = 0, shown.run.volumes - 1
    z = standardized(shown.run.data[first : last + 1].astype(np.float64))
    if len(z) < 4:
        raise AssertionError("too few volumes for a cubic spline")
    return np.asarray(CubicSpline(np.arange(len(z)), z)(places - first))


def correlation(first: Array, second: Array) -> Array:
    """Return the correlation of columns, 0 where one is constant."""
    one, two = (x - x.mean(axis=0) for x in (first, second))
    norm = np.sqrt((one**2).sum(axis=0) * (two**2).sum(axis=0))
    return np.asarray((one * two).sum(axis=0) / np.where(norm > 0, norm, 1))


def reproducible(study: Study) -> NDArray[np.bool_]:
    """Correlate the repetitions over the volumes while a film ran; t-test over the films."""
    z = []
    for segment in study.train:
        series = []
        for shown in segment.repetitions:
            times_s = np.arange(shown.run.volumes) * shown.run.tr_s - shown.onset_s
            ends_s = study.clip_s * segment.clips - shown.run.tr_s
            during = (times_s > -1e-6) & (times_s < ends_s + 1e-6)
            series.append(standardized(shown.run.data[during].astype(np.float64)))
        z.append(np.arctanh(correlation(*series)))
    with np.errstate(invalid="ignore", divide="ignore"):
        t, p = stats.ttest_1samp(np.array(z), 0.0)
    return np.asarray((t > 0) & (p < 1.0 / (VOXELS - DEAD)) & (np.arange(VOXELS) >= DEAD))


def selection(study: Study) -> NDArray[np.bool_]:
    """Return which voxels are selected, by the rule of the study's settings."""
    chosen = np.arange(VOXELS) >= DEAD
    how = study.settings.get("data__selection", "reproducibility")
    if how == "reproducibility":
        return reproducible(study)
    if how == "atlas":
        return chosen & np.isin(np.arange(VOXELS), np.arange(VOXELS)[REGION])
    return chosen & (np.arange(VOXELS) < VOXELS - SILENT)  # what two subjects share, by design


def pictures(study: Study, segments: list[Segment]) -> NDArray[np.int64]:
    """Return the picture on screen at six times of every clip, as PyAV decodes them."""
    import av

    found = []
    for segment in segments:
        with av.open(str(segment.film)) as container:
            rate = float(container.streams.video[0].average_rate)
            shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        times_s = segment.film_start_s + study.clip_s * np.arange(6 * segment.clips) / 6
        numbers = np.floor(times_s * rate + 1e-6).astype(int)
        found.append(np.array(shown, np.int64)[numbers])
    return np.concatenate(found)


LAYOUTS: dict[str, Callable[[Path], Study]] = {
    "cc2017": cc2017,
    "algonauts": algonauts,
    "hcp7t": hcp7t,
    "cinebrain": cinebrain,
    "bold-moments": bold_moments,
}


def chosen(study: Study, root: Path, **more: object) -> Settings:
    """Return the settings of a study."""
    given = {"run__subject": study.subject, "data__clip_s": study.clip_s, **study.settings}
    given |= {"data__standardize": "run"} if study.whole else {}
    return settings_for(root, root.parent, **{"data__detrend_order": 1, **given, **more})


def run(study: Study, root: Path, **more: object) -> Path:
    with mock.patch("os.fsync"):
        return preprocess.run(chosen(study, root, **more))


def decoded_alike(study: Study, root: Path, done: Path) -> None:
    """``decode`` makes of every test run what ``preprocess`` did, bit for bit."""
    array, start = np.load(done / "fmri_test_repetitions.npy"), 0
    films: dict[object, list[RunRow]] = {}
    for row in read_run_table(done / "runs.tsv"):
        if row.split == "test":
            films.setdefault((row.film, row.film_start_s), []).append(row)
    for rows in films.values():
        for row in rows:
            timing = FilmTiming(row.scan_start_s or 0.0, row.duration_s)
            named = ",".join(map(str, row.files)) + (f"#{row.key}" if row.key else "")
            scans = ScanReader(chosen(study, root), done, timing).read([Path(named)])
            expected = array[start : start + len(scans), row.repetition - 1]
            assert np.array_equal(scans, expected), (row.film.name, row.repetition)
        start += len(scans)
    assert start == len(array)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_and_frames_equal_what_scipy_makes_of_the_files(tmp_path: Path, layout: str) -> None:
    root = tmp_path / "data"
    root.mkdir()
    study = LAYOUTS[layout](root)
    blocks, reads = CiftiRun.blocks, Counter[Path]()

    def counted(opened: CiftiRun, *of: Any) -> Any:
        reads[opened.path] += 1
        return blocks(opened, *of)

    with mock.patch.object(CiftiRun, "blocks", counted):
        done = run(study, root)
    if study.whole:  # looked through, read, and the lag scan: not once per trial
        assert max(reads.values()) <= 3
    wanted = selection(study)
    with np.load(done / "selection.npz", allow_pickle=False) as found:
        assert np.array_equal(found["selected"], wanted)
        mean_z = found["mean_z"]
    assert facts(done)["layout"]["name"] == layout
    for name, segments in (("train", study.train), ("test", study.test)):
        file = "fmri_train.npy" if name == "train" else "fmri_test_repetitions.npy"
        array, start = np.load(done / file), 0
        for segment in segments:
            rows = slice(start, start := start + segment.clips)
            for repetition, shown in enumerate(segment.repetitions):
                expected = responses(study, segment, shown)[:, wanted]
                assert np.abs(array[rows, repetition] - expected).max() < 1e-4
        assert array.shape == (start, len(segments[0].repetitions), wanted.sum())
        frames = np.load(done / f"frames_{name}.npy").astype(int)
        assert np.abs(frames.reshape(-1, 32, 32, 3) - pictures(study, segments)).max() <= 1
    decoded_alike(study, root, done)
    if study.others:
        pairs = zip(study.train, study.others, strict=True)
        z = [
            (s.clips - 4) * np.arctanh(
                correlation(*(responses(study, x, x.repetitions[0]) for x in (s, o)))
            )
            for s, o in pairs
        ]  # fmt: skip
        total = sum(segment.clips - 4 for segment in study.train)
        assert np.abs(np.sum(z, axis=0) / total - mean_z)[wanted].max() < 1e-4


def test_trials_are_too_short_for_the_correlation_of_their_repetitions(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    with pytest.raises(UserError, match=r"was on for a few volumes only.* data\.selection"):
        run(bold_moments(root), root, data__selection="reproducibility")
