"""HCP 7T movies as a run table: files written by nibabel alone, times of the HCP's own list."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis, Cifti2Image, SeriesAxis

from neuroclips_cli.data.readers import ReaderOptions, recognize, tree_of
from neuroclips_cli.data.run_table import check_run_table
from neuroclips_cli.errors import UserError

CLEAN = "_1.6mm_MSMAll_hp2000_clean"
VOLUMES = {1: 921, 2: 918, 3: 915, 4: 901}
FILMS = {1: "CC1", 2: "HO1", 3: "CC2", 4: "HO2"}
WAYS = {1: "AP", 2: "PA", 3: "PA", 4: "AP"}


def write_run(root, movie, ending=CLEAN, subject="100610", volumes=None, vertices=6):
    name = f"tfMRI_MOVIE{movie}_7T_{WAYS[movie]}"
    folder = root / subject / "MNINonLinear" / "Results" / name
    folder.mkdir(parents=True, exist_ok=True)
    count = VOLUMES[movie] if volumes is None else volumes
    series = np.random.default_rng(movie).standard_normal((count, vertices), np.float32)
    cortex = BrainModelAxis.from_surface(np.arange(vertices), 59412, "CIFTI_STRUCTURE_CORTEX_LEFT")
    path = folder / f"{name}_Atlas{ending}.dtseries.nii"
    nib.save(Cifti2Image(series, header=(SeriesAxis(0, 1, count, "SECOND"), cortex)), path)
    return path


def write_films(root, version="_v2"):
    (root / "stimuli").mkdir(exist_ok=True, parents=True)
    for movie, name in FILMS.items():
        (root / "stimuli" / f"7T_MOVIE{movie}_{name}{version}.mp4").write_bytes(bytes([movie]))


@pytest.fixture
def tree(tmp_path):
    for movie in VOLUMES:
        write_run(tmp_path, movie)
    write_films(tmp_path)
    return tmp_path


def table(root, subject="100610", **options):
    said = []
    rows = recognize(tree_of(root)).reader.run_table(
        tree_of(root), subject, ReaderOptions(say=said.append, **options)
    )
    check_run_table(rows)
    return rows, said


def test_excerpts_between_rests_are_rows_and_the_last_one_is_repeated(tree):
    assert recognize(tree_of(tree)).reason.startswith("4 runs such as tfMRI_MOVIE1_7T_AP_Atlas")
    rows, said = table(tree)
    train = [row for row in rows if row.split == "train"]
    # seconds of the first excerpts of a run, and the number of excerpts before the repeated one
    first = {row.film.name: row for row in reversed(train)}
    assert {name: (r.film_start_s, r.duration_s) for name, r in first.items()} == {
        "7T_MOVIE1_CC1_v2.mp4": (20, 244),
        "7T_MOVIE2_HO1_v2.mp4": (20, 227),
        "7T_MOVIE3_CC2_v2.mp4": (20, 181),
        "7T_MOVIE4_HO2_v2.mp4": (20, 232),
    }
    assert [sum(r.film.name[8] == n for r in train) for n in "1234"] == [4, 3, 4, 3]
    assert all(row.film_start_s == row.scan_start_s and row.tr_s == 1 for row in train)
    test = [row for row in rows if row.split == "test"]
    assert [row.repetition for row in test] == [1, 2, 3, 4]
    assert [row.scan_start_s for row in test] == [818, 815, 812, 798]
    assert {(row.film.name, row.film_start_s, row.duration_s) for row in test} == {
        ("7T_MOVIE1_CC1_v2.mp4", 818, 83)
    }
    assert any("version 2" in sentence for sentence in said)


def test_no_excerpt_reaches_into_the_20_s_of_rest(tree):
    rows, _ = table(tree)
    for movie, volumes in VOLUMES.items():
        mine = [r for r in rows if f"MOVIE{movie}_" in r.files[0].name]
        spans = sorted((r.scan_start_s, r.scan_start_s + r.duration_s) for r in mine)
        assert spans[0][0] == 20 and spans[-1][1] == volumes - 20
        gaps = [second[0] - first[1] for first, second in zip(spans, spans[1:], strict=False)]
        assert all(19 <= gap <= 22 for gap in gaps)


def test_two_millimetres_are_taken_before_1_6_and_the_user_decides(tree):
    for movie in VOLUMES:
        write_run(tree, movie, "_MSMAll_hp2000_clean")
        write_run(tree, movie, "")
    rows, said = table(tree)
    assert {row.files[0].name.partition("_Atlas")[2] for row in rows} == {
        "_MSMAll_hp2000_clean.dtseries.nii"
    }
    assert any("2 mm, 91k" in sentence for sentence in said)
    rows, _ = table(tree, space="1.6mm")
    assert all("1.6mm" in row.files[0].name for row in rows)
    with pytest.raises(UserError, match="write 1.6mm or 2mm"):
        table(tree, space="fsaverage")


def test_runs_of_different_grids_are_never_mixed(tree):
    write_run(tree, 1, "_MSMAll_hp2000_clean")
    rows, _ = table(tree)
    assert {"1.6mm" in row.files[0].name for row in rows} == {True}


def test_a_missing_run_is_said_and_lowers_the_repetitions(tree):
    for path in (tree / "100610").rglob("*MOVIE1*.nii"):
        path.unlink()
    rows, said = table(tree)
    test = [row for row in rows if row.split == "test"]
    assert [(r.repetition, r.film.name[:9]) for r in test] == [
        (1, "7T_MOVIE2"),
        (2, "7T_MOVIE2"),
        (3, "7T_MOVIE2"),
    ]
    assert "subject 100610 has no run of MOVIE1: the others are taken" in said


def test_a_run_that_was_cut_short_is_refused(tree):
    write_run(tree, 3, volumes=640)
    with pytest.raises(UserError, match="640 volumes, a whole run of MOVIE3 915"):
        table(tree)


def test_films_of_version_1_are_taken_where_they_are_the_only_ones(tree):
    for path in (tree / "stimuli").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"no film 7T_MOVIE1_CC1_v2\.mp4"):
        table(tree)
    write_films(tree, version="")
    rows, said = table(tree)
    assert rows[0].film.name == "7T_MOVIE1_CC1.mp4"
    assert any("films of version 1 are taken" in sentence for sentence in said)


def test_other_subjects_and_runs_that_were_not_fetched(tree):
    write_run(tree, 1, subject="102311")
    with pytest.raises(UserError, match="subjects found: 100610, 102311"):
        table(tree, subject="7")
    for path in (tree / "102311").rglob("*.nii"):
        path.unlink()
        path.symlink_to("../../.git/annex/objects/ab/cd/MD5E-s1--0.nii")
    with pytest.raises(UserError, match="datalad get"):
        table(tree, subject="102311")


def test_volumes_are_not_taken_for_grayordinates(tree):
    with pytest.raises(UserError, match="not as volumes"):
        table(tree, volumetric=True)
