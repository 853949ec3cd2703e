"""From a tree of files to a run table: walking, recognizing the layout, and reading the names."""

from __future__ import annotations

import gzip
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from neuroclips_cli.data.readers import ReaderOptions, recognize
from neuroclips_cli.data.run_table import RunRow
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.folders import walk

ROOT = Path(__file__).resolve().parents[2]
FRIENDS = ROOT.parent / "shared" / "data" / "trees" / "friends.fmriprep.tsv.gz"
ANNEX = "../../../.git/annex/objects/aa/bb/MD5E-s1--c/MD5E-s1--c"
SUBJECTS, RUNS = 100, 20


def main(folder: Path) -> list[tuple[str, float, str]]:
    """Measure wall and processor time; 5 s are promised for either tree on an idle machine."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    if FRIENDS.is_file():
        root, films = write_friends(folder)
        options = ReaderOptions(films=films, test_films=("*s06*",))
        rows += [
            ("Friends, 49,516 entries without content, to the sentence, s", *_refused(root)),
            (
                "the same, the runs of sub-02 fetched, to its run table, s",
                *_table(root, 2, options),
            ),
        ]
    study = write_study(folder)
    rows.append(
        (f"{SUBJECTS} subjects x {RUNS} runs, one run table, s", *_table(study, 7, ReaderOptions()))
    )
    rows.append(("the same, all run tables, s", *_tables(study)))
    return rows


def write_friends(folder: Path) -> tuple[Path, Path]:
    """Write CNeuroMod's Friends with dead links, but for one subject's runs; and its films."""
    root, films = folder / "friends.fmriprep", folder / "friends.stimuli"
    for path in (root, films):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    for line in gzip.decompress(FRIENDS.read_bytes()).decode().splitlines():
        kind, _, name = line.partition("\t")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        run = name.startswith("sub-02/") and name.endswith("dtseries.nii")
        if kind == "link" and not run:
            path.symlink_to(ANNEX)
        else:
            path.write_text('{"RepetitionTime": 1.49}' if path.suffix == ".json" else "", "utf-8")
        if run:
            (films / f"friends_{name.split('task-')[1].split('_')[0]}.mkv").touch()
    return root, films


def write_study(folder: Path) -> Path:
    """Write a raw BIDS tree of `SUBJECTS` x `RUNS` runs with events, and fMRIPrep's outputs."""
    raw = folder / "study"
    shutil.rmtree(raw, ignore_errors=True)
    sidecar = json.dumps({"RepetitionTime": 1.5})
    endings = (
        *("space-fsLR_den-91k_bold.dtseries.nii", "space-fsLR_den-91k_bold.json"),
        *("space-T1w_desc-preproc_bold.nii.gz", "space-T1w_desc-preproc_bold.json"),
        *("space-T1w_desc-brain_mask.nii.gz", "space-T1w_desc-brain_mask.json"),
        *("hemi-L_space-fsaverage5_bold.func.gii", "hemi-R_space-fsaverage5_bold.func.gii"),
        *("desc-confounds_timeseries.tsv", "desc-confounds_timeseries.json"),
        *("desc-coreg_boldref.nii.gz", "from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt"),
    )
    (raw / "stimuli").mkdir(parents=True)
    for number in range(1, RUNS + 1):
        (raw / "stimuli" / f"{'test' if number > 16 else 'film'}{number}.mp4").touch()
    for subject in range(1, SUBJECTS + 1):
        own, done = (
            top / f"sub-{subject:03d}" / "func" for top in (raw, raw / "derivatives" / "fmriprep")
        )
        own.mkdir(parents=True)
        done.mkdir(parents=True)
        for run in range(1, RUNS + 1):
            stem = f"sub-{subject:03d}_task-watch_run-{run:02d}"
            film = f"{'test' if run > 16 else 'film'}{run}.mp4"
            events = f"onset\tduration\tstim_file\n6\t300\t{film}\n"
            (own / f"{stem}_events.tsv").write_text(events, "utf-8")
            (own / f"{stem}_bold.nii.gz").touch()
            for ending in endings:
                text = sidecar if ending.endswith(".json") else ""
                (done / f"{stem}_{ending}").write_text(text, "utf-8")
    return raw


def _table(root: Path, subject: int, options: ReaderOptions) -> tuple[float, str]:
    return _timed(lambda: _read(root, subject, options))


def _tables(root: Path) -> tuple[float, str]:
    def read() -> list[RunRow]:
        tree = walk(root)
        reader = recognize(tree).reader
        return [
            row
            for subject in range(1, SUBJECTS + 1)
            for row in reader.run_table(tree, str(subject), ReaderOptions())
        ]

    return _timed(read)


def _refused(root: Path) -> tuple[float, str]:
    def read() -> list[RunRow]:
        try:
            return _read(root, 1, ReaderOptions())
        except UserError as error:
            assert "datalad get" in str(error)
            return []

    return _timed(read)


def _read(root: Path, subject: int, options: ReaderOptions) -> list[RunRow]:
    tree = walk(root)
    return recognize(tree).reader.run_table(tree, str(subject), options)


def _timed(read: Callable[[], list[RunRow]]) -> tuple[float, str]:
    """Return wall time, and in words the rows and the processor's time, on a busy machine less."""
    began, worked = time.perf_counter(), time.process_time()
    rows = read()
    worked = time.process_time() - worked
    taken = time.perf_counter() - began
    found = f"{len(rows)} rows" if rows else "a sentence"
    return taken, f"{found}, {worked:.1f} s of processor"
