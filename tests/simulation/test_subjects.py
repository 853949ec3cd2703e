"""How simulated subjects differ, and that the first one stays what it was."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.simulation_world import copy_of, settings_for

from neuroclips_cli.data.layout import find_layout
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.load import replace_settings
from neuroclips_cli.simulation.attributes import Drive
from neuroclips_cli.simulation.features import CHANNELS, GRID
from neuroclips_cli.simulation.scanner import FilmFeatures, Subject, scale_of
from neuroclips_cli.simulation.subjects import viewers
from neuroclips_cli.stages import preprocess, simulate
from neuroclips_cli.stages._training_data import training_clips

CORTEX = 400
RESPONDING = [4, 5, 7, 9, 11, 13, 17, 23]
VALUES = [10121.4384765625, 10592.408203125, 11907.353515625]
CEILING_SUM, LOADING_SUM = 78.48789339987849, 61.007517399601056
"""Of subject 1, recorded at 8dce6f7, before subjects had anything in common."""


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    groups = (("kind", slice(0, 3), 0.6), ("setting", slice(3, 6), 0.4))
    return {
        film: FilmFeatures(
            rng.standard_normal((64, len(CHANNELS), GRID * GRID), np.float32),
            Drive(rng.standard_normal((64, 6)).astype(np.float32), groups),
        )
        for film in ("seg1", "seg2", "test1")
    }


@pytest.fixture
def subject(features, tmp_path):
    """Return the subject of a number, with settings of the simulation to change."""
    settings = settings_for(tmp_path, tmp_path, data__detrend_order=1)

    def make(number: int, **changes: float) -> Subject:
        changed = replace(settings.simulate, **changes)
        cortex = np.ones(CORTEX, bool)
        return Subject(number, 0, cortex, features, scale_of(features), changed, settings.data)

    return make


def test_the_first_subject_stays_what_it_was(subject):
    first = subject(1, shared_noise=0.0)
    truth, run = first.ground_truth(), first.run("seg1", 1)
    assert np.flatnonzero(truth["responding"])[:8].tolist() == RESPONDING
    np.testing.assert_allclose(run[[0, 5, 20], [0, 7, 399]], VALUES, rtol=1e-6)
    np.testing.assert_allclose(truth["noise_ceiling"].sum(), CEILING_SUM, rtol=1e-6)
    np.testing.assert_allclose(truth["channel_loadings"].sum(dtype=float), LOADING_SUM, rtol=1e-5)


def test_the_first_subject_does_not_depend_on_how_the_others_differ(subject):
    other = subject(
        1,
        shared_topography=1.0,
        tuning_difference=0.9,
        gain_spread=2.0,
        noise_spread=2.0,
        seen_by_all=0.1,
        subjects=4,
    )
    assert np.array_equal(other.run("seg2", 2), subject(1).run("seg2", 2))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_asked_share_of_vertices_is_common_to_all(subject, share):
    """A vertex in common responds to the same in every brain; the others lie where they like."""
    brains = [subject(n, shared_topography=share, tuning_difference=0.0).brain for n in (1, 2, 3)]
    first, count = brains[0], len(brains[0].vertices)
    for brain in brains:
        assert len(set(brain.vertices.tolist())) == count
    alike = np.array(
        [
            (b.channel_loadings == first.channel_loadings).all(axis=1)
            & (b.attribute_loadings == first.attribute_loadings).all(axis=1)
            for b in brains
        ]
    )
    assert alike[1:].sum(axis=1).tolist() == [round(share * count)] * 2
    assert np.array_equal(alike[1], alike[2])
    for brain in brains[1:]:
        assert np.array_equal(brain.vertices[alike[1]], first.vertices[alike[1]])


def test_common_vertices_differ_as_much_as_asked(subject):
    """The correlation of two loadings is sqrt(1 - d^2); the noise ceilings are a brain's own."""
    first = subject(1).brain
    for difference in (0.0, 0.6, 1.0):
        brain = subject(2, shared_topography=1.0, tuning_difference=difference).brain
        pair = [b.attribute_loadings[~b.early].ravel() for b in (first, brain)]
        assert np.corrcoef(pair)[0, 1] == pytest.approx(np.sqrt(1 - difference**2), abs=0.12)
        shift = (brain.centers - first.centers)[brain.early] / first.sizes[brain.early, None]
        assert shift.std() == pytest.approx(difference, abs=0.15)
        assert not np.array_equal(brain.ceiling, first.ceiling)


def test_gain_and_noise_are_a_subjects_own(subject):
    """Gain scales the whole run, noise only lowers the ceilings."""
    calm = subject(2, gain_spread=0.0, noise_spread=0.0)
    loud = subject(2, gain_spread=0.0, noise_spread=0.5)
    strong = subject(2, gain_spread=0.5, noise_spread=0.0)
    assert calm.scaling.gain == calm.scaling.noise == 1.0 and loud.scaling.noise != 1.0
    ratio = strong.run("seg1", 1) / calm.run("seg1", 1)
    np.testing.assert_allclose(ratio, strong.scaling.gain, rtol=1e-5)
    changed = np.sign(calm.noise_ceiling - loud.noise_ceiling)
    assert (changed == np.sign(loud.scaling.noise - 1)).all()
    assert len({subject(n).scaling.noise for n in range(1, 6)}) == 5


def _films(tmp_path, **more):
    """Films seen by four subjects, training films only."""
    plan = replace(settings_for(tmp_path, tmp_path).simulate, **{"subjects": 4, **more})
    seen = viewers(plan)
    assert all(seen[film] == (1, 2, 3, 4) for film in ("test1", "test2"))
    return {film: subjects for film, subjects in seen.items() if film.startswith("seg")}


def test_films_are_seen_by_all_by_some_and_by_one(tmp_path):
    assert set(_films(tmp_path).values()) == {(1, 2, 3, 4)}
    seen = _films(tmp_path, train_segments=12, seen_by_all=0.25, seen_by_some=0.5)
    assert sorted(map(len, seen.values())) == [1] * 3 + [2] * 6 + [4] * 3
    counts = [sum(number in subjects for subjects in seen.values()) for number in (1, 2, 3, 4)]
    assert sum(counts) == 3 + 12 + 12 and max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"seen_by_all": 0.7, "seen_by_some": 0.4}, "together at most 1"),
        ({"seen_by_all": 0.25}, r"subject 4 would see 1 training film "),
    ],
)
def test_films_that_cannot_be_dealt_out_are_refused(tmp_path, changes, word):
    asked = {"subjects": 4, "train_segments": 4, **changes}
    settings = settings_for(tmp_path, tmp_path, **{f"simulate__{k}": v for k, v in asked.items()})
    with pytest.raises(UserError, match=word):
        simulate.run(settings, tmp_path / "dataset")


@pytest.fixture(scope="module")
def two_subjects(tmp_path_factory):
    """Simulate two subjects, of whom each saw a film that the other one did not."""
    folder = tmp_path_factory.mktemp("two")
    sizes = {
        "subjects": 2,
        "train_segments": 7,
        "test_segments": 1,
        "clips_per_segment": 7,
        "test_clips_per_segment": 7,
        "test_repetitions": 1,
        "seen_by_all": 0.72,
        "noise_scale": 0.3,
    }
    given = {f"simulate__{k}": v for k, v in sizes.items()}
    settings = settings_for(folder / "dataset", folder, **given, data__detrend_order=2)
    simulate.run(settings, folder / "dataset")
    return settings


def _preprocessed(settings, subject, **changes):
    return preprocess.run(replace_settings(settings, {"run.subject": subject, **changes}))


def test_a_subject_that_missed_films_is_preprocessed_with_its_own_captions(two_subjects):
    root = Path(two_subjects.run.dataset)
    assert [s.name for s in find_layout(root, 1).train] == [f"seg{n}" for n in range(1, 7)]
    layout = find_layout(root, 2)
    assert [s.name for s in layout.train] == [f"seg{n}" for n in (1, 2, 3, 4, 5, 7)]
    assert layout.unseen == {("train", 6)}
    with (_preprocessed(two_subjects, 2) / "clips.csv").open(newline="") as stream:
        clips = [row for row in csv.DictReader(stream) if row["split"] == "train"]
    with (root / "captions.csv").open(newline="") as stream:
        captions = [row for row in csv.DictReader(stream) if row["split"] == "train"]
    known = {(row["segment"], int(row["clip"])): row["caption"] for row in captions}
    assert [row["segment"] for row in clips] == [n for n in "123457" for _ in range(7)]
    for row in clips:
        clip = (int(row["segment"]) - 1) * 7 + round(float(row["onset_s"]) / 2)
        assert row["caption"] == known[row["segment"], clip]


def test_voxels_in_common_are_the_same_for_all(two_subjects):
    """Those that both select by themselves; making one of them anew does not change them."""
    with pytest.raises(UserError, match="subject 3, whose own preprocess is not finished"):
        _preprocessed(two_subjects, 1, **{"data.common": (3, 1)})
    found = []
    for subject in (1, 2):
        with np.load(_preprocessed(two_subjects, subject) / "selection.npz") as own:
            found.append(set(own["columns"][own["selected"]].tolist()))
    for subject in (1, 2, 1):
        folder = _preprocessed(two_subjects, subject, **{"data.common": (1, 2)})
        with np.load(folder / "selection.npz") as taken:
            assert set(taken["index"].tolist()) == found[0] & found[1]
            assert set(taken["columns"][taken["reproducible"]].tolist()) == found[subject - 1]
        assert np.load(folder / "fmri_test.npy").shape[1] == len(found[0] & found[1])


def test_a_subject_without_training_runs_takes_the_voxels_of_others(two_subjects, tmp_path):
    """Its test scans are then what they are with its training runs there."""
    root = copy_of(Path(two_subjects.run.dataset), tmp_path / "dataset")
    for run in (root / "subject2" / "fmri").glob("seg*"):
        shutil.rmtree(run)
    places = {"run.dataset": str(root), "run.workdir": str(tmp_path / "runs")}
    bare = replace_settings(two_subjects, places)
    with pytest.raises(UserError, match="no run of segment seg1"):
        _preprocessed(bare, 2)
    found = []
    for settings in (two_subjects, bare):
        _preprocessed(settings, 1)
        folder = _preprocessed(settings, 2, **{"data.common": (1,)})
        found.append([np.load(folder / f"{name}_test.npy") for name in ("fmri", "frames")])
    for whole, alone in zip(*found, strict=True):
        assert np.array_equal(whole, alone)
    with (folder / "clips.csv").open(newline="") as stream:
        assert {row["split"] for row in csv.DictReader(stream)} == {"test"}
    with pytest.raises(UserError, match="no training films of this subject, so there is nothing"):
        training_clips(folder, ())
