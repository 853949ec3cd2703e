"""The simulated data set: files, films, cuts, restart, refusal."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from helpers.simulation_world import GRAYORDINATES, copy_of, settings_for, simulated

from neuroclips_cli.errors import UserError
from neuroclips_cli.io.lock import stage_lock
from neuroclips_cli.simulation.films import film_writer
from neuroclips_cli.stages import simulate


def _only(arrays):
    """Return the arrays; anything else among them is an error."""
    assert {type(array) for array in arrays.values()} == {np.ndarray}
    return arrays


def _rows(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_runs_are_cifti_series_with_leading_and_trailing_volumes():
    import nibabel as nib

    for run, volumes in (("seg1_1", 19), ("seg6_2", 19), ("test1_3", 13), ("test2_1", 14)):
        film = run.split("_")[0]
        path = simulated() / f"subject1/fmri/{film}/cifti/{run}_Atlas.dtseries.nii"
        image = nib.load(path)
        series, models = image.header.get_axis(0), image.header.get_axis(1)
        assert (series.step, series.unit, len(series)) == (2.0, "SECOND", volumes)
        assert len(models) == GRAYORDINATES
        assert image.get_data_dtype() == np.float32
        assert image.nifti_header.get_intent()[0] == "ConnDenseSeries"
        data = np.asarray(image.dataobj)
        assert 7000 < np.median(data) < 13000 and np.isfinite(data).all()


def test_films_are_read_by_decord_frame_by_frame():
    import decord

    for name, clips in (("seg1", 14), ("test2", 8)):
        reader = decord.VideoReader(str(simulated() / "stimuli" / f"{name}.mp4"))
        assert len(reader) == clips * 60
        assert reader.get_avg_fps() == 30
        assert reader[0].shape == (32, 32, 3)


def test_scenes_fill_every_film_and_cuts_fall_inside_clips():
    scenes = _rows(simulated() / "stimuli" / "scenes.csv")
    assert [int(s["scene"]) for s in scenes] == list(range(len(scenes)))
    for film, duration in (("seg1", 28), ("test1", 16)):
        mine = [s for s in scenes if s["film"] == film]
        assert float(mine[0]["start_s"]) == 0 and float(mine[-1]["end_s"]) == duration
    cuts = np.array([float(s["start_s"]) for s in scenes if float(s["start_s"])])
    assert (np.abs(cuts / 2 - np.round(cuts / 2)) > 0.01).mean() > 0.8


def test_every_clip_has_a_caption():
    rows = _rows(simulated() / "captions.csv")
    assert [r["split"] for r in rows] == ["train"] * 112 + ["test"] * 16
    assert [int(r["clip"]) for r in rows[112:]] == list(range(16))
    assert all(r["caption"].startswith("a ") for r in rows)


def test_the_majority_of_vertices_carries_nothing():
    with np.load(simulated() / "subject1" / "ground_truth.npz", allow_pickle=False) as truth:
        assert truth["responding"].mean() < 0.5
        assert (truth["area"][~truth["responding"]] == "none").all()
        assert not truth["noise_ceiling"][~truth["responding"]].any()


def test_an_interrupted_simulation_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    root = copy_of(simulated(), tmp_path / "dataset")
    write = np.savez_compressed
    # numpy 2.0 has no allow_pickle here: it stores every keyword as an array
    monkeypatch.setattr(np, "savez_compressed", lambda file, **arrays: write(file, **_only(arrays)))
    record = json.loads((root / "simulation.json").read_text())
    (root / "simulation.json").write_text(json.dumps({**record, "state": "running"}))
    lost = root / "subject1/fmri/seg2/cifti/seg2_1_Atlas.dtseries.nii"
    kept = root / "subject1/fmri/seg3/cifti/seg3_1_Atlas.dtseries.nii"
    before, stamp = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    half = root / "stimuli" / ".seg3.1.tmp.mp4"
    half.write_bytes(b"half a film")
    simulate.run(settings_for(root, tmp_path), root)
    assert not half.exists()
    with np.load(root / "subject1/ground_truth.npz", allow_pickle=False) as truth:
        assert {len(array) for array in truth.values()} == {len(truth["responding"])}
    assert lost.read_bytes() == before
    assert kept.stat().st_mtime_ns == stamp


def test_other_settings_are_refused(tmp_path):
    root = copy_of(simulated(), tmp_path / "dataset")
    with pytest.raises(UserError, match=r"noise_scale 1\.0 instead of 2\.0"):
        simulate.run(settings_for(root, tmp_path, simulate__noise_scale=2.0), root)


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        simulate.run(settings_for(tmp_path, tmp_path), tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("simulate__clips_per_segment", 3, "clips"),
        ("simulate__grayordinates", "huge", "grayordinates"),
        ("simulate__stimulus_size", 50, "multiple of 32"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, key, value, word):
    root = tmp_path / "dataset"
    with pytest.raises(UserError, match=word):
        simulate.run(settings_for(root, tmp_path, **{key: value}), root)
    assert not root.exists()


def _video(path, seconds, shade):
    with film_writer(path, 64) as append:
        append(np.full((round(seconds * 30), 64, 64, 3), shade, np.uint8))


def test_given_videos_are_laid_end_to_end_in_natural_order(tmp_path):
    import decord

    videos = tmp_path / "videos"
    videos.mkdir()
    _video(videos / "b10.mp4", 31.5, 200)
    _video(videos / "b2.mp4", 19, 60)
    root = tmp_path / "dataset"
    sizes = {
        "simulate__train_segments": 2,
        "simulate__test_segments": 1,
        "simulate__clips_per_segment": 8,
        "simulate__test_clips_per_segment": 8,
        "simulate__test_repetitions": 1,
    }
    simulate.run(settings_for(root, tmp_path, **sizes), root, stimuli=videos)
    reader = decord.VideoReader(str(root / "stimuli" / "seg2.mp4"))
    shades = reader.get_batch(range(480)).asnumpy().mean(axis=(1, 2, 3))
    assert abs(shades[:60] - 60).max() < 8 and abs(shades[60:] - 200).max() < 8
    scenes = _rows(root / "stimuli" / "scenes.csv")
    assert [s["film"] for s in scenes] == ["seg1", "seg2", "seg2", "test1"]
    assert not (root / "captions.csv").exists()
    with pytest.raises(UserError, match="last 24 whole clips"):
        more = settings_for(root, tmp_path, **{**sizes, "simulate__test_segments": 3})
        simulate.run(more, tmp_path / "other", stimuli=videos)


def test_a_video_shorter_than_a_clip_is_refused(tmp_path):
    _video(tmp_path / "blink.mp4", 1, 90)
    with pytest.raises(UserError, match=r"blink\.mp4 lasts 1\.00 s"):
        root = tmp_path / "dataset"
        simulate.run(settings_for(root, tmp_path), root, stimuli=tmp_path)


def test_two_simulations_cannot_write_one_data_set(tmp_path):
    settings = settings_for(tmp_path / "made", tmp_path)
    with stage_lock(tmp_path / "made", "simulate"), pytest.raises(UserError) as caught:
        simulate.run(settings, tmp_path / "made")
    assert f"{tmp_path / 'made'} is being written by process" in str(caught.value)
    assert not (tmp_path / "made" / "stimuli").exists()
