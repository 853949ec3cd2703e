"""preprocess on a simulated data set: what it writes, and what it says about bad input."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from helpers.simulation_world import CORTEX, copy_of, settings_for, simulated

from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.load import load_settings
from neuroclips_cli.signal.detrend import standardize
from neuroclips_cli.simulation.films import film_writer
from neuroclips_cli.stages import preprocess

ORDER = load_settings({"run.profile": "tiny"}).data.detrend_order
RUN = "subject1/fmri/{film}/cifti/{film}_{repetition}_Atlas.dtseries.nii"


def _run_file(root, film, repetition=1):
    return root / RUN.format(film=film, repetition=repetition)


def _facts(folder):
    return json.loads((folder / "manifest.json").read_text())["facts"]


def _change(path, edit):
    """Rewrite a run with changed data, axes as they are."""
    import nibabel as nib

    image = nib.load(path)
    data = edit(np.asarray(image.dataobj).copy())
    series, models = (image.header.get_axis(i) for i in range(2))
    series = nib.cifti2.SeriesAxis(0, series.step, len(data), "SECOND")
    changed = nib.cifti2.Cifti2Image(data.astype(np.float32), header=(series, models))
    changed.update_headers()
    path.unlink()
    changed.to_filename(path)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = simulated()
    return preprocess.run(settings_for(root, tmp_path_factory.mktemp("runs")))


@pytest.fixture
def dataset(tmp_path):
    return copy_of(simulated(), tmp_path / "dataset")


def test_the_stage_writes_what_the_design_lists(done):
    with np.load(done / "selection.npz", allow_pickle=False) as selection:
        voxels = len(selection["index"])
        assert selection["selected"].sum() == voxels > 20
        assert {selection[name].shape for name in ("t", "p", "mean_z")} == {(CORTEX,)}
        assert np.array_equal(selection["index"], np.flatnonzero(selection["selected"]))
    shapes = {
        "fmri_train": ((112, 2, voxels), np.float32),
        "fmri_test": ((16, voxels), np.float32),
        "fmri_test_repetitions": ((16, 3, voxels), np.float32),
        "frames_train": ((112, 6, 32, 32, 3), np.uint8),
        "frames_test": ((16, 6, 32, 32, 3), np.uint8),
    }
    for name, (shape, kind) in shapes.items():
        array = np.load(done / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        assert array.shape == shape and array.dtype == kind, name
    assert _facts(done)["voxels_selected"] == voxels


def test_clips_go_with_the_volume_two_later_and_windows_are_standardized(done):
    import nibabel as nib

    with np.load(done / "selection.npz", allow_pickle=False) as selection:
        index = selection["index"]
    raw = np.asarray(nib.load(_run_file(simulated(), "seg2", 2)).dataobj)[:, index]
    expected = standardize(raw[1 + 2 : 1 + 2 + 14], ORDER)[0]
    fmri = np.load(done / "fmri_train.npy")
    assert np.allclose(fmri[14:28, 1], expected, atol=1e-5)
    assert np.allclose(fmri[14:28].std(axis=0, ddof=1), 1, atol=1e-4)
    raw = np.asarray(nib.load(_run_file(simulated(), "test2", 3)).dataobj)[:, index]
    expected = standardize(raw[2 + 2 : 2 + 2 + 8], ORDER)[0]
    repetitions = np.load(done / "fmri_test_repetitions.npy")
    assert np.allclose(repetitions[8:16, 2], expected, atol=1e-5)
    assert np.allclose(np.load(done / "fmri_test.npy"), repetitions.mean(axis=1), atol=1e-5)


def test_training_statistics_are_of_the_raw_training_runs(done):
    import nibabel as nib

    with np.load(done / "selection.npz", allow_pickle=False) as selection:
        index = selection["index"]
    files = [_run_file(simulated(), f"seg{s}", r) for s in range(1, 9) for r in (1, 2)]
    raw = [np.asarray(nib.load(file).dataobj, float)[1 + 2 : 1 + 2 + 14, index] for file in files]
    with np.load(done / "training_statistics.npz", allow_pickle=False) as found:
        names = {"mean", "between_runs", "drift", "deviation", "volumes", "autocorrelation"}
        assert set(found) == names
        places = np.linspace(-1, 1, 14)
        levels = [np.polynomial.legendre.legfit(places, run, ORDER)[0] for run in raw]
        assert np.allclose(found["mean"], np.mean(levels, axis=0))
        assert found["drift"].shape == (ORDER, len(index)) and found["volumes"] == 14
        times = np.arange(14)
        drifts = [
            np.polyval(np.polyfit(times, run, ORDER)[:, None, :], times[:, None]) for run in raw
        ]
        spread = [np.var(run - fit, axis=0, ddof=1) for run, fit in zip(raw, drifts, strict=True)]
        assert np.allclose(found["deviation"], np.sqrt(np.mean(spread, axis=0)), rtol=1e-4)


def test_frames_are_the_film_at_three_per_second(done):
    import decord

    reader = decord.VideoReader(str(simulated() / "stimuli" / "seg3.mp4"))
    expected = reader.get_batch([4 * 60 + 10 * i for i in range(6)]).asnumpy()
    frames = np.load(done / "frames_train.npy", mmap_mode="r")
    assert np.array_equal(frames[2 * 14 + 4], expected)


def test_the_clip_table_knows_segments_scenes_and_captions(done):
    with (done / "clips.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == [
        "clip",
        "split",
        "segment",
        "onset_s",
        "volume",
        "crosses_scene",
        "scene",
        "caption",
        "film",
        "held_out",
    ]
    assert [r["split"] for r in rows] == ["train"] * 112 + ["test"] * 16
    assert (rows[15]["segment"], rows[15]["onset_s"], rows[15]["volume"]) == ("2", "2", "3")
    assert rows[112]["clip"] == "0"
    assert {r["crosses_scene"] for r in rows} == {"0", "1"}
    assert all(r["caption"] and r["scene"] for r in rows)


def test_selected_vertices_are_those_that_respond(done):
    with np.load(simulated() / "subject1" / "ground_truth.npz", allow_pickle=False) as truth:
        responding, ceiling = truth["responding"], truth["noise_ceiling"]
    with np.load(done / "selection.npz", allow_pickle=False) as selection:
        selected = selection["selected"]
    assert responding[selected].mean() > 0.9
    assert ceiling[selected].mean() > ceiling[responding].mean()


def test_the_selection_map_opens_as_cifti(done):
    import nibabel as nib

    image = nib.load(done / "selection.dscalar.nii")
    assert list(image.header.get_axis(0).name) == ["mean_z", "t", "p", "selected", "excluded"]
    assert image.shape == (5, CORTEX)


def test_unchanged_inputs_return_at_once_and_changed_ones_do_not(dataset, tmp_path):
    settings = settings_for(dataset, tmp_path)
    folder = preprocess.run(settings)
    stamp = (folder / "fmri_train.npy").stat().st_mtime_ns
    preprocess.run(settings)
    assert (folder / "fmri_train.npy").stat().st_mtime_ns == stamp
    _change(_run_file(dataset, "test1"), lambda x: x[:, ::-1])
    preprocess.run(settings)
    assert (folder / "fmri_train.npy").stat().st_mtime_ns != stamp


def test_test_runs_have_no_say_in_the_selection(dataset, done, tmp_path):
    rng = np.random.default_rng(0)
    for film in ("test1", "test2"):
        for repetition in (1, 2, 3):
            _change(_run_file(dataset, film, repetition), lambda x: rng.normal(1e4, 50, x.shape))
    folder = preprocess.run(settings_for(dataset, tmp_path))
    with np.load(folder / "selection.npz") as ours, np.load(done / "selection.npz") as theirs:
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs.files)
    ours, theirs = (np.load(f / "fmri_train.npy") for f in (folder, done))
    assert np.array_equal(ours, theirs)


def test_nan_and_constant_vertices_are_excluded_and_counted(dataset, done, tmp_path):
    with np.load(done / "selection.npz", allow_pickle=False) as selection:
        best = selection["index"][:2]

    def spoil(data):
        data[5, best[0]] = np.nan
        data[:, best[1]] = 9000
        return data

    _change(_run_file(dataset, "seg4"), spoil)
    folder = preprocess.run(settings_for(dataset, tmp_path))
    assert _facts(folder)["voxels_excluded"] == 2
    with np.load(folder / "selection.npz", allow_pickle=False) as selection:
        assert selection["excluded"][best].all() and not selection["selected"][best].any()
        assert np.isfinite(selection["p"]).all()


def test_a_missing_test_repetition_is_averaged_around_and_reported(dataset, done, tmp_path):
    _run_file(dataset, "test2", 2).unlink()
    folder = preprocess.run(settings_for(dataset, tmp_path))
    repetitions = np.load(folder / "fmri_test_repetitions.npy")
    assert np.isnan(repetitions[8:, 1]).all() and np.isfinite(repetitions[:8]).all()
    mean = np.load(folder / "fmri_test.npy")
    assert np.allclose(mean[8:], repetitions[8:, [0, 2]].mean(axis=1), atol=1e-5)
    assert _facts(folder)["missing_test_runs"] == ["test2_2"]


def _refused(dataset, tmp_path, *words, **more):
    with pytest.raises(UserError) as error:
        preprocess.run(settings_for(dataset, tmp_path, **more))
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_no_dataset_folder_is_one_sentence(tmp_path):
    _refused(tmp_path / "nowhere", tmp_path, "nowhere", "neuroclips simulate")


def test_another_subject_is_one_sentence(dataset, tmp_path):
    _refused(dataset, tmp_path, "subject 4", "subjects found: 1", run__subject=4)


def test_a_missing_training_run_is_named(dataset, tmp_path):
    _run_file(dataset, "seg3", 2).unlink()
    _refused(dataset, tmp_path, "seg3_2")


def test_a_segment_without_any_run_is_named(dataset, tmp_path):
    shutil.rmtree(dataset / "subject1" / "fmri" / "seg8")
    _refused(dataset, tmp_path, "seg8")


def test_a_missing_film_is_named(dataset, tmp_path):
    (dataset / "stimuli" / "test2.mp4").unlink()
    _refused(dataset, tmp_path, "test2")


@pytest.mark.parametrize("keep", [0, 300, 0.5, 0.99])
def test_a_truncated_run_is_named(dataset, tmp_path, keep):
    path = _run_file(dataset, "seg5")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else int(keep)])
    _refused(dataset, tmp_path, "seg5_1_Atlas", "cut short")


def test_garbage_instead_of_a_run_is_named(dataset, tmp_path):
    _run_file(dataset, "seg5").write_bytes(b"this is not a scan" * 1000)
    _refused(dataset, tmp_path, "seg5_1_Atlas", "damaged")


@pytest.mark.parametrize("volumes", [10, 17, 21])
def test_a_wrong_number_of_volumes_names_the_file(dataset, tmp_path, volumes):
    _change(_run_file(dataset, "seg2", 2), lambda x: np.resize(x, (volumes, x.shape[1])))
    _refused(dataset, tmp_path, "seg2_2_Atlas", f"{volumes} volumes", "19 or 20")


def test_a_film_shorter_than_its_runs_is_named(dataset, tmp_path):
    film = dataset / "stimuli" / "seg1.mp4"
    film.unlink()
    with film_writer(film, 32) as append:
        append(np.zeros((20 * 30, 32, 32, 3), np.uint8))
    _refused(dataset, tmp_path, "seg1.mp4", "film is shorter than the run")


def test_a_film_that_is_no_video_is_named(dataset, tmp_path):
    (dataset / "stimuli" / "seg1.mp4").write_bytes(b"nothing to see")
    _refused(dataset, tmp_path, "seg1.mp4", "cannot be decoded")


def test_another_repetition_time_is_refused(dataset, tmp_path):
    _refused(dataset, tmp_path, "every 2 s", "1.5 s", data__tr_s=1.5, data__delay_s=3.0)


def test_no_reproducible_voxel_says_how_good_the_best_was(dataset, tmp_path):
    rng = np.random.default_rng(1)
    for segment in range(1, 9):
        _change(_run_file(dataset, f"seg{segment}"), lambda x: rng.normal(1e4, 50, x.shape))
    _refused(dataset, tmp_path, "mean correlation of", "t = ", "is needed", data__selection_p=0.05)
