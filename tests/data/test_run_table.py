"""The run table: written, read back, and refused where it contradicts itself."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from neuroclips_cli.data.run_table import (
    COLUMNS,
    RunRow,
    check_run_table,
    is_subject,
    read_run_table,
    rows_of_subject,
    subject_number,
    write_run_table,
)
from neuroclips_cli.errors import UserError


def _row(folder: Path, **more) -> RunRow:
    given = {
        "subject": "01",
        "session": "",
        "files": (folder / "run1.dtseries.nii",),
        "key": "",
        "film": folder / "film1.mp4",
        "film_start_s": 0.0,
        "scan_start_s": 10.0,
        "duration_s": 100.0,
        "tr_s": None,
        "split": "train",
        "repetition": 1,
    }
    return RunRow(**{**given, **more})


def _files(folder: Path, *rows: RunRow) -> list[RunRow]:
    """Make the files of a table, each with other content."""
    for row in rows:
        for path in (*row.files, row.film, row.mask, row.confounds):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(path.name)
    return list(rows)


def test_what_is_written_is_read_back(tmp_path):
    rng = random.Random(0)
    rows = []
    for number in range(60):
        pair = tuple(tmp_path / f"sub/hemi-{side}_{number}.func.gii" for side in "LR")
        h5 = (tmp_path / "all runs.h5",)
        files, key = rng.choice([((tmp_path / f"a{number}.nii.gz",), ""), (pair, ""), (h5, "s/k1")])
        rows.append(
            _row(
                tmp_path,
                subject=rng.choice(["01", "100610", "7"]),
                session=rng.choice(["", "001"]),
                files=files,
                key=key,
                film_start_s=rng.choice([0.0, round(rng.uniform(0, 900), 3)]),
                scan_start_s=rng.choice([None, 0.0, round(rng.uniform(0, 900), 6)]),
                duration_s=rng.choice([None, 244.0, 1 / 3]),
                tr_s=rng.choice([None, 0.8, 1.49, 2.00000061]),
                split=rng.choice(["train", "test", "val"]),
                repetition=rng.randint(1, 10),
                mask=rng.choice([None, tmp_path / "mask.nii.gz"]),
                confounds=rng.choice([None, tmp_path / "confounds.tsv"]),
            )
        )
    (tmp_path / "tables").mkdir()
    path = write_run_table(tmp_path / "tables" / "runs.tsv", rows)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].split("\t") == list(COLUMNS)
    assert str(tmp_path) not in path.read_text(encoding="utf-8")
    back = read_run_table(path)
    for one, other in zip(rows, back, strict=True):
        resolved = replace(
            other,
            files=tuple(file.resolve() for file in other.files),
            film=other.film.resolve(),
            mask=other.mask and other.mask.resolve(),
            confounds=other.confounds and other.confounds.resolve(),
            duration_s=one.duration_s
            if one.duration_s and abs(other.duration_s - one.duration_s) < 1e-8
            else other.duration_s,
        )
        assert resolved == one


def test_a_hand_written_table_needs_four_columns(tmp_path):
    path = tmp_path / "runs.tsv"
    path.write_bytes(
        b"\xef\xbb\xbfsplit\tfilm\tfile\tsubject\r\n"
        b"train\tfilm1.mp4\ta.nii\tsub-1\r\ntrain\tfilm1.mp4\tb.nii\t1\r\n"
        b"test\tfilm2.mp4\tall.h5#ses-001_task-x\t1\r\n"
    )
    first, second, third = read_run_table(path)
    assert (first.repetition, second.repetition, third.repetition) == (1, 2, 1)
    assert first.scan_start_s is None and first.duration_s is None and first.film_start_s == 0
    assert first.files == (tmp_path / "a.nii",) and first.subject == "1"
    assert (third.files, third.key) == ((tmp_path / "all.h5",), "ses-001_task-x")


HEAD = "subject\tfile\tfilm\tsplit\tscan_start_s\trepetition\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lacks the column 'subject'"),
        (HEAD, "holds no runs"),
        ("subject\tfile\tfilm\tsplitt\n", "did you mean 'split'"),
        ("subject\tfile\tfilm\tsplit\tfilm\n", "'film' twice"),
        (HEAD + "1\ta.nii\tf.mp4\ttrian\t0\t1\n", r"line 2 has the split 'trian' \(did you mean"),
        (HEAD + "1\ta.nii\tf.mp4\ttrain\t-3\t1\n", "scan_start_s = '-3': write a number from 0"),
        (HEAD + "1\ta.nii\tf.mp4\ttrain\tnan\t1\n", "scan_start_s = 'nan'"),
        (HEAD + "1\ta.nii\tf.mp4\ttrain\tsoon\t1\n", "scan_start_s = 'soon'"),
        (HEAD + "1\ta.nii\tf.mp4\ttrain\t0\t1.5\n", "whole number"),
        (HEAD + "1\ta.nii\tf.mp4\ttrain\t0\t0\n", "repetition = '0'"),
        (HEAD + "1\ta.nii\tn/a\ttrain\t0\t1\n", "line 2 lacks its film"),
        (HEAD + "NDAR007\ta.nii\tf.mp4\ttrain\t0\t1\n", "'NDAR007' is not a number"),
        (HEAD + "1\ta.nii\tf.mp4\ttrain\n", "other columns than the header"),
        (HEAD + "1\ta.nii\tf.mp4\ttrain\t0\t1\t7\n", "other columns than the header"),
        (HEAD.replace("\t", ","), "separated by tabs"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path, text, said):
    path = tmp_path / "runs.tsv"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_run_table(path)


def test_labels_of_subjects():
    assert {subject_number(label) for label in ("1", "01", "0001", "sub-01")} == {1}
    assert is_subject("0001", 1) and not is_subject("10", 1) and not is_subject("NDAR1", 1)
    assert subject_number("100610") == 100610
    for label in ("NDAR", "", "0", "1a"):
        with pytest.raises(UserError, match="--runs"):
            subject_number(label)


def test_another_subjects_rows_are_left_out(tmp_path):
    rows = [_row(tmp_path, subject=label) for label in ("01", "2", "0001")]
    assert [row.subject for row in rows_of_subject(rows, 1, "runs.tsv")] == ["01", "0001"]
    with pytest.raises(UserError, match=r"subject 5 \(subjects found: 0001, 01, 2\)"):
        rows_of_subject(rows, 5, "runs.tsv")


def _test_row(folder: Path, **more) -> RunRow:
    more = {"files": (folder / "run2.dtseries.nii",), "split": "test"} | more
    return _row(folder, **more)


def test_a_sound_table_passes(tmp_path):
    rows = _files(
        tmp_path,
        _row(tmp_path),
        _row(tmp_path, scan_start_s=130.0, film=tmp_path / "film2.mp4"),
        _test_row(tmp_path, film_start_s=100.0),  # the next stretch of the same film
    )
    check_run_table(rows)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"scan_start_s": 109.0, "film": "film2.mp4"}, "overlap: film1.mp4 from 10 s to 110 s"),
        ({"scan_start_s": None, "film": "film2.mp4"}, "without scan_start_s"),
        ({"files": "run2.nii", "film": "film1.mp4"}, "twice"),
        ({"files": "run2.nii", "split": "test"}, "leakage"),
        ({"files": "run2.nii", "split": "val", "film_start_s": 99.0}, "leakage"),
        ({"files": "run2.nii", "split": "test", "film": "copy.mp4"}, "leakage"),
    ],
)
def test_rows_that_contradict_each_other_are_refused(tmp_path, more, said):
    changed = {
        name: tmp_path / value
        if name == "film"
        else (tmp_path / value,)
        if name == "files"
        else value
        for name, value in more.items()
    }
    rows = _files(tmp_path, _row(tmp_path), _row(tmp_path, **changed))
    (tmp_path / "copy.mp4").write_text("film1.mp4")
    with pytest.raises(UserError, match=said):
        check_run_table(rows)


def test_files_that_are_not_there_are_named(tmp_path):
    for lost in ("film1.mp4", "run1.dtseries.nii", "mask.nii", "confounds.tsv"):
        row = _row(tmp_path, mask=tmp_path / "mask.nii", confounds=tmp_path / "confounds.tsv")
        rows = _files(tmp_path, row)
        (tmp_path / lost).unlink()
        with pytest.raises(UserError, match=f"{lost} of the run table is not there"):
            check_run_table(rows)
    (tmp_path / "film1.mp4").unlink(missing_ok=True)
    rows = _files(tmp_path, _row(tmp_path, mask=None, confounds=None))
    (tmp_path / "film1.mp4").unlink()
    (tmp_path / "film1.mp4").symlink_to(".git/annex/objects/x/y")
    with pytest.raises(UserError, match="datalad get"):
        check_run_table(rows)


def test_a_table_without_training_runs_is_refused(tmp_path):
    with pytest.raises(UserError, match="no training runs"):
        check_run_table(_files(tmp_path, _test_row(tmp_path)))
