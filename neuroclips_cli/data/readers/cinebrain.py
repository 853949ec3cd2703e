"""CineBrain: runs of fMRIPrep, clips of 4 s as files of their own, times in ``beh_data/*.csv``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from neuroclips_cli.data.bids import Inherited, parse_name, repetition_time
from neuroclips_cli.data.readers.options import ReaderOptions
from neuroclips_cli.data.readers.splits import split_rule
from neuroclips_cli.data.run_table import RunRow, is_subject, subject_number
from neuroclips_cli.data.slice_timing import first_volume
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.csv import read_table
from neuroclips_cli.io.folders import Tree
from neuroclips_cli.io.placeholders import require_content, what_to_fetch

TR_S = 0.8
CLIP_S = 4.0
TEST_CLIPS = range(7560, 8100)
"""Clips that the authors test on."""
_TIMES = re.compile(r"^sub_(\d+)_0*(\d+)\.csv$")
_CLIP = re.compile(r"^(\d{6})\.mp4$")
_START, _STOP = "videoStartTime", "videoStopTime"
_CLOCK_S = 2.0  # how far the clips of a run may be from filling the time between start and stop


@dataclass(frozen=True)
class Showing:
    """A run, and when its video started and stopped, in s after the scan began."""

    run: int
    file: Path
    start_s: float
    stop_s: float

    @property
    def clips(self) -> int:
        """Number of clips of 4 s that fit."""
        return math.floor((self.stop_s - self.start_s + _CLOCK_S) / CLIP_S)


class CineBrain:
    """``sub-0001_task-shape_run-1_space-fsLR_den-91k_bold.dtseries.nii`` and ``000000.mp4``."""

    name = "cinebrain"

    def recognizes(self, tree: Tree) -> str:
        """See :class:`neuroclips_cli.data.readers.Reader`."""
        times = [path for path in (*tree.files, *tree.dead_links) if _TIMES.match(path.name)]
        runs = any(_run_number(path) for path in (*tree.files, *tree.dead_links))
        return f"{len(times)} tables of times such as {times[0].name}" if times and runs else ""

    def run_table(self, tree: Tree, subject: str, options: ReaderOptions) -> list[RunRow]:
        """See :class:`neuroclips_cli.data.readers.Reader`.

        The clips, in the order of their numbers, are what the runs showed one after the other: no
        file of the data set says which clip belongs to which run, so their number has to fit.
        """
        number = subject_number(subject)
        showings = _showings(tree, number, options)
        clips = _clips(tree, options)
        wanted = sum(one.clips for one in showings)
        if len(clips) != wanted:
            raise UserError(
                f"{len(clips)} clips such as {clips[0].name} are there where the {len(showings)} "
                f"runs of subject {number} showed {wanted} of {CLIP_S:g} s: name a folder of the "
                "clips that this subject saw with --films, or list them in a run table"
            )
        split = _split(clips, options)
        inherited = Inherited(tree.root)
        rows: list[RunRow] = []
        for showing in showings:
            found = repetition_time(inherited, showing.file)
            step = options.tr_s or (found[0] if found else TR_S)
            first = first_volume([partial(inherited.value, showing.file)], step)
            for place in range(showing.clips):
                clip = clips[len(rows)]
                rows.append(
                    RunRow(
                        subject=f"{number:04d}",
                        session="",
                        files=(showing.file,),
                        key="",
                        film=clip,
                        film_start_s=0.0,
                        scan_start_s=showing.start_s + place * CLIP_S,
                        duration_s=CLIP_S,
                        tr_s=step,
                        split=split[clip],
                        repetition=1,
                        first_volume_s=first.seconds,
                        first_volume_source=first.source,
                    )
                )
        options.say(
            f"clips last {CLIP_S:g} s: set data.clip_s to {CLIP_S:g} and data.standardize to run"
        )
        return rows


def _run_number(path: Path, number: int | None = None) -> int | None:
    """Return the number of a run's file; None for other files, and for other subjects' runs."""
    name = parse_name(path.name)
    if name is None or name.suffix != "bold" or name.extension != ".dtseries.nii":
        return None
    if number is not None and not is_subject(name.get("sub"), number):
        return None
    run = name.get("run")
    return int(run) if run.isdecimal() else None


def _showings(tree: Tree, number: int, options: ReaderOptions) -> list[Showing]:
    files: dict[int, Path] = {}
    for path in (*tree.files, *tree.dead_links):
        run = _run_number(path, number)
        if run is not None:
            before = files.setdefault(run, path)
            if before != path and not before.samefile(path):
                raise UserError(f"the same run exists twice, {before} and {path}: keep one of them")
    if not files:
        raise UserError(
            f"{tree.root} holds no run of subject {number} such as sub-{number:04d}_task-shape_"
            "run-1_space-fsLR_den-91k_bold.dtseries.nii: check --dataset and --subject"
        )
    dead = [path for path in files.values() if not path.exists()]
    if dead:
        raise UserError(f"{what_to_fetch(dead[0])} ({len(dead)} of {len(files)} runs)")
    tables = {
        int(match[2]): path
        for path in tree.files
        if (match := _TIMES.match(path.name)) and int(match[1]) == number
    }
    for run in sorted(set(files) - set(tables)):
        raise UserError(
            f"{files[run]} has no table of times sub_{number:04d}_{run}.csv: fetch beh_data, or "
            "move the run away"
        )
    if unused := sorted(set(tables) - set(files)):
        options.say(f"runs {', '.join(map(str, unused))} have a table of times, but no scan")
    return [Showing(run, files[run], *_times(tables[run])) for run in sorted(files)]


def _times(path: Path) -> tuple[float, float]:
    """Read start and stop of a run's video from the first line that has both."""
    require_content(path)
    rows = [row for _, row in read_table(path)[1]]
    if not rows or _START not in rows[0] or _STOP not in rows[0]:
        raise UserError(f"{path} lacks a line with {_START} and {_STOP}: fetch it again")
    try:
        start, stop = float(rows[0][_START]), float(rows[0][_STOP])
    except (TypeError, ValueError):
        start = stop = math.nan
    if not 0 <= start < stop < math.inf:
        raise UserError(
            f"{path} has {_START} = {rows[0][_START]!r} and {_STOP} = {rows[0][_STOP]!r}: write "
            "seconds after the scan began"
        )
    return start, stop


def _clips(tree: Tree, options: ReaderOptions) -> Sequence[Path]:
    paths: Sequence[Path] = (*tree.files, *tree.dead_links)
    if options.films is not None:
        paths = list(options.films.rglob("*.mp4"))
    clips = sorted((path for path in paths if _CLIP.match(path.name)), key=lambda p: p.name)
    if not clips:
        raise UserError(
            f"no clips such as 000000.mp4 under {options.films or tree.root}: unpack videos.tar "
            "there, or name their folder with --films"
        )
    for first, second in zip(clips, clips[1:], strict=False):
        if first.name == second.name:
            raise UserError(f"two clips have the same name, {first} and {second}: remove one")
    dead = [clip for clip in clips if not clip.exists()]
    if dead:
        raise UserError(f"{what_to_fetch(dead[0])} ({len(dead)} clips are missing so)")
    return clips


def _split(clips: Sequence[Path], options: ReaderOptions) -> dict[Path, str]:
    tests = [clip for clip in clips if int(clip.stem) in TEST_CLIPS]
    if options.test_films or not tests or len(tests) == len(clips):
        split_of, rule = split_rule([(clip, "shape") for clip in clips], options.test_films)
        options.say(rule)
        return {clip: split_of(clip, "shape") for clip in clips}
    options.say(
        f"{len(tests)} clips are for testing, {TEST_CLIPS[0]:06d} to {TEST_CLIPS[-1]:06d} as the "
        f"authors have it; {len(clips) - len(tests)} for training"
    )
    chosen = set(tests)
    return {clip: "test" if clip in chosen else "train" for clip in clips}
