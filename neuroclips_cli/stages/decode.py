"""``neuroclips decode``: from new scans, whose film is not known, to clips.

The scans are standardized as ``preprocess`` does it with test runs, each run over its own volumes,
and decoded as ``reconstruct`` decodes test scans. From training come the voxels, the networks and,
where a run is too short to be standardized by itself, the voxels' means and deviations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
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
    open_new_run,
    read_standardized,
    read_trained_voxels,
    read_training_statistics,
)
from neuroclips_cli.data.responses import standardized_responses
from neuroclips_cli.data.run_table import RunRow
from neuroclips_cli.data.runs import Run, require_valid_run
from neuroclips_cli.data.scan_files import first_of, is_array, scan_rows, step_of
from neuroclips_cli.data.viewings import Clean, Reading, Viewing
from neuroclips_cli.errors import UserError
from neuroclips_cli.generation.video_generator import write_videos
from neuroclips_cli.io.npy import AppendedArray
from neuroclips_cli.runs import disk_usage
from neuroclips_cli.runs.stage import Stage
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.settings.schema import DataSettings
from neuroclips_cli.signal.clip_times import (
    at_positions,
    span,
    whole_clips,
)
from neuroclips_cli.signal.reproducibility import mean_over_repetitions
from neuroclips_cli.stages import _requests
from neuroclips_cli.stages._decoded_page import write_pages
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

ARRAYS = ("blurry", "tokens_brain", "tokens_prior", "keyframe_latents", "keyframes", "clips")
"""Fields of a decoded clip that are kept as rows of an array."""


def run(
    settings: Settings,
    *,
    scans: Sequence[Path],
    timing: FilmTiming = WHOLE_RUN,
    confounds: Sequence[Path] = (),
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
        Runs that show responses to one film, which are averaged, named as in a run table
        (:func:`neuroclips_cli.data.scan_files.scan_row`); or a ``.npy`` of preprocessed scans.
    timing : FilmTiming
        When the film ran.
    confounds : sequence of pathlib.Path
        Tables of confounds, as :func:`neuroclips_cli.data.scan_files.scan_rows` takes them.
    first_clip : int
        Number of the first clip, which decides the random numbers.
    label : str
        Name of the result, whose folder is ``decode-<label>``; ``decode`` where it is empty.
    overwrite : bool
        Start afresh.

    Raises
    ------
    UserError
        If a file does not fit the run, or a needed stage or backbone is missing.
    """
    request = _requests.decode(
        settings,
        scans=scans,
        timing=timing,
        confounds=confounds,
        first_clip=first_clip,
        label=label,
    )
    inputs = {key: Path(path) for key, path in request.inputs.items()}
    with request.open(settings, overwrite=overwrite) as stage:
        if not stage.up_to_date:
            reader = ScanReader(settings, inputs["preprocess"], timing, confounds)
            fmri = reader.read(scans)
            numbers = list(range(first_clip, first_clip + len(fmri)))
            stage.need_space(disk_usage.of_reconstruct(settings, len(numbers), None))
            for name, value in (*reader.facts.items(), ("warnings", reader.warnings)):
                stage.fact(name, value)
            Reconstruction(settings, stage, inputs, fmri, numbers).run(None)
            _write_scans(stage, settings, fmri, numbers, timing, reader.volumes)
            write_pages(stage, ", ".join(path.name for path in scans))
        return stage.folder


def follow(
    settings: Settings,
    *,
    path: Path,
    options: FollowOptions = UNTIL_IDLE,
    label: str = FOLLOWED,
    confounds: Sequence[Path] = (),
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
        if (stage.folder / "clips.npy").exists():
            write_pages(stage, str(live.path))
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
        for name in ARRAYS:
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
    """Reads new scans and brings them to the form of ``fmri_test.npy``.

    Attributes
    ----------
    volumes : list of int
        The last volume of the response to every clip, in the first run; empty of arrays.
    warnings : list of str
        What was found wrong and how it was decided.
    facts : dict
        By run: ``tr`` and ``first_volume`` as ``preprocess`` notes them, and the table of
        ``confounds`` that was regressed out.
    """

    def __init__(
        self,
        settings: Settings,
        preprocess: Path,
        timing: FilmTiming,
        confounds: Sequence[Path] = (),
    ) -> None:
        self.timing, self.preprocess, self._tables = timing, preprocess, confounds
        self.data, self._trained_s = settings.data, _requests.training_steps(preprocess, settings)
        self._trained_first_s = _requests.training_first_volumes(preprocess)
        self.voxels: TrainedVoxels = read_trained_voxels(preprocess)
        self.volumes: list[int] = []
        self.warnings: list[str] = []
        self.facts: dict[str, Any] = {"tr": {}, "first_volume": {}, "confounds": {}}

    def read(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        """Return float32 (clips, voxels), the mean over the repetitions."""
        rows = scan_rows(paths, self.data.confounds, self._tables)
        arrays = [is_array(row) for row in rows]
        if any(arrays) and not all(arrays):
            raise UserError(
                f"{paths[arrays.index(True)]} holds preprocessed scans and "
                f"{paths[arrays.index(False)]} a run: decode them one after the other"
            )
        window = self.data.window
        found = [
            read_standardized(row.files[0], self.voxels.count, window)
            if is_array(row)
            else self._run(row)[:, None]
            for row in rows
        ]
        lengths = {len(scans) for scans in found}
        if len(lengths) > 1:
            raise UserError(
                f"{', '.join(map(str, paths))} hold responses to unequal numbers of clips "
                f"({', '.join(str(len(scans)) for scans in found)}): repetitions of one film are "
                "as long; say how long it lasted with --duration, or decode the runs one by one"
            )
        return mean_over_repetitions(np.concatenate(found, axis=1))

    def _run(self, row: RunRow) -> NDArray[np.float32]:
        """Return one run's standardized responses, float32 (clips, voxels), NaN where none."""
        opened, name = open_new_run(row, self.voxels, self.data), row.run_name
        step, said = step_of(row, opened, self._trained_s, self.timing.tr_s)
        first, more = first_of(row, step.seconds, self._trained_first_s)
        for sentence in (*said, *more):
            self._warn(sentence)
        data = self.data if row.confounds else replace(self.data, confounds="")
        self.facts["tr"][name] = {"seconds": step.seconds, "source": step.source}
        self.facts["first_volume"][name] = {"seconds": first.seconds, "source": first.source}
        self.facts["confounds"][name] = str(row.confounds) if row.confounds else None
        reading = response_reading(opened, name, self.timing, data, step.seconds, first.seconds)
        last = np.ceil(reading.at[:, -1]).astype(int) + reading.over.start
        self.volumes = self.volumes or last.tolist()
        start_s = self.timing.start_s - first.seconds
        clean = Viewing(row, opened, step.seconds, start_s, first).cleaner(data)
        volumes = reading.over.stop - reading.over.start
        if volumes <= data.detrend_order + 1:
            return self._by_training(opened, name, reading, clean)
        found = standardized_responses(
            opened,
            reading.over,
            self.voxels.selected,
            data.detrend_order,
            training=False,
            at=reading.at,
            method=reading.method,
            clean=clean,
        )
        if found.quality:
            require_valid_run(name, found.quality, len(self.voxels.columns))
        lost = found.without_signal
        if lost > MOST_LOST * self.voxels.count:
            raise UserError(
                f"{name} carries no signal (constant, NaN or infinity) in {lost} of the "
                f"{self.voxels.count} voxels that are decoded from, while the film ran: check the "
                "file, or leave the broken volumes out with --start and --duration"
            )
        if lost:
            self._warn(f"{name} has no signal in {lost} of {self.voxels.count} voxels: taken as 0")
        return found.z

    def _by_training(
        self, opened: Run, name: str, reading: Reading, clean: Clean | None
    ) -> NDArray[np.float32]:
        """Standardize a few volumes by the training runs."""
        known = read_training_statistics(
            self.preprocess, f"{name} is too short to be standardized by itself"
        )
        series: NDArray[np.floating] = opened.read()[:, self.voxels.selected]
        series = (series if clean is None else clean(series))[reading.over]
        if not np.isfinite(series).all():
            raise UserError(f"{name} holds NaN or infinity: repair it or leave it out")
        self._warn(
            f"{name} holds {len(series)} volumes that answer to clips, too few to be "
            "standardized by themselves: means and deviations of the training runs were taken, "
            "and no drift was removed"
        )
        z = at_positions(known.standardize(series), reading.at.ravel(), reading.method)
        return _in_windows(np.asarray(z, np.float32), reading)

    def _warn(self, sentence: str) -> None:
        if sentence:
            console.warn(sentence)
            self.warnings.append(sentence)


def _in_windows(z: NDArray[np.float32], reading: Reading) -> NDArray[np.float32]:
    """Return responses (clips, voxels), or (clips, window, voxels) of several volumes."""
    clips, window = reading.at.shape
    return z.reshape(clips, window, -1) if window > 1 else z


def response_reading(
    opened: Run, name: str, timing: FilmTiming, data: DataSettings, tr_s: float, first_s: float
) -> Reading:
    """Return which volumes of a new run are standardized, and where the responses are read.

    The first volume was measured ``first_s`` after the scan began, and one follows every ``tr_s``.

    Raises
    ------
    UserError
        If the film began before the run, or the run holds too few volumes.
    """
    if timing.start_s < 0 or (timing.duration_s is not None and timing.duration_s < data.clip_s):
        raise UserError(
            f"--start {timing.start_s:g} and --duration {timing.duration_s or 0:g} should be at "
            f"least 0 s, and one clip of {data.clip_s:g} s"
        )
    if not tr_s > 0:
        raise UserError(f"--tr {tr_s:g} should be above 0 s: give the time between volumes")
    lasts_s = opened.volumes * tr_s
    wanted_s = lasts_s if timing.duration_s is None else timing.duration_s
    clips = math.floor(wanted_s / data.clip_s + 1e-6)
    positions = timing.positions(clips, data, tr_s, first_s)
    there = whole_clips(positions, opened.volumes, delay_s=data.delay_s, run=name)
    if there < 1 or (timing.duration_s is not None and there < clips):
        wanted = "one clip" if timing.duration_s is None else f"the {clips} clips"
        raise UserError(
            f"{name} is too short: {opened.volumes} volumes of {tr_s:g} s do not hold the "
            f"responses to {wanted} of a film that begins at {timing.start_s:g} s, "
            f"{data.delay_s:g} s after each: correct --start and --duration"
        )
    positions = positions[:there]
    over = slice(0, opened.volumes) if data.standardize == "run" else span(positions)
    return Reading(over, positions - over.start, data.interpolation)


def _write_scans(
    stage: Stage,
    settings: Settings,
    fmri: NDArray[np.float32],
    numbers: Sequence[int],
    timing: FilmTiming,
    volumes: Sequence[int],
) -> None:
    """Write what is decoded, when it was shown, and the last volume of its response."""
    stage.write_array("scans.npy", fmri)
    clip_s = settings.data.clip_s
    onsets = (f"{timing.start_s + position * clip_s:g}" for position in range(len(numbers)))
    known = [str(volume) for volume in volumes] or [""] * len(numbers)
    rows = list(zip(numbers, onsets, known, strict=True))
    stage.write_csv("clips.csv", ("clip", "onset_s", "volume"), rows)
