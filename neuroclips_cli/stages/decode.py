"""``neuroclips decode``: from new scans, whose film is not known, to clips.

The scans are standardized as ``preprocess`` does it with test runs, each run over its own volumes,
and decoded as ``reconstruct`` decodes test scans. From training come the voxels, the networks and,
where a run is too short to be standardized by itself, the voxels' means and deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli import console
from neuroclips_cli.data.new_scans import (
    MOST_LOST,
    WHOLE_RUN,
    FilmTiming,
    TrainedVoxels,
    check_step,
    open_new_run,
    read_standardized,
    read_trained_voxels,
)
from neuroclips_cli.data.responses import standardized_responses
from neuroclips_cli.data.runs import Run, require_valid_run
from neuroclips_cli.errors import UserError
from neuroclips_cli.generation.video_generator import write_videos
from neuroclips_cli.io.npy import AppendedArray
from neuroclips_cli.runs import disk_usage
from neuroclips_cli.runs.stage import Stage
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.signal.reproducibility import mean_over_repetitions
from neuroclips_cli.signal.training_statistics import TrainingStatistics
from neuroclips_cli.signal.windows import response_window
from neuroclips_cli.stages import _requests
from neuroclips_cli.stages._follow import (
    FOLLOWED,
    UNTIL_IDLE,
    FollowOptions,
    LiveClip,
    LiveDecoding,
    LiveVolume,
    default_stop_file,
)
from neuroclips_cli.stages.reconstruct import Reconstruction


def run(
    settings: Settings,
    *,
    scans: Sequence[Path],
    timing: FilmTiming = WHOLE_RUN,
    first_clip: int = 0,
    label: str = "",
    overwrite: bool = False,
) -> Path:
    """Decode new scans.

    Parameters
    ----------
    settings : Settings
        As of a reconstruction.
    scans : sequence of pathlib.Path
        Runs that show responses to one film, which are averaged; or a ``.npy`` of preprocessed
        scans.
    timing : FilmTiming
        When the film ran.
    first_clip : int
        Number of the first clip, which decides the random numbers.
    label : str
        Name of the result, whose folder is ``decode-<label>``; ``decode`` where it is empty.
    overwrite : bool
        Start afresh.

    Returns
    -------
    pathlib.Path
        The stage folder.

    Raises
    ------
    UserError
        If a file does not fit the run, or a needed stage or backbone is missing.
    """
    request = _requests.decode(
        settings, scans=scans, timing=timing, first_clip=first_clip, label=label
    )
    inputs = {key: Path(path) for key, path in request.inputs.items()}
    with request.open(settings, overwrite=overwrite) as stage:
        if not stage.up_to_date:
            reader = ScanReader(settings, inputs["preprocess"], timing)
            fmri = reader.read(scans)
            numbers = list(range(first_clip, first_clip + len(fmri)))
            stage.need_space(disk_usage.of_reconstruct(settings, len(numbers), None))
            _write_scans(stage, settings, fmri, numbers, timing)
            stage.fact("warnings", reader.warnings)
            Reconstruction(settings, stage, inputs, fmri, numbers).run(None)
        return stage.folder


def follow(
    settings: Settings,
    *,
    path: Path,
    options: FollowOptions = UNTIL_IDLE,
    label: str = FOLLOWED,
) -> Path:
    """Decode volumes as they arrive, and print how long each volume and clip took.

    Parameters
    ----------
    settings : Settings
        As of a reconstruction.
    path : pathlib.Path
        A folder into which volumes fall, or a growing file.
    options : FollowOptions
        When the film begins, and when to stop.
    label : str
        Name of the result, whose folder is ``decode-<label>``; it is made anew.

    Returns
    -------
    pathlib.Path
        The stage folder.

    Raises
    ------
    UserError
        If the path cannot be followed, a volume does not fit the run, or none comes.
    """
    request = _requests.follow(settings, path=path, options=options, label=label)
    folders = {name: Path(folder) for name, folder in request.inputs.items()}
    with request.open(settings, overwrite=True) as stage:
        live = LiveDecoding(settings, folders, path, options)
        console.info(f"following {path}; {default_stop_file(path)} ends it")
        _LiveResults(stage, settings).write(live)
        return stage.folder


class _LiveResults:
    """Writes what is decoded while it comes."""

    def __init__(self, stage: Stage, settings: Settings) -> None:
        self.stage, self.fps = stage, settings.reconstruct.fps
        self.arrays: dict[str, AppendedArray] = {}
        self.volumes: list[tuple[int, str]] = []
        self.clips: list[tuple[int, str, int, str]] = []
        self.captions: list[tuple[int, str]] = []

    def write(self, live: LiveDecoding) -> None:
        """Write every volume and clip that comes, then the tables."""
        for event in live:
            if isinstance(event, LiveVolume):
                self.volumes.append((event.volume, f"{event.latency_s:.4f}"))
                console.info(f"volume {event.volume}: {1000 * event.latency_s:.0f} ms")
            else:
                self._clip(event)
        for array in self.arrays.values():
            array.complete()
        stage = self.stage
        stage.write_csv("volumes.csv", ("volume", "latency_s"), self.volumes)
        stage.write_csv("clips.csv", ("clip", "onset_s", "volume", "latency_s"), self.clips)
        if self.captions:
            stage.write_csv("captions.csv", ("clip", "caption"), self.captions)
        stage.fact("warnings", live.warnings)
        for name, column, rows in (("volume", 1, self.volumes), ("clip", 3, self.clips)):
            latencies = [float(row[column]) for row in rows]
            if latencies:
                found = {"median": float(np.median(latencies)), "longest": max(latencies)}
                stage.fact(f"{name}_latency_s", found)
                console.info(
                    f"{len(rows)} {name}s: {found['median']:.3f} s each (median), "
                    f"{found['longest']:.3f} s at most"
                )

    def _clip(self, clip: LiveClip) -> None:
        decoded = clip.decoded
        self._append("index.npy", np.int64(clip.number))
        self._append("scans.npy", clip.scan)
        for name in ("blurry", "tokens_brain", "tokens_prior", "keyframes", "clips"):
            rows = getattr(decoded, name)
            if rows is not None:
                self._append(f"{name}.npy", rows[0])
        if decoded.captions:
            self.captions.append((clip.number, decoded.captions[0]))
        if decoded.clips is not None:
            names = [f"clip-{clip.number:04d}.mp4"]
            write_videos(self.stage.folder / "videos", decoded.clips, self.fps, names)
        latency = f"{clip.latency_s:.4f}"
        self.clips.append((clip.number, f"{clip.onset_s:g}", clip.volume, latency))
        console.info(
            f"clip {clip.number}, shown at {clip.onset_s:g} s: {clip.latency_s:.2f} s after volume "
            f"{clip.volume}"
        )

    def _append(self, name: str, row: NDArray[Any] | np.int64) -> None:
        if name not in self.arrays:
            self.arrays[name] = AppendedArray(self.stage.folder / name)
        self.arrays[name].append(np.asarray(row))


class ScanReader:
    """Reads new scans and brings them to the form of ``fmri_test.npy``."""

    def __init__(self, settings: Settings, preprocess: Path, timing: FilmTiming) -> None:
        self.data, self.timing = settings.data, timing
        self.preprocess = preprocess
        self.voxels: TrainedVoxels = read_trained_voxels(preprocess)
        self.warnings: list[str] = []

    def read(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        """Return float32 (clips, voxels), the mean over the repetitions."""
        arrays = [path.suffix.lower() == ".npy" for path in paths]
        if all(arrays):
            found = [read_standardized(path, self.voxels.count) for path in paths]
        elif any(arrays):
            raise UserError(
                f"{paths[arrays.index(True)]} holds preprocessed scans and "
                f"{paths[arrays.index(False)]} a run: decode them one after the other"
            )
        else:
            found = [self._run(path)[:, None] for path in paths]
        lengths = {len(scans) for scans in found}
        if len(lengths) > 1:
            raise UserError(
                f"{', '.join(map(str, paths))} hold responses to unequal numbers of clips "
                f"({', '.join(str(len(scans)) for scans in found)}): repetitions of one film are "
                "as long; say how long it lasted with --duration, or decode the runs one by one"
            )
        return mean_over_repetitions(np.concatenate(found, axis=1))

    def _run(self, path: Path) -> NDArray[np.float32]:
        """Return one run's standardized responses, float32 (clips, voxels), NaN where none."""
        opened = open_new_run(path, self.voxels)
        self._warn(check_step(opened, self.data.tr_s, stated=self.timing.tr_s is not None))
        window = response_volumes(opened, self.timing, self.data.delay_s, self.data.tr_s)
        if window.stop - window.start <= self.data.detrend_order + 1:
            return self._by_training(opened, window)
        order = self.data.detrend_order
        found = standardized_responses(opened, window, self.voxels.selected, order, training=False)
        if found.quality:
            require_valid_run(path, found.quality, len(self.voxels.columns))
        lost = found.without_signal
        if lost > MOST_LOST * self.voxels.count:
            raise UserError(
                f"{path} carries no signal (constant, NaN or infinity) in {lost} of the "
                f"{self.voxels.count} voxels that are decoded from, while the film ran: check the "
                "file, or leave the broken volumes out with --start and --duration"
            )
        if lost:
            self._warn(f"{path} has no signal in {lost} of {self.voxels.count} voxels: taken as 0")
        return found.z

    def _by_training(self, opened: Run, window: slice) -> NDArray[np.float32]:
        """Standardize a few volumes by the training runs."""
        path = self.preprocess / "training_statistics.npz"
        if not path.is_file():
            raise UserError(
                f"{opened.path} is too short to be standardized by itself, and {self.preprocess} "
                "holds no training_statistics.npz: run `neuroclips preprocess --overwrite`"
            )
        with np.load(path, allow_pickle=False) as file:
            known = TrainingStatistics(**{key: file[key] for key in file})
        series = opened.read()[window][:, self.voxels.selected]
        if not np.isfinite(series).all():
            raise UserError(f"{opened.path} holds NaN or infinity: repair it or leave it out")
        self._warn(
            f"{opened.path} holds {len(series)} clips, too few to be standardized by themselves: "
            "means and deviations of the training runs were taken, and no drift was removed"
        )
        return known.standardize(series).astype(np.float32)

    def _warn(self, sentence: str) -> None:
        if sentence:
            console.warn(sentence)
            self.warnings.append(sentence)


def response_volumes(opened: Run, timing: FilmTiming, delay_s: float, tr_s: float) -> slice:
    """Return the volumes that answer to the clips of a new run.

    Raises
    ------
    UserError
        If the times are no whole numbers of volumes, or lie outside the run.
    """
    if timing.tr_s is not None and abs(timing.tr_s - tr_s) > 1e-6:
        raise UserError(
            f"--tr {timing.tr_s:g} is not the {tr_s:g} s of the training runs: resample "
            f"{opened.path} to {tr_s:g} s first"
        )
    leading, delay = _volumes(timing.start_s, tr_s, "--start"), round(delay_s / tr_s)
    there = opened.volumes - leading - delay
    clips = there
    if timing.duration_s is not None:
        clips = _volumes(timing.duration_s, tr_s, "--duration")
    if clips < 1 or clips > there:
        lasts = f"{opened.volumes} volumes of {tr_s:g} s"
        wanted = "one clip" if timing.duration_s is None else f"the {clips} clips"
        raise UserError(
            f"{opened.path} is too short: {lasts} do not hold the responses to {wanted} of a film "
            f"that begins at {timing.start_s:g} s, {delay_s:g} s after each: correct --start and "
            "--duration"
        )
    return response_window(leading, clips, delay)


def _volumes(time_s: float, tr_s: float, option: str) -> int:
    """Return a time in volumes."""
    volumes = round(time_s / tr_s)
    if volumes < 0 or abs(volumes * tr_s - time_s) > 1e-6:
        raise UserError(
            f"{option} {time_s:g} is not a whole number of volumes of {tr_s:g} s: give a multiple"
        )
    return volumes


def _write_scans(
    stage: Stage,
    settings: Settings,
    fmri: NDArray[np.float32],
    numbers: Sequence[int],
    timing: FilmTiming,
) -> None:
    """Write what is decoded, and when it was shown."""
    stage.write_array("scans.npy", fmri)
    clip_s = settings.data.clip_s
    onsets = (f"{timing.start_s + position * clip_s:g}" for position in range(len(numbers)))
    stage.write_csv("clips.csv", ("clip", "onset_s"), list(zip(numbers, onsets, strict=True)))
