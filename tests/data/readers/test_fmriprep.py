"""fMRIPrep's derivatives: the traps that users of them report, each a test.

The trees are made by hand (``helpers/bids_tree.py``); a number such as #3817 is the report's.
"""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from helpers.bids_tree import ANNEX, CIFTI, GIFTI, NIFTI, BidsTree, film_rows, stretches

from neuroclips_cli.data.bids import Inherited, parse_name
from neuroclips_cli.data.readers import READERS, ReaderOptions, recognize
from neuroclips_cli.data.readers.fmriprep import Fmriprep
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.folders import walk


@pytest.fixture
def tree(tmp_path: Path) -> BidsTree:
    """Return an empty derivative in an empty raw data set."""
    return BidsTree(tmp_path / "study")


def cifti(stem: str, den: str = "91k") -> str:
    return f"{stem}_space-fsLR_den-{den}_{CIFTI}"


def two_tasks(tree: BidsTree, *more: str) -> None:
    """Make a subject with a training and a test run whose films are called like the tasks."""
    tree.empty(cifti("sub-01_task-story"), cifti("sub-01_task-test"), *more)
    tree.films("story.mp4", "test.mp4")


def refused(tree: BidsTree, subject: str = "1", **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        tree.table(subject, **options)
    return str(caught.value)


# --- names -----------------------------------------------------------------------------------


def test_entities_are_read_in_any_order() -> None:
    """Nilearn #3817: ``hemi`` before ``space``."""
    one = parse_name("sub-01_task-film_run-01_hemi-L_space-fsaverage5_bold.func.gii")
    other = parse_name("sub-01_space-fsaverage5_hemi-L_run-1_task-film_bold.func.gii")
    assert one is not None
    assert other is not None
    assert one.without() == other.without()
    for name in ("seg1_1_Atlas.dtseries.nii", "sub-01_sub-02_bold.nii", "README", "sub-01_.nii"):
        assert parse_name(name) is None


@pytest.mark.parametrize("order", ["hemi-{}_space-fsaverage5", "space-fsaverage5_hemi-{}"])
def test_hemispheres_are_paired_whatever_the_order_of_their_names(
    tree: BidsTree, order: str
) -> None:
    """Nilearn #3817, in a tree: both orders, and runs with and without padding beside them."""
    for run in ("story_run-01", "test_run-1"):
        for side in "RL":
            tree.empty(f"sub-01_task-{run}_{order.format(side)}_{GIFTI}")
    tree.films("story.mp4", "test.mp4")
    rows = tree.table()
    assert [[path.name.split("hemi-")[1][0] for path in row.files] for row in rows] == [
        ["L", "R"],
        ["L", "R"],
    ]
    assert all(row.tr_s is None for row in rows), "GIFTI has no TR (#2193)"


def test_a_missing_hemisphere_is_refused(tree: BidsTree) -> None:
    for name in ("story_hemi-L", "story_hemi-R", "test_hemi-L"):
        tree.empty(f"sub-01_task-{name}_space-fsaverage5_{GIFTI}")
    tree.films("story.mp4", "test.mp4")
    said = refused(tree)
    assert "task-test_hemi-L_space-fsaverage5_bold.func.gii has no file of the other" in said
    assert "(hemi-R)" in said


def test_the_same_run_with_and_without_padding_is_refused(tree: BidsTree) -> None:
    two_tasks(tree, cifti("sub-01_task-story_run-1"), cifti("sub-01_task-story_run-01"))
    assert "the same run exists twice" in refused(tree)


def test_raw_runs_references_and_single_echoes_are_no_runs(tree: BidsTree) -> None:
    """The names of fMRIPrep's own lists (ds005, ds054, ds210): echoes beside their combination."""
    two_tasks(
        tree,
        "sub-01_task-story_echo-1_desc-preproc_bold.nii.gz",
        "sub-01_task-story_space-MNI152NLin2009cAsym_boldref.nii.gz",
        "sub-01_task-story_desc-hmc_boldref.nii.gz",
        "sub-01_task-story_space-fsLR_den-91k_bold.json",
    )
    (tree.func("sub-01", raw=True) / "sub-01_task-story_bold.nii.gz").touch()
    rows = tree.table(dataset=tree.raw)
    assert [row.files[0].name for row in rows] == [
        cifti("sub-01_task-story"),
        cifti("sub-01_task-test"),
    ]


def test_the_lists_of_fmriprep_itself_are_recognized(shared: Path, tmp_path: Path) -> None:
    counts = {}
    for listed in sorted((shared / "data" / "trees").glob("fmriprep_*_outputs.txt.gz")):
        root = tmp_path / listed.name.split("_")[1]
        for name in gzip.decompress(listed.read_bytes()).decode().split():
            path = root / name
            if "." in path.name[1:]:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        found = recognize(walk(root))
        assert found.reader.name == "fmriprep"
        counts[root.name] = int(found.reason.split()[0])
    # Two runs: two meshes and two hemispheres; two spaces and native; one run in MNI space.
    assert counts == {"ds005": 8, "ds054": 6, "ds210": 1}


def test_a_folder_of_something_else_is_not_recognized(tmp_path: Path) -> None:
    for name in ("sub-01/func/sub-01_task-x_bold.nii.gz", "sub-01/anat/sub-01_T1w.nii.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert Fmriprep().recognizes(walk(tmp_path)) == ""


# --- subjects, sessions, several derivatives ---------------------------------------------------


def test_labels_with_zeros_sessions_and_numbers_sort_as_people_do(tree: BidsTree) -> None:
    tree.films("story.mp4", "test.mp4")
    for session in ("10", "2", "b1"):
        tree.empty(cifti(f"sub-0003_ses-{session}_task-story"))
    tree.empty(cifti("sub-0003_ses-2_task-test"), cifti("sub-30_ses-2_task-story"))
    rows = tree.table("3")
    assert [(row.session, row.split, row.repetition) for row in rows] == [
        ("2", "train", 1),
        ("2", "test", 1),
        ("10", "train", 2),
        ("b1", "train", 3),
    ]
    assert {row.subject for row in rows} == {"0003"}
    assert "subjects found: 0003, 30" in refused(tree, "4")


def test_sessions_and_tasks_can_be_chosen(tree: BidsTree) -> None:
    tree.films("story.mp4", "test.mp4", "other.mp4")
    for session in ("1", "2"):
        for task in ("story", "test", "other"):
            tree.empty(cifti(f"sub-01_ses-{session}_task-{task}"))
    rows = tree.table(task="story, test", session="2")
    assert [(row.session, row.film.stem) for row in rows] == [("2", "story"), ("2", "test")]
    assert "tasks are other, story, test, sessions 1, 2" in refused(tree, task="movie")


def test_two_derivatives_of_a_subject_are_refused_unless_one_is_fmripreps(tree: BidsTree) -> None:
    two_tasks(tree)
    other = tree.raw / "derivatives" / "xcp_d" / "sub-01" / "func"
    other.mkdir(parents=True)
    (other / "sub-01_task-story_space-fsLR_den-91k_desc-denoised_bold.dtseries.nii").touch()
    assert len(tree.table(dataset=tree.raw)) == 2
    again = tree.raw / "derivatives" / "fmriprep-23" / "sub-01" / "func"
    again.mkdir(parents=True)
    (again / cifti("sub-01_task-story")).touch()
    assert "preprocessed more than once" in refused(tree, dataset=tree.raw)


# --- spaces ------------------------------------------------------------------------------------

SPACES = (
    f"space-fsLR_den-91k_{CIFTI}",
    f"space-fsLR_den-170k_{CIFTI}",
    f"hemi-L_space-fsaverage6_{GIFTI}",
    f"hemi-L_space-fsaverage5_{GIFTI}",
    f"hemi-L_space-fsaverage_{GIFTI}",
    f"hemi-L_space-fsnative_{GIFTI}",
    f"space-MNI152NLin2009cAsym_{NIFTI}",
    f"space-MNI152NLin6Asym_res-2_{NIFTI}",
    f"space-T1w_{NIFTI}",
    NIFTI,
)


@pytest.mark.parametrize("first", range(len(SPACES)))
def test_the_preferred_space_is_the_first_of_the_stated_order(tree: BidsTree, first: int) -> None:
    tree.films("story.mp4", "test.mp4")
    for space in reversed(SPACES[first:]):
        for task in ("story", "test"):
            tree.empty(f"sub-01_task-{task}_{space}")
            tree.empty(f"sub-01_task-{task}_{space.replace('hemi-L', 'hemi-R')}")
            mask = space.replace("desc-preproc_bold", "desc-brain_mask")
            tree.empty(f"sub-01_task-{task}_{mask}")
    rows, said = tree.told()
    assert rows[0].files[0].name == f"sub-01_task-story_{SPACES[first]}"
    assert "2 runs are read in " in said


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("fsLR", SPACES[0]),
        ("fsLR:den-170k", SPACES[1]),
        ("fsLR_den-170k", SPACES[1]),
        ("fsaverage5", SPACES[3]),
        ("MNI152NLin6Asym:res-2", SPACES[7]),
        ("t1w", SPACES[8]),
        ("func", SPACES[9]),
        ("fsLR:desc-denoised", "space-fsLR_den-91k_desc-denoised_bold.dtseries.nii"),
    ],
)
def test_a_space_can_be_named_as_fmriprep_names_it(tree: BidsTree, wanted: str, name: str) -> None:
    tree.films("story.mp4", "test.mp4")
    for space in (*SPACES, name):
        for task in ("story", "test"):
            tree.empty(f"sub-01_task-{task}_{space}")
            tree.empty(f"sub-01_task-{task}_{space.replace('hemi-L', 'hemi-R')}")
            mask = space.replace("desc-preproc_bold", "desc-brain_mask")
            tree.empty(f"sub-01_task-{task}_{mask}")
    assert tree.table(space=wanted)[0].files[0].name == f"sub-01_task-story_{name}"
    said = refused(tree, space="fsaverage4")
    assert "set data.space to one of space-fsLR_den-91k (CIFTI) for 2 runs" in said


def test_runs_of_different_grayordinate_spaces_are_refused(tree: BidsTree) -> None:
    tree.empty(cifti("sub-01_task-story"), cifti("sub-01_task-test", "170k"))
    tree.films("story.mp4", "test.mp4")
    said = refused(tree)
    assert "no space in common: space-fsLR_den-91k (CIFTI) for 1 runs" in said
    assert "sub-01_task-test lacks space-fsLR_den-91k" in said


def test_a_space_that_every_run_has_is_taken_before_a_preferred_one(tree: BidsTree) -> None:
    tree.films("story.mp4", "test.mp4")
    tree.empty(cifti("sub-01_task-story"))
    for task in ("story", "test"):
        tree.empty(f"sub-01_task-{task}_space-T1w_{NIFTI}")
        tree.empty(f"sub-01_task-{task}_space-T1w_desc-brain_mask.nii.gz")
    assert {row.files[0].name.split("_")[2] for row in tree.table()} == {"space-T1w"}


def test_a_brain_mask_goes_with_its_space_and_others_are_listed(tree: BidsTree) -> None:
    """Neuroai #219: a mask's path was rewritten to one that does not exist."""
    tree.films("story.mp4", "test.mp4")
    for task in ("story", "test"):
        tree.empty(f"sub-01_task-{task}_space-T1w_{NIFTI}")
        tree.empty(f"sub-01_task-{task}_desc-brain_mask.nii.gz")
        tree.empty(f"sub-01_task-{task}_space-MNI152NLin2009cAsym_desc-brain_mask.nii.gz")
    said = refused(tree)
    assert "no brain mask of the same space" in said
    assert "masks found: sub-01_task-story_desc-brain_mask.nii.gz" in said
    assert {row.mask for row in tree.table(volumetric=True)} == {None}, "the user's mask is taken"
    for task in ("story", "test"):
        tree.empty(f"sub-01_task-{task}_space-T1w_desc-brain_mask.nii.gz")
    masks = [row.mask for row in tree.table()]
    assert all(mask is not None and "space-T1w" in mask.name for mask in masks)


# --- the TR ------------------------------------------------------------------------------------


def test_the_tr_is_that_of_the_nearest_sidecar(tree: BidsTree) -> None:
    two_tasks(tree)
    tree.sidecar(tree.raw / "task-test_bold.json", RepetitionTime=1.1)
    tree.sidecar(tree.root / "task-story_bold.json", RepetitionTime=2.0)
    assert [row.tr_s for row in tree.table()] == [2.0, 1.1], "files higher in the tree apply too"
    own = tree.func("sub-01") / cifti("sub-01_task-story").replace(".dtseries.nii", ".json")
    tree.sidecar(own, RepetitionTime=1.49)
    rows, said = tree.told()
    assert [row.tr_s for row in rows] == [1.49, 1.1]
    assert f"1 runs have a TR of 1.49 s by sidecars such as {own}" in said


def test_ciftis_without_a_tr_take_it_from_another_copy_of_the_run(tree: BidsTree) -> None:
    """fMRIPrep #2193; both sidecars of a CIFTI as CNeuroMod has them."""
    two_tasks(tree, f"sub-01_task-story_space-T1w_{NIFTI}")
    folder = tree.func("sub-01")
    tree.sidecar(folder / "sub-01_task-story_space-fsLR_den-91k_bold.json", TaskName="x")
    tree.sidecar(
        folder / "sub-01_task-story_space-fsLR_den-91k_bold.dtseries.json", grayordinates="91k"
    )
    tree.sidecar(folder / "sub-01_task-story_space-T1w_desc-preproc_bold.json", RepetitionTime=1.49)
    rows, said = tree.told()
    assert [row.tr_s for row in rows] == [1.49, None]
    assert "no sidecar states a RepetitionTime" in said


def test_sidecars_of_other_runs_do_not_apply(tmp_path: Path) -> None:
    run = tmp_path / "sub-01" / "func" / "sub-01_task-film_run-02_bold.nii.gz"
    run.parent.mkdir(parents=True)
    for name, value in (
        ("sub-01/func/sub-01_task-film_run-1_bold.json", 9.0),
        ("sub-01/func/sub-01_task-film_run-2_sbref.json", 8.0),
        ("task-other_bold.json", 7.0),
        ("task-film_bold.json", 1.0),
    ):
        (tmp_path / name).write_text(json.dumps({"RepetitionTime": value}), "utf-8")
    assert Inherited(tmp_path).value(run, "RepetitionTime") == (
        1.0,
        tmp_path / "task-film_bold.json",
    )
    (tmp_path / "sub-01" / "sub-01_run-2_bold.json").write_text('{"RepetitionTime": 2}', "utf-8")
    found = Inherited(tmp_path).value(run, "RepetitionTime")
    assert found is not None
    assert found[0] == 2


@pytest.mark.parametrize("value", [1490, 0, "2.0", None, True])
def test_a_tr_in_milliseconds_or_none_is_refused(tree: BidsTree, value: Any) -> None:
    two_tasks(tree)
    tree.sidecar(tree.root / "task-story_bold.json", RepetitionTime=value)
    assert "BIDS wants seconds above 0" in refused(tree)


def test_a_sidecar_that_is_broken_or_not_fetched_is_refused(tree: BidsTree) -> None:
    two_tasks(tree)
    path = tree.root / "task-story_bold.json"
    path.write_text("{", "utf-8")
    assert "is not valid JSON" in refused(tree)
    path.unlink()
    path.symlink_to(".git/annex/objects/x/y")
    assert "run `datalad get task-story_bold.json`" in refused(tree)


# --- films -------------------------------------------------------------------------------------


def test_events_lie_in_the_raw_tree_and_name_films_and_times(tree: BidsTree) -> None:
    stem = "sub-01_task-watch"
    tree.empty(cifti(f"{stem}_run-01"), cifti(f"{stem}_run-02"))
    tree.films("clips/a.mp4", "clips/b.mp4", "test1.mp4")
    fixation = {"onset": 0, "duration": 4, "stim_file": "n/a"}
    tree.events(
        f"{stem}_run-1_events.tsv",
        [fixation, *film_rows((24, 10.02, "clips/b.mp4"), (4.5, 10.0, "clips/a.mp4"))],
    )
    tree.events(
        f"{stem}_run-2_events.tsv",
        film_rows((4, 9.98, "clips/b.mp4"), (20, "n/a", "test1.mp4"), (60, 20, "test1.mp4")),
    )
    rows, said = tree.told()
    assert stretches(rows) == [
        ("a.mp4", "train", 1, 4.5, 10.0),
        ("b.mp4", "train", 1, 24.0, 9.98),
        ("b.mp4", "train", 2, 4.0, 9.98),
        ("test1.mp4", "test", 1, 20.0, None),
        ("test1.mp4", "test", 2, 60.0, 20.0),
    ]
    assert "stim_file in events.tsv (2 runs)" in said
    assert "1 films are for testing since the film or its folder is called test" in said


def test_events_are_inherited_and_a_film_may_begin_before_the_scan(tree: BidsTree) -> None:
    two_tasks(tree)
    rows = [
        {"onset": -3, "duration": 30, "stim_file": "story.mp4", "film_start_s": 60},
        {"onset": 40, "duration": 30, "stim_file": "stimuli/story.mp4", "film_start_s": 100},
    ]
    tree.events("task-story_events.tsv", rows)
    tree.events("sub-01_task-test_events.tsv", film_rows((2, 20, "elsewhere/TEST.mp4")))
    found = tree.table()
    assert [(r.film_start_s, r.scan_start_s, r.duration_s) for r in found] == [
        (63.0, 0.0, 27.0),
        (100.0, 40.0, 30.0),
        (0.0, 2.0, 20.0),
    ]
    assert found[2].film.name == "test.mp4"


def test_a_film_that_events_name_and_that_is_not_there_is_refused(tree: BidsTree) -> None:
    two_tasks(tree)
    events = tree.events("sub-01_task-story_events.tsv", film_rows((0, 9, "gone.mp4")))
    assert f"{events}, line 2 names the film gone.mp4, which does not exist" in refused(tree)
    tree.events("sub-01_task-story_events.tsv", film_rows((0, 9, "../../secret.mp4")))
    assert "outside stimuli/" in refused(tree)
    tree.films("one/same.mp4", "two/same.mp4")
    tree.events("sub-01_task-story_events.tsv", film_rows((0, 9, "three/same.mp4")))
    assert "2 films have that name" in refused(tree)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"onset": "n/a", "duration": 3, "stim_file": "story.mp4"}], "has onset 'n/a'"),
        ([{"onset": 3, "duration": 0, "stim_file": "story.mp4"}], "write seconds above 0"),
        ([{"onset": 3, "duration": "nan", "stim_file": "story.mp4"}], "has duration 'nan'"),
        ([{"onset": 3, "stim_file": "story.mp4"}], "lacks the column 'duration'"),
        (
            [{"onset": n, "duration": 1, "trial_type": "film"} for n in (1, 9)],
            "has 2 events and no film",
        ),
    ],
)
def test_events_that_say_no_time_or_no_film_are_refused(
    tree: BidsTree, rows: list[dict[str, Any]], words: str
) -> None:
    two_tasks(tree)
    tree.events("sub-01_task-story_events.tsv", rows)
    assert words in refused(tree)


def test_the_films_of_tasks_begin_with_the_first_volume_or_the_only_event(tree: BidsTree) -> None:
    """CNeuroMod: the task's label is part of the film's name."""
    tree.empty(*(cifti(f"sub-01_ses-001_task-{t}") for t in ("s01e02a", "s01e02b", "s06e01a")))
    tree.films("friends/friends_s01e02a.mkv", "friends/S01E02b.mkv", "friends/friends_s06e01a.mkv")
    tree.films("friends/friends_s11e02a.mkv")
    tree.events(
        "sub-01_ses-001_task-s01e02b_events.tsv",
        [{"onset": 9, "duration": 600, "trial_type": "film"}],
    )
    rows, said = tree.told(test_films=("*s06*",))
    assert stretches(rows) == [
        ("friends_s01e02a.mkv", "train", 1, 0.0, None),
        ("S01E02b.mkv", "train", 1, 9.0, 600.0),
        ("friends_s06e01a.mkv", "test", 1, 0.0, None),
    ]
    assert "taken to begin with its first volume (2 runs)" in said
    assert "data.test_films names them (*s06*)" in said


def test_a_task_without_film_is_refused_and_rest_is_left_out(tree: BidsTree) -> None:
    two_tasks(tree, cifti("sub-01_task-rest"))
    rows, said = tree.told()
    assert len(rows) == 2
    assert "task-rest shows no film and is left out (1 runs)" in said
    tree.empty(cifti("sub-01_task-nback"))
    text = refused(tree)
    assert "sub-01_task-nback has no film" in text
    assert "films found: story.mp4, test.mp4" in text
    tree.films("a_story.mp4", "b-story.mp4")
    assert len(tree.table(task="story,test")) == 2, "an exact name is taken before a longer one"
    (tree.raw / "stimuli" / "story.mp4").unlink()
    assert "several films are named after task-story" in refused(tree, task="story,test")


def test_films_and_the_raw_tree_may_lie_elsewhere(tree: BidsTree, tmp_path: Path) -> None:
    two_tasks(tree)
    elsewhere = tmp_path / "study" / "elsewhere"
    (tree.raw / "stimuli").rename(elsewhere)
    assert "no film is in" in refused(tree)
    assert len(tree.table(films=elsewhere)) == 2
    raw = BidsTree(tmp_path / "raw tree")
    raw.events("sub-01_task-story_events.tsv", film_rows((7, 20, "story.mp4")))
    assert tree.table(films=elsewhere, raw=raw.raw)[0].scan_start_s == 7


# --- splits ------------------------------------------------------------------------------------


def test_test_films_are_never_guessed(tree: BidsTree) -> None:
    tree.empty(*(cifti(f"sub-01_task-{task}") for task in ("one", "two", "testimony")))
    tree.films("one.mp4", "two.mp4", "testimony.mp4")
    said = refused(tree)
    assert "name them with data.test_films" in said
    assert "one.mp4 (1x)" in said
    assert [row.split for row in tree.table(test_films=("two",))] == ["train", "train", "test"]
    assert "leaves no film for training or none for testing" in refused(tree, test_films=("six",))


# --- confounds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["timeseries", "regressors"])
def test_confounds_are_found_without_space_and_under_both_names(
    tree: BidsTree, suffix: str
) -> None:
    """SIMEXP/load_confounds #69; confounds_regressors before fMRIPrep 20.2."""
    tree.films("story.mp4", "test.mp4")
    for side in "LR":
        tree.empty(f"sub-01_task-story_run-01_hemi-{side}_space-fsaverage5_{GIFTI}")
        tree.empty(f"sub-01_task-test_hemi-{side}_space-fsaverage5_{GIFTI}")
    wanted = tree.empty(
        f"sub-01_task-story_run-1_desc-confounds_{suffix}.tsv",
        f"sub-01_task-test_desc-confounds_{suffix}.tsv",
        f"sub-01_task-story_run-02_desc-confounds_{suffix}.tsv",
    )
    assert [row.confounds for row in tree.table(confounds="simple")] == wanted[:2]


def test_missing_and_doubtful_confounds_are_refused_where_they_are_needed(tree: BidsTree) -> None:
    two_tasks(tree)
    assert [row.confounds for row in tree.table()] == [None, None]
    said = refused(tree, confounds="simple")
    assert "sub-01_task-story has no sub-01_task-story_desc-confounds_timeseries.tsv" in said
    both = tree.empty(
        "sub-01_task-story_desc-confounds_regressors.tsv",
        "sub-01_task-story_desc-confounds_timeseries.tsv",
    )
    assert tree.table()[0].confounds == both[1], "the newer name of fMRIPrep is taken"
    tree.empty("sub-01_desc-confounds_task-story_timeseries.tsv")
    assert "several tables of confounds" in refused(tree)


def test_films_that_begin_before_the_steady_state_are_told_of(tree: BidsTree) -> None:
    """Dummy scans stay in the files; onsets of events count from the first volume."""
    two_tasks(tree)
    tree.sidecar(tree.root / "task-story_bold.json", RepetitionTime=1.5)
    table = tree.func("sub-01") / "sub-01_task-story_desc-confounds_timeseries.tsv"
    table.write_text("csf\tnon_steady_state_outlier00\tnon_steady_state_outlier01\n1\t1\t0\n")
    said = tree.told()[1]
    assert "1 films begin before the steady state, such as story.mp4" in said
    assert "whose first 2 volumes" in said
    tree.events("sub-01_task-story_events.tsv", film_rows((3.0, 20, "story.mp4")))
    rows, said = tree.told()
    assert "steady state" not in said
    assert rows[0].scan_start_s == 3.0, "no volume is taken off"


# --- content that was not fetched ----------------------------------------------------------------


def test_links_without_content_become_one_sentence(tree: BidsTree) -> None:
    tree.films("story.mp4", "test.mp4")
    tree.absent(*(cifti(f"sub-01_ses-01_task-{task}") for task in ("story", "test")))
    said = refused(tree)
    assert "the 2 runs of sub-01 in space-fsLR_den-91k (CIFTI) were not fetched" in said
    assert "`datalad get sub-01/ses-*/func/*space-fsLR_den-91k_bold.dtseries.nii`" in said
    for task in ("story", "test"):
        tree.empty(f"sub-01_ses-01_task-{task}_space-T1w_{NIFTI}")
        tree.empty(f"sub-01_ses-01_task-{task}_space-T1w_desc-brain_mask.nii.gz")
    rows = tree.table()
    assert "space-T1w" in rows[0].files[0].name, "copies that are there are taken"


def test_runs_that_were_not_fetched_are_left_out_aloud(tree: BidsTree) -> None:
    two_tasks(tree)
    tree.absent(cifti("sub-01_task-more"))
    rows, said = tree.told()
    assert len(rows) == 2
    assert "1 of 3 runs are left out since they were not fetched: sub-01_task-more" in said
    (tree.raw / "stimuli" / "test.mp4").unlink()
    (tree.raw / "stimuli" / "test.mp4").symlink_to("../.git/annex/objects/x/y.mp4")
    assert "run `datalad get test.mp4`" in refused(tree)


def test_confounds_that_were_not_fetched_matter_only_with_a_strategy(tree: BidsTree) -> None:
    two_tasks(tree)
    tables = [f"sub-01_task-{task}_desc-confounds_timeseries.tsv" for task in ("story", "test")]
    tree.absent(*tables)
    assert [row.confounds for row in tree.table()] == [None, None]
    assert "sub-01/func/*desc-confounds_*.tsv` (or" in refused(tree, confounds="simple")


# --- any spelling --------------------------------------------------------------------------------


def spelled(rng: random.Random, pairs: list[tuple[str, str]], ending: str) -> str:
    """Return a name with the entities after the subject in any order, and any padding of runs."""
    rest = [
        (key, value.zfill(rng.randint(1, 3)) if key == "run" else value) for key, value in pairs
    ]
    rng.shuffle(rest)
    return "_".join(["sub-01", *(f"{key}-{value}" for key, value in rest), ending])


@pytest.mark.parametrize("seed", range(20))
def test_any_spelling_of_a_study_gives_its_table(tmp_path: Path, seed: int) -> None:
    """Random studies: sessions or none, runs or none, spaces, junk; the table is known before."""
    rng = random.Random(seed)
    tree = BidsTree(tmp_path / "study")
    tree.films(*(f"film{n}.mp4" for n in range(3)), "test.mp4")
    space = rng.choice(SPACES[:6])
    sessions = rng.choice([[""], ["1", "2", "10"], ["a", "b"]])
    wanted = []
    for session in sessions:
        for number in range(1, rng.randint(2, 4)):
            run = rng.choice([[], [("acq", "fast")]]) + [("task", "watch"), ("run", str(number))]
            own = ([("ses", session)] if session else []) + run
            folder = "sub-01" + (f"_ses-{session}" if session else "")
            films = [*rng.sample(["film0", "film1", "film2"], rng.randint(1, 3)), "test"]
            step = rng.choice([0.8, 1.49, 2.0])
            where = tree.func(folder)
            *entities, ending = space.split("_")
            output = [tuple(part.split("-", 1)) for part in entities]
            sides = "LR" if "hemi-L" in space else "-"
            names = []
            for side in sides:
                more = [(k, side if k == "hemi" else v) for k, v in output]
                names.append(spelled(rng, own + more, ending))
                (where / names[-1]).touch()
            for junk in ("desc-coreg_boldref.nii.gz", "from-T1w_to-boldref_xfm.txt"):
                (where / spelled(rng, own, junk)).touch()
            sidecar = spelled(rng, own + [("space", "T1w")], "desc-preproc_bold.json")
            tree.sidecar(where / sidecar, RepetitionTime=step)
            (where / spelled(rng, [*own, ("space", "T1w")], NIFTI)).touch()
            table = spelled(rng, own, f"desc-confounds_{rng.choice(['timeseries', 'regressors'])}")
            (where / f"{table}.tsv").touch()
            starts = [round(10.5 * place + rng.random(), 3) for place in range(len(films))]
            shown = [
                (start, 10.0, f"{film}.mp4") for start, film in zip(starts, films, strict=True)
            ]
            rng.shuffle(shown)
            raw = tree.func(folder, raw=True)
            events = raw / spelled(rng, own, "events.tsv")
            lines = ["onset\tduration\tstim_file", *("\t".join(map(str, row)) for row in shown)]
            events.write_text("\n".join(lines), "utf-8")
            for start, _, film in sorted(shown):
                wanted.append((session, tuple(names), film, start, step, f"{table}.tsv"))
    found = tree.table(test_films=("test",))
    assert [
        (
            row.session,
            tuple(path.name for path in row.files),
            row.film.name,
            row.scan_start_s,
            row.tr_s,
            row.confounds.name if row.confounds else "",
        )
        for row in found
    ] == wanted
    counted: dict[str, int] = {}
    for row in found:
        counted[row.film.name] = counted.get(row.film.name, 0) + 1
        assert row.repetition == counted[row.film.name]
        assert row.split == ("test" if row.film.name == "test.mp4" else "train")


# --- size --------------------------------------------------------------------------------------


def test_the_friends_tree_becomes_a_run_table_or_a_sentence(shared: Path, tmp_path: Path) -> None:
    """The runs of one subject of CNeuroMod's Friends; the whole tree is timed in benchmarks."""
    listed = shared / "data" / "trees" / "friends.fmriprep.tsv.gz"
    lines = gzip.decompress(listed.read_bytes()).decode().splitlines()
    own = [line.split("\t") for line in lines if "\tsub-01/" in line and "/func/" in line]
    root, films = tmp_path / "friends.fmriprep", tmp_path / "friends.stimuli"
    films.mkdir()
    for kind, name in own:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "link":
            path.symlink_to(ANNEX)
        else:
            path.write_text("{}", "utf-8")
    options = ReaderOptions(films=films, test_films=("*s06*",))
    with pytest.raises(UserError, match="the 292 runs of sub-01 in space-fsLR_den-91k") as caught:
        Fmriprep().run_table(walk(root), "1", options)
    assert "datalad get sub-01/ses-*/func/*space-fsLR_den-91k_bold.dtseries.nii" in str(
        caught.value
    )
    wanted = [name for _, name in own if name.endswith("dtseries.nii")]
    for name in wanted:
        (root / name).unlink()
        (root / name).touch()
        (films / f"friends_{name.split('task-')[1].split('_')[0]}.mkv").touch()
    rows = Fmriprep().run_table(walk(root), "1", options)
    assert sorted(str(row.files[0].relative_to(root)) for row in rows) == sorted(wanted)
    for row in rows:
        name = row.files[0].name
        task = name.split("task-")[1].split("_")[0]
        assert row.film.name == f"friends_{task}.mkv"
        assert row.split == ("test" if task.startswith("s06") else "train")
        assert row.session == name.split("_ses-")[1].split("_")[0]


def test_the_reader_is_registered() -> None:
    assert "fmriprep" in [reader.name for reader in READERS]
