"""BOLD Moments as a run table: events and names as in ds005165, written by csv alone."""

from __future__ import annotations

import csv
import json

import pytest

from neuroclips_cli.data.readers import ReaderOptions, recognize, tree_of
from neuroclips_cli.data.run_table import check_run_table
from neuroclips_cli.errors import UserError

SPACE = "space-fsLR_den-91k_bold"


def write_run(root, task, run, trials, version="versionB", session="02"):
    stem = f"sub-01_ses-{session}_task-{task}_run-{run}"
    folder = root / f"derivatives/{version}/fmriprep/sub-01/ses-{session}/func"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}_{SPACE}.dtseries.nii").touch()
    (folder / f"{stem}_{SPACE}.json").write_text(json.dumps({"RepetitionTime": 1.75}))
    raw = root / f"sub-01/ses-{session}/func"
    raw.mkdir(parents=True, exist_ok=True)
    with (raw / f"{stem}_events.tsv").open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t")
        writer.writerow(["onset", "duration", "trial_type", "stim_file"])
        writer.writerows(trials)


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "stimuli").mkdir()
    for number in (1, 2, 3, 1001, 1002):
        (tmp_path / "stimuli" / f"vid{number:04d}.mp4").write_bytes(bytes([number % 251]))
    (tmp_path / "dataset_description.json").write_text("{}")
    train = [
        [7.0, 3, "video", "vid0001.mp4"],
        [11.0, 3, "video", "vid0002.mp4"],
        [15.0, 3, "oddball", "oddball.mp4"],
        [19.0, 3, "video", "vid0003.mp4"],
        [23.0, 4, "fixation", "n/a"],
    ]
    write_run(tmp_path, "train", 1, train)
    write_run(tmp_path, "train", 2, [[6.98, 3.02, "video", "vid0002.mp4"]])
    for run in (1, 2, 10):
        test = [[7.0, 3, "video", "vid1001.mp4"], [11.0, 3, "video", "vid1002.mp4"]]
        write_run(tmp_path, "test", run, test if run != 2 else test[::-1])
    return tmp_path


def table(root, **options):
    said = []
    tree = tree_of(root)
    found = recognize(tree)
    assert (found.reader.name, "fmriprep" in found.others) == ("bold-moments", True)
    rows = found.reader.run_table(tree, "01", ReaderOptions(say=said.append, **options))
    check_run_table(rows)
    return rows, said


def test_trials_are_rows_and_oddballs_and_fixations_are_none(tree):
    rows, said = table(tree)
    train = [row for row in rows if row.split == "train"]
    assert [(row.film.stem, row.scan_start_s, row.repetition) for row in train] == [
        ("vid0001", 7.0, 1),
        ("vid0002", 11.0, 1),
        ("vid0003", 19.0, 1),
        ("vid0002", 6.98, 2),
    ]
    assert {row.tr_s for row in rows} == {1.75} and {row.duration_s for row in train} == {3.0}
    assert any("set data.clip_s to 3" in sentence for sentence in said)


def test_repetitions_of_test_videos_are_counted_over_runs_in_their_numbers_order(tree):
    rows, _ = table(tree)
    test = [(r.film.stem, r.repetition, r.files[0].name) for r in rows if r.split == "test"]
    assert [(film, number) for film, number, _ in test if film == "vid1001"] == [
        ("vid1001", 1),
        ("vid1001", 2),
        ("vid1001", 3),
    ]
    assert "run-10" in test[-1][2]


def test_the_recommended_version_of_its_derivatives_is_read(tree):
    write_run(tree, "train", 1, [[7.0, 3, "video", "vid0001.mp4"]], version="versionA")
    rows, said = table(tree)
    assert all("versionB" in str(row.files[0]) for row in rows)
    assert "versionB is read, not versionA" in said


def test_stimuli_that_need_a_password_are_missed_with_their_names(tree):
    (tree / "stimuli" / "vid0002.mp4").unlink()
    with pytest.raises(UserError, match=r"vid0002\.mp4"):
        table(tree)


def test_localizer_runs_are_left_out(tree):
    write_run(tree, "localizer", 1, [[0.0, 18, "faces", "n/a"]])
    rows, _ = table(tree)
    assert not [row for row in rows if "localizer" in row.files[0].name]
