"""Write a data set whose ground truth is known, in the layout of cc2017 or of another data set."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from neuroclips_cli.data.viewers import VIEWERS
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import (
    atomic_path,
    read_json,
    remove_leftovers,
    write_json,
)
from neuroclips_cli.io.csv import write_csv
from neuroclips_cli.io.lock import stage_lock
from neuroclips_cli.settings.schema import DataSettings, SimulateSettings
from neuroclips_cli.simulation import films
from neuroclips_cli.simulation.attributes import image_descriptors, scene_attributes
from neuroclips_cli.simulation.features import (
    BIN_S,
    FEATURE_FPS,
    WORKING_SIZE,
    feature_maps,
    shrink,
)
from neuroclips_cli.simulation.geometry import CHOICES
from neuroclips_cli.simulation.layouts import LAYOUTS, Layout
from neuroclips_cli.simulation.layouts.base import Recording, Scan, Sink, timing_truth
from neuroclips_cli.simulation.provenance import FILMS, RECORD, film_digests
from neuroclips_cli.simulation.scanner import FilmFeatures, Subject, scale_of
from neuroclips_cli.simulation.subjects import DIFFERENCES, viewers

_WORKERS = 2
SCENE_COLUMNS = (
    *("film", "scene", "start_s", "end_s"),
    *("kind", "color", "motion", "setting", "caption"),
)
CAPTION_COLUMNS = ("split", "segment", "clip", "caption")
VIEWER_COLUMNS = ("film", "subject")


def steps(simulate: SimulateSettings, data: DataSettings) -> int:
    """Films and runs to write, for a progress bar."""
    layout = LAYOUTS[simulate.layout]
    scan = layout.scan(simulate, data)
    runs = sum(len(layout.recordings(number, scan)) for number in _numbers(simulate))
    return len(layout.lengths(scan)) + runs


def simulate_dataset(
    root: Path,
    simulate: SimulateSettings,
    data: DataSettings,
    seed: int,
    *,
    stimuli: Path | None = None,
    overwrite: bool = False,
    advance: Callable[[int], None] | None = None,
) -> bool:
    """Write films, runs and ground truth under `root`; what is already complete stays.

    Parameters
    ----------
    root
        Folder of the data set: new, empty, or an interrupted one of the same settings.
    simulate, data, seed
        What to simulate.
    stimuli
        Folder of videos to show instead of the synthetic dataset (:func:`films.video_plans`).
    overwrite
        Remove what an earlier simulation wrote first.
    advance
        Called with 1 after every film and every run (:func:`steps` in all).

    Returns
    -------
    bool
        False if the data set was already complete.

    Raises
    ------
    UserError
        For impossible settings, a folder that holds something else, a data set of other settings.
    """
    layout = LAYOUTS[simulate.layout]
    scan = layout.scan(simulate, data)
    _check(layout, scan, stimuli)
    plans = (
        films.video_plans(layout.lengths(scan), stimuli, scan.clip_s)
        if stimuli
        else layout.plans(scan, seed)
    )
    record = _record(scan, seed, stimuli)
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file: give a new or empty folder for the data set")
    with stage_lock(root, "simulate", root):
        if not _claim(root, record, layout, scan, plans, overwrite):
            return False
        remove_leftovers(root)
        _write(root, record, layout, scan, plans, seed, stimuli is None, advance or _silent)
    return True


def _silent(_: int) -> None:
    """Show no progress."""


def _write(
    root: Path,
    record: dict[str, Any],
    layout: Layout,
    scan: Scan,
    plans: list[films.FilmPlan],
    seed: int,
    captioned: bool,
    advance: Callable[[int], None],
) -> None:
    """Write everything that is not there yet."""
    scenes = films.scene_rows(plans, layout.places)
    write_csv(root / "stimuli" / "scenes.csv", SCENE_COLUMNS, scenes)
    if captioned and layout.captioned:
        captions = films.caption_rows(plans, scan.clip_s)
        write_csv(root / "captions.csv", CAPTION_COLUMNS, captions)
    features = _shoot(root, layout, plans, scan.simulate.stimulus_size, advance)
    _write_viewers(root / "stimuli" / VIEWERS, scan.simulate)
    for number in _numbers(scan.simulate):
        _record_subject(root, number, seed, features, layout, scan, advance)
    layout.write_tables(root, plans, scan)
    # films of other people are not a synthetic dataset, however they are shown
    own = {file for plan in plans for file in layout.film_files(root, plan) if captioned}
    write_json(root / RECORD, {**record, "state": "done", FILMS: film_digests(own)})


def film_features(plan: films.FilmPlan, size: int, sink: Sink | None = None) -> FilmFeatures:
    """Render a film, write it to `sink` if there is one, and compute its features."""
    every = films.FPS // FEATURE_FPS
    if sink is None:
        pictures = [shrink(chunk) for chunk in films.film_frames(plan, size, every)]
    else:
        pictures = []
        with sink as append:
            for chunk in films.film_frames(plan, size):
                append(chunk)
                pictures.append(shrink(chunk[::every]))
    maps = feature_maps(np.concatenate(pictures))
    known = scene_attributes(plan.film) if plan.film is not None else image_descriptors(maps)
    return FilmFeatures(maps, known)


def _shoot(
    root: Path,
    layout: Layout,
    plans: list[films.FilmPlan],
    size: int,
    advance: Callable[[int], None],
) -> dict[str, FilmFeatures]:
    """Write all films that are not there (two at a time) and compute their features, in order."""
    features = {}

    def shoot(plan: films.FilmPlan) -> FilmFeatures:
        there = all(file.exists() for file in layout.film_files(root, plan))
        return film_features(plan, size, None if there else layout.sink(root, plan, size))

    with ThreadPoolExecutor(_WORKERS) as pool:
        jobs = [pool.submit(shoot, plan) for plan in plans]
        try:
            for plan, job in zip(plans, jobs, strict=True):
                features[plan.name] = job.result()
                advance(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    layout.write_films(root, plans, size)
    return features


def _record_subject(
    root: Path,
    number: int,
    seed: int,
    features: dict[str, FilmFeatures],
    layout: Layout,
    scan: Scan,
    advance: Callable[[int], None],
) -> None:
    """Write one subject's runs and ground truth."""
    recordings = layout.recordings(number, scan)
    subject = Subject(
        number,
        seed,
        layout.cortex(scan),
        features,
        scale_of(features),
        scan.simulate,
        scan.data,
        (recording.timeline for recording in recordings),
    )
    truth: dict[str, Any] = {**subject.ground_truth(), **layout.truth_positions(scan)}
    path = root / layout.truth_file(number)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **truth)
    if layout.name != "cc2017":
        write_json(path.with_name("timing.json"), timing_truth(scan, corrected=layout.corrected))

    def record(recording: Recording) -> np.ndarray:
        return subject.record(recording.timeline, recording.name)

    layout.write_runs(root, recordings, record, scan, advance)


def _numbers(simulate: SimulateSettings) -> range:
    return range(1, simulate.subjects + 1)


def _check(layout: Layout, scan: Scan, stimuli: Path | None) -> None:
    simulate, data = scan.simulate, scan.data
    fewest_clips = data.detrend_order + 3
    clips = min(simulate.clips_per_segment, simulate.test_clips_per_segment)
    problems = [
        (simulate.subjects < 1, "subjects must be at least 1"),
        (simulate.train_segments < 2, "train_segments must be at least 2 for a test over segments"),
        (simulate.test_segments < 1, "test_segments must be at least 1"),
        (clips < fewest_clips, f"a segment needs at least {fewest_clips} clips to be detrended"),
        (simulate.test_repetitions < 1, "test_repetitions must be at least 1"),
        (not 0 < simulate.reliability < 0.9, "reliability must lie between 0 and 0.9"),
        (
            simulate.seen_by_all + simulate.seen_by_some > 1 + 1e-9,
            "seen_by_all and seen_by_some are shares of the training films: together at most 1",
        ),
        (simulate.noise_scale <= 0, "noise_scale must be above 0"),
        (simulate.signal_scale < 0, "signal_scale must not be negative"),
        (
            simulate.grayordinates not in CHOICES,
            f"grayordinates must be {' or '.join(CHOICES)}, not {simulate.grayordinates}",
        ),
        (
            simulate.stimulus_size < WORKING_SIZE or simulate.stimulus_size % WORKING_SIZE > 0,
            f"stimulus_size must be a multiple of {WORKING_SIZE} pixels",
        ),
        (scan.clip_s % BIN_S > 0, f"clip_s must be a multiple of {BIN_S} s"),
        (
            stimuli is not None and not layout.shows_videos,
            f"the layout {layout.name} shows the synthetic dataset only, no --stimuli",
        ),
        *layout.problems(scan),
    ]
    if simulate.subjects > 1:
        problems.append(_short_of_films(simulate))
    for wrong, message in problems:
        if wrong:
            raise UserError(f"nothing can be simulated with these settings: {message}")


def _short_of_films(simulate: SimulateSettings) -> tuple[bool, str]:
    """Tell whether a subject sees too few training films, and which."""
    train = [seen for film, seen in viewers(simulate).items() if film.startswith("seg")]
    counts = [sum(number in seen for seen in train) for number in _numbers(simulate)]
    least = min(counts)
    return least < 2, (
        f"subject {counts.index(least) + 1} would see {least} training film{'s' * (least != 1)} "
        "and needs at least 2: raise seen_by_all or train_segments"
    )


def _record(scan: Scan, seed: int, stimuli: Path | None) -> dict[str, Any]:
    chosen = asdict(scan.simulate)
    if scan.simulate.layout == "cc2017":
        # data sets from before there were other layouts are the same ones
        chosen = {key: chosen[key] for key in chosen if key not in ("layout", "files", "tr_s")}
    if scan.simulate.subjects == 1:  # data sets of one subject stay what they were
        chosen = {key: chosen[key] for key in chosen if key not in DIFFERENCES}
    settings = {
        **chosen,
        "tr_s": scan.tr_s,
        "clip_s": scan.clip_s,
        "trailing_volumes": scan.data.trailing_volumes,
        "detrend_order": scan.data.detrend_order,
        "seed": seed,
        "stimuli": str(stimuli.resolve()) if stimuli else "",
    }
    return {"made_by": "neuroclips simulate", "settings": settings}


def _claim(
    root: Path,
    record: dict[str, Any],
    layout: Layout,
    scan: Scan,
    plans: list[films.FilmPlan],
    overwrite: bool,
) -> bool:
    """Make the folder ours; False if it already holds all of this data set."""
    path = root / RECORD
    if path.exists():
        before = read_json(path)
        if overwrite:
            _clear(root, before.get("settings", {}).get("layout", "cc2017"))
        elif before.get("settings") != record["settings"]:
            raise UserError(_difference(root, before.get("settings", {}), record["settings"]))
        elif (
            before.get("state") == "done"
            and FILMS in before
            and _complete(root, layout, scan, plans)
        ):
            return False
    elif any(not entry.name.startswith(".") for entry in root.iterdir()):
        raise UserError(
            f"{root} is not empty and holds no simulated data set: give a new or empty folder"
        )
    write_json(path, {**record, "state": "running"})
    return True


def _difference(root: Path, before: dict[str, Any], now: dict[str, Any]) -> str:
    changed = [f"{k} {before.get(k)} instead of {v}" for k, v in now.items() if before.get(k) != v]
    return (
        f"{root} was simulated with other settings ({', '.join(changed)}): "
        f"give another folder, or --overwrite"
    )


def _complete(root: Path, layout: Layout, scan: Scan, plans: list[films.FilmPlan]) -> bool:
    wanted = [file for plan in plans for file in layout.film_files(root, plan)]
    for number in _numbers(scan.simulate):
        wanted.append(root / layout.truth_file(number))
        for recording in layout.recordings(number, scan):
            wanted += [root / file for file in recording.files]
    return all(path.exists() for path in wanted)


def _clear(root: Path, layout: str) -> None:
    """Remove what a simulation in a layout wrote."""
    patterns = LAYOUTS[layout].top_level if layout in LAYOUTS else ()
    for pattern in (*patterns, "captions.csv", RECORD):
        for entry in root.glob(pattern):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def _write_viewers(path: Path, simulate: SimulateSettings) -> None:
    """List who saw which film, unless everybody saw all of them."""
    seen = viewers(simulate)
    if all(len(subjects) == simulate.subjects for subjects in seen.values()):
        return
    rows = [[film, str(number)] for film, subjects in seen.items() for number in subjects]
    write_csv(path, VIEWER_COLUMNS, rows)
