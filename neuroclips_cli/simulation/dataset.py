"""Write a data set of cc2017's shape whose ground truth is known."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
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
    write_text,
)
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
from neuroclips_cli.simulation.geometry import CHOICES, brain_models
from neuroclips_cli.simulation.provenance import FILMS, RECORD, film_digests
from neuroclips_cli.simulation.scanner import FilmFeatures, Subject, scale_of
from neuroclips_cli.simulation.subjects import DIFFERENCES, viewers

_WORKERS = 2
SCENE_COLUMNS = "film,scene,start_s,end_s,kind,color,motion,setting,caption"
CAPTION_COLUMNS = "split,segment,clip,caption"
VIEWER_COLUMNS = "film,subject"


def steps(simulate: SimulateSettings) -> int:
    """Films and runs to write, for a progress bar."""
    runs = sum(1 for number in _numbers(simulate) for _ in _runs(simulate, number))
    return simulate.train_segments + simulate.test_segments + runs


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
        Folder of videos to show instead of the practice world (:func:`films.video_plans`).
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
    _check(simulate, data)
    lengths = {
        name: data.clip_s
        * (
            simulate.clips_per_segment
            if name.startswith("seg")
            else simulate.test_clips_per_segment
        )
        for name in films.film_names(simulate.train_segments, simulate.test_segments)
    }
    plans = (
        films.video_plans(lengths, stimuli, data.clip_s)
        if stimuli
        else films.world_plans(lengths, seed)
    )
    record = _record(simulate, data, seed, stimuli)
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file: give a new or empty folder for the data set")
    with stage_lock(root, "simulate", root):
        if not _claim(root, record, simulate, overwrite):
            return False
        remove_leftovers(root)
        _write(root, record, plans, seed, simulate, data, stimuli is None, advance)
    return True


def _write(
    root: Path,
    record: dict[str, Any],
    plans: list[films.FilmPlan],
    seed: int,
    simulate: SimulateSettings,
    data: DataSettings,
    captioned: bool,
    advance: Callable[[int], None] | None,
) -> None:
    """Write everything that is not there yet."""
    _write_csv(root / "stimuli" / "scenes.csv", SCENE_COLUMNS, films.scene_rows(plans))
    if captioned:
        captions = films.caption_rows(plans, data.clip_s)
        _write_csv(root / "captions.csv", CAPTION_COLUMNS, captions)
    _write_viewers(root / "stimuli" / VIEWERS, simulate)
    features = _shoot(root, plans, simulate.stimulus_size, advance)
    for number in _numbers(simulate):
        _scan(root, number, seed, features, simulate, data, advance)
    # films of other people are no practice world, however they are shown
    own = [root / "stimuli" / f"{plan.name}.mp4" for plan in plans] if captioned else []
    write_json(root / RECORD, {**record, "state": "done", FILMS: film_digests(own)})


def film_features(plan: films.FilmPlan, size: int, path: Path | None = None) -> FilmFeatures:
    """Render a film, write it to `path` unless that is None or exists, and compute its features."""
    every = films.FPS // FEATURE_FPS
    if path is None or path.exists():
        pictures = [shrink(chunk) for chunk in films.film_frames(plan, size, every)]
    else:
        pictures = []
        with atomic_path(path) as temporary, films.film_writer(temporary, size) as append:
            for chunk in films.film_frames(plan, size):
                append(chunk)
                pictures.append(shrink(chunk[::every]))
    maps = feature_maps(np.concatenate(pictures))
    known = scene_attributes(plan.film) if plan.film is not None else image_descriptors(maps)
    return FilmFeatures(maps, known)


def _shoot(
    root: Path,
    plans: list[films.FilmPlan],
    size: int,
    advance: Callable[[int], None] | None,
) -> dict[str, FilmFeatures]:
    """Write all films (two at a time) and compute their features, in order."""
    features = {}
    with ThreadPoolExecutor(_WORKERS) as pool:
        jobs = [
            pool.submit(film_features, plan, size, root / "stimuli" / f"{plan.name}.mp4")
            for plan in plans
        ]
        try:
            for plan, job in zip(plans, jobs, strict=True):
                features[plan.name] = job.result()
                if advance:
                    advance(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return features


def _scan(
    root: Path,
    number: int,
    seed: int,
    features: dict[str, FilmFeatures],
    simulate: SimulateSettings,
    data: DataSettings,
    advance: Callable[[int], None] | None,
) -> None:
    """Write one subject's runs and ground truth."""
    from nibabel.cifti2 import SeriesAxis

    models = brain_models(simulate.grayordinates)
    cortex = np.char.startswith(np.asarray(models.name, str), "CIFTI_STRUCTURE_CORTEX_")
    subject = Subject(number, seed, cortex, features, scale_of(features), simulate, data)
    folder = root / f"subject{number}"
    truth: dict[str, Any] = subject.ground_truth()
    with atomic_path(folder / "ground_truth.npz") as temporary:
        np.savez_compressed(temporary, **truth)
    for film, repetition in _runs(simulate, number):
        path = folder / "fmri" / film / "cifti" / f"{film}_{repetition}_Atlas.dtseries.nii"
        if not path.exists():
            series = subject.run(film, repetition)
            write_run(path, series, SeriesAxis(0, data.tr_s, len(series), unit="SECOND"), models)
        if advance:
            advance(1)


def write_run(path: Path, series: np.ndarray, times: Any, models: Any) -> None:
    """Write a CIFTI-2 dense time series atomically: float32 (volumes, grayordinates)."""
    from nibabel.cifti2 import Cifti2Image

    image = Cifti2Image(series.astype(np.float32, copy=False), header=(times, models))
    image.update_headers()
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES")
    with atomic_path(path) as temporary:
        image.to_filename(temporary)


def _numbers(simulate: SimulateSettings) -> range:
    return range(1, simulate.subjects + 1)


def _runs(simulate: SimulateSettings, number: int) -> Iterator[tuple[str, int]]:
    """Yield film and repetition of a subject's runs."""
    for film, seen_by in viewers(simulate).items():
        if number not in seen_by:
            continue
        train = film.startswith("seg")
        count = simulate.train_repetitions if train else simulate.test_repetitions
        for repetition in range(1, count + 1):
            yield film, repetition


def _check(simulate: SimulateSettings, data: DataSettings) -> None:
    fewest_clips = data.detrend_order + 3
    clips = min(simulate.clips_per_segment, simulate.test_clips_per_segment)
    problems = [
        (simulate.subjects < 1, "subjects must be at least 1"),
        (simulate.train_segments < 2, "train_segments must be at least 2 for a test over segments"),
        (simulate.test_segments < 1, "test_segments must be at least 1"),
        (clips < fewest_clips, f"a segment needs at least {fewest_clips} clips to be detrended"),
        (simulate.train_repetitions < 2, "train_repetitions must be at least 2"),
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
        (data.tr_s != data.clip_s, "a clip must last as long as a volume (clip_s = tr_s)"),
        (data.clip_s % BIN_S > 0, f"clip_s must be a multiple of {BIN_S} s"),
    ]
    if simulate.subjects > 1:
        problems.append(_short_of_films(simulate))
    for wrong, message in problems:
        if wrong:
            raise UserError(f"nothing can be simulated with these settings: {message}")


def _short_of_films(simulate: SimulateSettings) -> tuple[bool, str]:
    """Tell whether a subject sees too few training films, and which."""
    seen = [
        len({f for f, _ in _runs(simulate, n) if f.startswith("seg")}) for n in _numbers(simulate)
    ]
    least = min(seen)
    return least < 2, (
        f"subject {seen.index(least) + 1} would see {least} training film{'s' * (least != 1)} and "
        "needs at least 2: raise seen_by_all or train_segments"
    )


def _record(
    simulate: SimulateSettings, data: DataSettings, seed: int, stimuli: Path | None
) -> dict[str, Any]:
    known = asdict(simulate)
    if simulate.subjects == 1:  # data sets of one subject stay what they were
        known = {key: value for key, value in known.items() if key not in DIFFERENCES}
    settings = {
        **known,
        "tr_s": data.tr_s,
        "clip_s": data.clip_s,
        "trailing_volumes": data.trailing_volumes,
        "detrend_order": data.detrend_order,
        "seed": seed,
        "stimuli": str(stimuli.resolve()) if stimuli else "",
    }
    return {"made_by": "neuroclips simulate", "settings": settings}


def _claim(root: Path, record: dict[str, Any], simulate: SimulateSettings, overwrite: bool) -> bool:
    """Make the folder ours; False if it already holds all of this data set."""
    path = root / RECORD
    if path.exists():
        before = read_json(path)
        if overwrite:
            _clear(root)
        elif before.get("settings") != record["settings"]:
            raise UserError(_difference(root, before.get("settings", {}), record["settings"]))
        elif before.get("state") == "done" and FILMS in before and _complete(root, simulate):
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


def _complete(root: Path, simulate: SimulateSettings) -> bool:
    names = films.film_names(simulate.train_segments, simulate.test_segments)
    wanted = [root / "stimuli" / f"{name}.mp4" for name in names]
    for number in _numbers(simulate):
        folder = root / f"subject{number}"
        wanted.append(folder / "ground_truth.npz")
        wanted += [
            folder / "fmri" / film / "cifti" / f"{film}_{repetition}_Atlas.dtseries.nii"
            for film, repetition in _runs(simulate, number)
        ]
    return all(path.exists() for path in wanted)


def _clear(root: Path) -> None:
    for entry in root.iterdir():
        if entry.is_dir() and (entry.name == "stimuli" or entry.name.startswith("subject")):
            shutil.rmtree(entry)
    for name in ("captions.csv", RECORD):
        (root / name).unlink(missing_ok=True)


def _write_viewers(path: Path, simulate: SimulateSettings) -> None:
    """List who saw which film, unless everybody saw all of them."""
    seen = viewers(simulate)
    if all(len(subjects) == simulate.subjects for subjects in seen.values()):
        return
    rows = [[film, str(number)] for film, subjects in seen.items() for number in subjects]
    _write_csv(path, VIEWER_COLUMNS, rows)


def _write_csv(path: Path, header: str, rows: list[list[str]]) -> None:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header.split(","))
    writer.writerows(rows)
    write_text(path, text.getvalue())
