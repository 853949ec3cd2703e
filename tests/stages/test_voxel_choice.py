"""data.selection: voxels chosen without repetitions of all films, against the simulated brain."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.simulation_world import CORTEX, copy_of, settings_for, simulated

from neuroclips_cli.errors import UserError
from neuroclips_cli.stages import preprocess
from neuroclips_cli.stages._voxel_choice import Candidates, TrainingFilm, choose_voxels


def _selection(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "selection.npz", allow_pickle=False) as found:
        return dict(found)


def _truth() -> dict[str, np.ndarray]:
    with np.load(simulated() / "subject1" / "ground_truth.npz", allow_pickle=False) as truth:
        return dict(truth)


@pytest.fixture
def dataset(tmp_path):
    return copy_of(simulated(), tmp_path / "dataset")


def _once(root: Path) -> Path:
    """Write a run table in which every training film was seen once, but the first one."""
    lines = ["subject\tfile\tfilm\tscan_start_s\tduration_s\tsplit\trepetition"]
    for path in sorted((root / "subject1" / "fmri").rglob("*.dtseries.nii")):
        film, repetition = path.name.split("_")[:2]
        if film.startswith("seg") and repetition == "2" and film != "seg1":
            continue
        train = film.startswith("seg")
        start, clips = (2 if train or film == "test1" else 4), (14 if train else 8)
        split = "train" if train else "test"
        row = [1, path, root / "stimuli" / f"{film}.mp4", start, 2 * clips, split, repetition]
        lines.append("\t".join(map(str, row)))
    (root / "runs.tsv").write_text("\n".join(lines) + "\n")
    return root / "runs.tsv"


def _run(root: Path, tmp_path: Path, **changes: object) -> Path:
    return preprocess.run(settings_for(root, tmp_path / "runs", **changes))


def test_an_atlas_selects_every_voxel_that_carries_a_signal(dataset, tmp_path):
    folder = _run(dataset, tmp_path, data__selection="atlas", data__runs=str(_once(dataset)))
    found = _selection(folder)
    assert found["selected"].sum() == CORTEX - found["excluded"].sum() > 0.9 * CORTEX
    assert not found["t"].any() and (found["p"] == 1).all()
    assert np.load(folder / "fmri_train.npy", mmap_mode="r").shape[2] == found["selected"].sum()


def test_films_seen_twice_are_enough_for_reliability(dataset, tmp_path):
    table = str(_once(dataset))
    folder = _run(dataset, tmp_path, data__selection="test-reliability", data__runs=table)
    found, truth = _selection(folder), _truth()
    files = [
        dataset / "subject1" / "fmri" / "seg1" / "cifti" / f"seg1_{r}_Atlas.dtseries.nii"
        for r in (1, 2)
    ]
    series = [np.asarray(nib.load(f).dataobj, float)[3:17, found["columns"]] for f in files]
    times = np.arange(14)
    left = [
        s - np.array([np.polyval(np.polyfit(times, c, 2), times) for c in s.T]).T for s in series
    ]
    for voxel in np.flatnonzero(~found["excluded"])[::37]:
        r = np.corrcoef(left[0][:, voxel], left[1][:, voxel])[0, 1]
        assert np.isclose(found["mean_z"][voxel], np.arctanh(r), atol=1e-4)
    t = found["t"]
    assert np.mean(t[truth["responding"]]) > 1 and abs(np.mean(t[~truth["responding"]])) < 0.2
    with pytest.raises(UserError, match="0 training films were seen at least twice|seen at least"):
        _run(dataset, tmp_path / "b", data__runs=table)


def test_an_encoding_model_finds_voxels_of_early_areas(dataset, tmp_path):
    folder = _run(
        dataset,
        tmp_path,
        data__selection="encoding",
        data__runs=str(_once(dataset)),
    )
    found, truth = _selection(folder), _truth()
    t = found["t"]
    early = truth["area"] == "early"
    # Twelve standard errors of a mean of 1600 normal statistics; 112 clips allow for little more.
    assert np.mean(t[early]) > np.mean(t[~truth["responding"]]) + 0.3
    assert abs(np.mean(t[~truth["responding"]])) < 0.25
    assert np.load(folder / "frames_train.npy", mmap_mode="r").shape[0] == 112


def test_other_subjects_tell_which_voxels_follow_the_film(dataset, tmp_path):
    shutil.copytree(dataset / "subject1", dataset / "subject2")
    rng = np.random.default_rng(0)
    for path in (dataset / "subject2").rglob("*.dtseries.nii"):
        image = nib.load(path)
        data = np.asarray(image.dataobj)
        noise = rng.normal(size=data.shape) * data.std(axis=0)
        other = nib.cifti2.Cifti2Image((data + noise).astype(np.float32), image.header)
        path.unlink()
        other.to_filename(path)
    options = {"data__selection": "intersubject", "data__other_subjects": (2,)}
    folder = _run(dataset, tmp_path, **options)
    found, truth = _selection(folder), _truth()
    assert np.mean(found["t"][truth["responding"]]) > 2
    record = json.loads((folder / "manifest.json").read_text())
    assert "sub-2_seg1_1" in record["inputs"]


def test_noise_in_every_run_selects_nothing(dataset, tmp_path):
    rng = np.random.default_rng(1)
    for path in (dataset / "subject1").rglob("*.dtseries.nii"):
        image = nib.load(path)
        noise = 1000 + rng.normal(size=image.shape)
        other = nib.cifti2.Cifti2Image(noise.astype(np.float32), image.header)
        path.unlink()
        other.to_filename(path)
    strict = {"data__selection_p": 0.05}
    for how, words in (("test-reliability", "answers reproducibly"), ("encoding", "follows the")):
        try:
            folder = _run(dataset, tmp_path / how, data__selection=how, **strict)
        except UserError as error:
            assert words in str(error)
        else:
            assert _selection(folder)["selected"].sum() <= 1


@pytest.mark.parametrize("others", [(), (1,), (2, 1)])
def test_intersubject_needs_others(dataset, tmp_path, others):
    with pytest.raises(UserError, match="compares subject 1 with others: name them"):
        _run(dataset, tmp_path, data__selection="intersubject", data__other_subjects=others)


@pytest.mark.parametrize("clips", [1, 3])
def test_trials_of_a_few_clips_are_too_short_for_an_encoding_model(clips):
    frames = np.zeros((clips, 6, 8, 8, 3), np.uint8)
    films = [TrainingFilm(f"trial{n}", 1, iter, lambda: frames, iter) for n in (1, 2)]
    among = Candidates(np.ones(5, bool), np.ones(5, bool), None, 0.05, 4)
    with pytest.raises(UserError, match=f"trial1 has {clips} clips, too few"):
        choose_voxels("encoding", films, among)
