"""Algonauts 2025: parcels written by h5py alone, names of the challenge's own files."""

from __future__ import annotations

import gzip
import sys

import h5py
import numpy as np
import pytest

from neuroclips_cli.data.parcel_runs import ParcelRun
from neuroclips_cli.data.readers import ReaderOptions, recognize, tree_of
from neuroclips_cli.data.run_table import check_run_table, read_run_table, write_run_table
from neuroclips_cli.data.runs import open_row
from neuroclips_cli.errors import UserError

ATLAS = "space-MNI152NLin2009cAsym_atlas-Schaefer18_parcel-1000Par7Net"
FRIENDS = ["s01e02a", "s01e02b", "s01e10a", "s02e01a"]
MOVIE10 = [
    "bourne01",
    "bourne02",
    "life01_run-1",
    "life01_run-2",
    "figures02_run-1",
    "figures02_run-2",
]


def write_h5(path, keys, parcels=20, start=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for number, key in enumerate(keys, start=start):
            series = np.random.default_rng(number).standard_normal((30 + number, parcels))
            file[f"ses-{number:03d}_task-{key}"] = series.astype(np.float32)


def write_tree(root, friends=FRIENDS, movie10=MOVIE10):
    func = root / "fmri" / "sub-01" / "func"
    if friends:
        write_h5(func / f"sub-01_task-friends_{ATLAS}_desc-s123456_bold.h5", friends)
    if movie10:
        write_h5(func / f"sub-01_task-movie10_{ATLAS}_bold.h5", movie10, start=50)
    films = root / "stimuli" / "movies"
    for task in {*friends, *(key.split("_")[0] for key in movie10)}:
        folder, prefix = ("friends/s1", "friends_") if task in friends else ("movie10", "")
        (films / folder).mkdir(parents=True, exist_ok=True)
        (films / folder / f"{prefix}{task}.mkv").write_bytes(task.encode())
    return root


def table(root, subject="1", **options):
    said = []
    tree = tree_of(root)
    reader = recognize(tree).reader
    assert reader.name == "algonauts"
    rows = reader.run_table(tree, subject, ReaderOptions(say=said.append, **options))
    check_run_table(rows)
    return rows, said


def test_keys_become_runs_with_their_films_in_natural_order(tmp_path):
    rows, said = table(write_tree(tmp_path))
    friends = [row for row in rows if "friends" in row.files[0].name]
    assert [row.key for row in friends] == [
        "ses-001_task-s01e02a",
        "ses-002_task-s01e02b",
        "ses-003_task-s01e10a",
        "ses-004_task-s02e01a",
    ]
    assert [row.film.name for row in friends] == [f"friends_{task}.mkv" for task in FRIENDS]
    assert {(row.session, row.split, row.repetition) for row in friends[:1]} == {
        ("001", "train", 1)
    }
    assert {(row.tr_s, row.scan_start_s, row.duration_s) for row in rows} == {(1.49, 0.0, None)}
    assert "the TR is 1.49 s: HDF5 files state none" in said


def test_only_repeated_films_are_for_testing_and_a_session_is_not_a_repetition(tmp_path):
    rows, said = table(write_tree(tmp_path))
    test = [(r.film.stem, r.repetition, r.key) for r in rows if r.split == "test"]
    assert test == [
        ("figures02", 1, "ses-054_task-figures02_run-1"),
        ("figures02", 2, "ses-055_task-figures02_run-2"),
        ("life01", 1, "ses-052_task-life01_run-1"),
        ("life01", 2, "ses-053_task-life01_run-2"),
    ]
    assert any("2 films that were shown more than once are for testing" in s for s in said)
    rows, _ = table(tmp_path, test_films=("friends_s02*",))
    assert [r.film.name for r in rows if r.split == "test"] == ["friends_s02e01a.mkv"]


def test_without_repeated_films_the_user_names_the_test_films(tmp_path):
    write_tree(tmp_path, movie10=[])
    with pytest.raises(UserError, match="data.test_films"):
        table(tmp_path)
    rows, _ = table(tmp_path, test_films=("friends_s01e10a",))
    assert [row.split for row in rows] == ["train", "train", "test", "train"]


def test_runs_that_are_missing_are_no_error_and_films_that_are_missing_are_said(tmp_path):
    """sub-02 lacks s05e20a in the real data; here the film of one run is a dead annex link."""
    write_tree(tmp_path)
    film = next(tmp_path.rglob("friends_s01e02b.mkv"))
    film.unlink()
    film.symlink_to("../../.git/annex/objects/x/y/MD5E-s9--f.mkv")
    rows, said = table(tmp_path)
    assert len(rows) == len(FRIENDS) + len(MOVIE10) - 1
    assert any("left out: s01e02b" in s and "datalad get friends_s01e02b.mkv" in s for s in said)
    (season,) = {path.parent for path in tmp_path.rglob("friends_*.mkv")}
    for path in season.iterdir():
        path.unlink()
    for path in (season.parents[1] / "movie10").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no film of the tasks .* such as friends_"):
        table(tmp_path)


def test_an_h5_without_the_named_keys_is_one_sentence(tmp_path):
    path = tmp_path / "fmri" / f"sub-01_task-friends_{ATLAS}_desc-s123456_bold.h5"
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((3, 4))
    with pytest.raises(UserError, match=r"no data set called like ses-001_task-s01e01a, but data"):
        table(tmp_path)
    with pytest.raises(UserError, match=r"holds no data set 'ses-001_task-s01e01a' \(it holds 1"):
        ParcelRun(path, "ses-001_task-s01e01a")
    with h5py.File(path, "w") as file:
        file["ses-001_task-s01e01a"] = np.zeros(7)
    with pytest.raises(UserError, match=r"shape \(7,\) and holds no \(volumes, parcels\)"):
        ParcelRun(path, "ses-001_task-s01e01a")


def test_what_is_no_run_beside_the_runs_is_said(tmp_path):
    write_tree(tmp_path)
    path = next(tmp_path.rglob("*friends*.h5"))
    with h5py.File(path, "a") as file:
        file["labels"] = np.arange(20)
    rows, said = table(tmp_path)
    assert len(rows) == len(FRIENDS) + len(MOVIE10)
    assert any("1 data sets such as labels are not runs" in sentence for sentence in said)


def test_keys_of_cneuromods_own_files_lie_in_groups(tmp_path):
    write_tree(tmp_path)
    path = next(tmp_path.rglob("*friends*.h5"))
    with h5py.File(path, "w") as file:
        for number, task in enumerate(FRIENDS, start=1):
            name = f"ses-{number:03d}_task-{task}_timeseries"
            file[f"ses-{number:03d}/{name}"] = np.full((40, 20), number, np.float32)
    rows, _ = table(tmp_path)
    assert rows[1].key == "ses-002/ses-002_task-s01e02b_timeseries"
    assert (open_row(rows[1]).read() == 2).all()


def test_parcels_are_read_as_h5py_reads_them_whole_and_in_pieces(tmp_path):
    rows, _ = table(write_tree(tmp_path))
    first, other = open_row(rows[0]), open_row(rows[3])
    with h5py.File(rows[0].files[0]) as file:
        expected = file["ses-001_task-s01e02a"][()]
    assert isinstance(first, ParcelRun) and first.volumes == 31 and first.step_s is None
    assert np.array_equal(first.read(), expected)
    pieces = {where.start: part for where, part in first.blocks(8)}
    assert np.array_equal(np.concatenate(list(pieces.values()), axis=1), expected)
    needed = np.arange(20) >= 16
    assert [where.start for where, _ in first.blocks(8, needed)] == [16]
    assert other.share_geometry(first) and other.columns is first.columns


def test_a_run_table_keeps_the_key_inside_the_file(tmp_path):
    rows, _ = table(write_tree(tmp_path))
    again = read_run_table(write_run_table(tmp_path / "runs.tsv", rows))
    assert [(r.key, r.files[0].resolve()) for r in again] == [
        (r.key, r.files[0].resolve()) for r in rows
    ]


def test_without_h5py_one_sentence_names_the_extra(tmp_path, monkeypatch):
    write_tree(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"needs h5py: run `pip install 'neuroclips\[release\]'`"):
        table(tmp_path)


def test_a_damaged_or_absent_h5_and_another_subject(tmp_path):
    write_tree(tmp_path)
    with pytest.raises(UserError, match="no HDF5 file of subject 4 .subjects found: 01"):
        table(tmp_path, subject="4")
    path = next(tmp_path.rglob("*friends*.h5"))
    path.write_bytes(b"not an HDF5 file")
    with pytest.raises(UserError, match="is not an HDF5 file"):
        table(tmp_path)
    path.unlink()
    path.symlink_to("../.git/annex/objects/q")
    _, said = table(tmp_path)
    assert any("datalad get" in sentence for sentence in said)


def test_the_challenges_own_tree_says_what_to_fetch(shared, tmp_path):
    """Links of the real tree lead nowhere: one sentence, fast."""
    listing = (shared / "data/trees/algonauts_2025.competitors.tsv.gz").read_bytes()
    for line in gzip.decompress(listing).decode().splitlines():
        kind, name = line.split("\t")
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "link":
            path.symlink_to("../../../.git/annex/objects/aa/bb/MD5E-s1--c")
        elif not path.exists():
            path.touch()
    with pytest.raises(UserError, match=r"datalad get sub-03_task-friends_.*\.h5"):
        table(tmp_path, subject="3")


@pytest.mark.parametrize("content", [b"s01e02b", b"s01e02c"])
def test_a_second_film_of_a_task_is_a_copy_or_refused_also_if_as_large(tmp_path, content):
    write_tree(tmp_path)
    (tmp_path / "stimuli" / "again").mkdir()
    (tmp_path / "stimuli" / "again" / "friends_s01e02b.mkv").write_bytes(content)
    if content == b"s01e02b":
        assert len(table(tmp_path)[0]) == len(FRIENDS) + len(MOVIE10)
        return
    with pytest.raises(UserError, match=r"different films are named after task s01e02b.*remove"):
        table(tmp_path)
