"""CineBrain as a run table: names of the authors' own files, tables written by csv alone."""

from __future__ import annotations

import csv
import json

import pytest

from neuroclips_cli.data.readers import ReaderOptions, recognize, tree_of
from neuroclips_cli.data.run_table import check_run_table
from neuroclips_cli.errors import UserError

RUN = "sub-0001_task-shape_run-{}_space-fsLR_den-91k_bold"


def write_times(root, run, start, stop):
    path = root / "beh_data" / f"sub_0001_{run}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [["", "videoStartTime", "videoStopTime"], ["0", start, stop], ["1", "", ""]]
        )


@pytest.fixture
def tree(tmp_path):
    """Three runs of 3, 2 and 2 clips; runs 9 and 10 are in their numbers' order."""
    (tmp_path / "dtseries").mkdir()
    (tmp_path / "videos").mkdir()
    for run, clips, start in ((2, 3, 8.25), (9, 2, 7.5), (10, 2, 8.0)):
        (tmp_path / "dtseries" / f"{RUN.format(run)}.dtseries.nii").touch()
        write_times(tmp_path, run, start, start + 4 * clips + 0.031)
    for clip in (3, 4, 5, 6, 7, 7560, 7561):
        (tmp_path / "videos" / f"{clip:06d}.mp4").write_bytes(bytes([clip % 251]))
    return tmp_path


def table(root, **options):
    said = []
    tree = tree_of(root)
    found = recognize(tree)
    assert found.reader.name == "cinebrain"
    rows = found.reader.run_table(tree, "1", ReaderOptions(say=said.append, **options))
    check_run_table(rows)
    return rows, said


def test_clips_follow_each_other_through_the_runs_from_their_start_times(tree):
    rows, said = table(tree)
    assert [(row.film.stem, row.scan_start_s) for row in rows] == [
        ("000003", 8.25),
        ("000004", 12.25),
        ("000005", 16.25),
        ("000006", 7.5),
        ("000007", 11.5),
        ("007560", 8.0),
        ("007561", 12.0),
    ]
    assert [row.split for row in rows] == ["train"] * 5 + ["test"] * 2
    assert {(row.tr_s, row.duration_s, row.subject) for row in rows} == {(0.8, 4.0, "0001")}
    assert any("set data.clip_s to 4" in sentence for sentence in said)


def test_a_sidecar_beats_the_tr_of_the_paper_and_the_user_beats_both(tree):
    sidecar = tree / "dtseries" / f"{RUN.format(2)}.json"
    sidecar.write_text(json.dumps({"RepetitionTime": 0.801}))
    rows, _ = table(tree)
    assert [row.tr_s for row in rows] == [0.801] * 3 + [0.8] * 4
    assert {row.tr_s for row in table(tree, tr_s=0.72)[0]} == {0.72}


def test_clips_that_do_not_fill_the_runs_are_not_dealt_out(tree):
    """The release holds the clips of all subjects; each saw a part of them."""
    (tree / "videos" / "000008.mp4").touch()
    with pytest.raises(UserError, match=r"8 clips such as 000003\.mp4 .* showed 7 of 4 s"):
        table(tree)


def test_a_run_without_its_table_of_times_is_refused(tree):
    (tree / "beh_data" / "sub_0001_9.csv").unlink()
    with pytest.raises(UserError, match=r"no table of times sub_0001_9\.csv"):
        table(tree)


def test_a_table_without_times_is_one_sentence(tree):
    write_times(tree, 9, "start", 20)
    with pytest.raises(UserError, match="videoStartTime = 'start'"):
        table(tree)
    write_times(tree, 9, 20, 8)
    with pytest.raises(UserError, match="seconds after the scan began"):
        table(tree)


def test_the_user_names_other_test_clips(tree):
    rows, _ = table(tree, test_films=("000003", "000004"))
    assert [row.split for row in rows] == ["test"] * 2 + ["train"] * 5


def test_clips_that_were_not_unpacked(tree):
    for path in (tree / "videos").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="unpack videos.tar"):
        table(tree)
