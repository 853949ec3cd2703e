"""What a user names as new scans: files, keys, hemispheres, tables of confounds, TR."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from neuroclips_cli.data.runs import open_row
from neuroclips_cli.data.scan_files import (
    files_of,
    require_cleaned,
    scan_row,
    scan_rows,
    step_of,
)
from neuroclips_cli.errors import UserError

STEM = "sub-01_task-film_run-02"


@pytest.fixture
def tree(tmp_path):
    """A folder of a derivative: two copies of a run, its table, and a run of parcels."""
    names = [
        f"{STEM}_hemi-L_space-fsaverage5_bold.func.gii",
        f"{STEM}_hemi-R_space-fsaverage5_bold.func.gii",
        f"{STEM}_space-fsLR_den-91k_bold.dtseries.nii",
        f"{STEM}_desc-confounds_timeseries.tsv",
        f"{STEM}_space-fsLR_den-91k_bold.json",
        "parcels.h5",
        "scans.npy",
    ]
    for name in names:
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_hemispheres_are_one_run_and_everything_read_is_named(tree):
    left, right = (tree / f"{STEM}_hemi-{side}_space-fsaverage5_bold.func.gii" for side in "LR")
    for named in ([left], [right], [left, right], [Path(f"{left},{right}")]):
        rows = scan_rows(named, "motion")
        assert [row.files for row in rows] == [(left, right)]
    table = tree / f"{STEM}_desc-confounds_timeseries.tsv"
    assert files_of(rows[0], 1) == {
        "scans_1": left,
        "scans_1_file2": right,
        "scans_1_confounds": table,
    }
    (cifti,) = scan_rows([tree / f"{STEM}_space-fsLR_den-91k_bold.dtseries.nii"], "motion")
    assert cifti.confounds == table
    assert files_of(cifti, 2)["scans_2_sidecar"] == tree / f"{STEM}_space-fsLR_den-91k_bold.json"
    (parcels,) = scan_rows([tree / "parcels.h5#ses-1_task-a"], "")
    assert (parcels.files, parcels.key) == ((tree / "parcels.h5",), "ses-1_task-a")


def test_a_table_by_option_wins_and_arrays_need_none(tree):
    mine = tree / "mine.tsv"
    mine.write_text("a\n")
    runs = [tree / "parcels.h5#a", tree / "scans.npy", tree / "parcels.h5#b"]
    first, array, second = scan_rows(runs, "simple", [mine, mine])
    assert (first.confounds, array.confounds, second.confounds) == (mine, None, mine)
    assert scan_rows(runs[:1], "simple", [Path("none")])[0].confounds is None


@pytest.mark.parametrize(
    ("names", "strategy", "tables", "said"),
    [
        (["gone.nii"], "", [], "gone.nii do not exist"),
        (["parcels.h5#a"], "simple", [], "there is none beside it: name it with --confounds-file"),
        (["parcels.h5#a"], "", ["mine.tsv"], "mine.tsv is not needed"),
        (["parcels.h5#a"], "simple", ["a.tsv", "b.tsv"], "2 tables of confounds for 1 runs"),
        (["parcels.h5#a"], "simple", ["a.tsv"], "the table of confounds .*a.tsv does not exist"),
    ],
)
def test_what_is_not_there_is_one_sentence(tree, names, strategy, tables, said):
    with pytest.raises(UserError, match=said) as told:
        scan_rows([tree / name for name in names], strategy, [tree / name for name in tables])
    assert "\n" not in str(told.value)


def test_two_files_of_the_whole_brain_are_no_run(tree):
    named = Path(f"{tree / 'parcels.h5'},{tree / 'parcels.h5'}")
    with pytest.raises(UserError, match="names 2 files as one run, which only hemispheres are"):
        open_row(scan_row(named))


def test_several_tables_beside_a_run_are_told(tree):
    (tree / f"{STEM.replace('02', '2')}_desc-confounds_timeseries.tsv").write_text("a\n")
    with pytest.raises(UserError, match=r"there is several \(.*\) beside it"):
        scan_rows([tree / f"{STEM}_space-fsLR_den-91k_bold.dtseries.nii"], "motion")


def test_volumes_that_arrive_come_cleaned_or_not_at_all():
    require_cleaned("simple", removed=True)
    require_cleaned("", removed=False)
    with pytest.raises(UserError, match="cannot be done before a run is finished"):
        require_cleaned("simple", removed=False)


@pytest.mark.parametrize(
    ("header", "sidecar", "trained", "stated", "taken"),
    [
        (1.5, None, [1.5], None, (1.5, "series step", 0)),
        (1.0, 1.5, [1.5], None, (1.5, "sidecar", 1)),
        (1.50004, None, [1.5], None, (1.5, "series step", 0)),
        (None, None, [1.5], None, (1.5, "training runs", 1)),
        (None, None, [0.8, 1.5], 0.8, (0.8, "--tr", 0)),
        (1.0, None, [1.5], 1.5, (1.5, "--tr", 1)),
        (0.8, None, [0.8, 1.5], None, (0.8, "series step", 0)),
        (1.0, None, [1.5], None, "every 1 s by its series step, and not every 1.5 s as the"),
        (None, None, [0.8, 1.5], None, "those of the training runs were 0.8, 1.5 s apart"),
        (1.5, 1.0, [1.5], None, "every 1 s by its sidecar"),
    ],
)
def test_the_time_between_volumes_is_decided_once(tree, header, sidecar, trained, stated, taken):
    path = tree / f"{STEM}_space-fsLR_den-91k_bold.dtseries.nii"
    if sidecar:  # of the whole task, at the top of the tree
        (tree / "dataset_description.json").write_text("{}")
        (tree / "task-film_bold.json").write_text(json.dumps({"RepetitionTime": sidecar}))
    (row,) = scan_rows([path], "")
    run = SimpleNamespace(step_s=header, step_source="series step")
    if isinstance(taken, str):
        with pytest.raises(UserError, match=taken):
            step_of(row, run, trained, stated)
        return
    step, warnings = step_of(row, run, trained, stated)
    assert (step.seconds, step.source, len(warnings)) == taken
