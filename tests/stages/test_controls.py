"""``neuroclips controls``: control reconstructions, their evaluations, and the comparison."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import fake_evaluators, fake_run

from neuroclips_cli.errors import UserError
from neuroclips_cli.runs import manifest
from neuroclips_cli.runs.stage import StageRequest, command_for, read_json, run_folder
from neuroclips_cli.stages import _control_clips, controls, evaluate, reconstruct

STILL = ("nearest-training-clip", "mean-frame", "frozen-frame", "frozen-keyframe")


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """A run with scans that tell which clip was shown, and a training set that holds some."""
    fake_evaluators.install(monkeypatch)
    chosen = fake_run.settings(tmp_path)
    fake_run.write(chosen, protocol="pooled")
    folder = run_folder(chosen) / "preprocess"
    frames = np.load(folder / "frames_test.npy")
    rng = np.random.default_rng(0)
    scans = rng.normal(size=(len(frames), 40)).astype(np.float32)
    order = rng.permutation(len(frames))
    np.save(folder / "fmri_test.npy", scans)
    np.save(folder / "frames_train.npy", frames[order])
    repetitions = scans[order][:, None] + rng.normal(0, 0.3, (len(frames), 2, 40))
    np.save(folder / "fmri_train.npy", repetitions.astype(np.float32))
    evaluate.run(chosen)
    return chosen


def clips_of(chosen, name):
    return np.load(run_folder(chosen) / f"reconstruct-control-{name}" / "clips.npy")


def test_controls_are_written_evaluated_and_compared(chosen, capsys):
    folders = controls.run(chosen, STILL)
    shown = capsys.readouterr().out
    root = run_folder(chosen)
    data, own = root / "preprocess", np.load(root / "reconstruct" / "clips.npy")
    index = np.load(root / "reconstruct" / "index.npy")
    truth = np.load(data / "frames_test.npy")[index]
    # this training set holds the test films, so the nearest scan's clip is the right one
    nearest = clips_of(chosen, "nearest-training-clip")
    assert nearest.shape == own.shape
    assert np.array_equal(nearest[:, [0, 3, 5, 8, 11, 13]], truth)
    mean = np.rint(np.load(data / "frames_train.npy").mean(axis=(0, 1)))
    assert np.all(clips_of(chosen, "mean-frame") == mean)
    frozen = clips_of(chosen, "frozen-frame")
    assert np.all(frozen == own[:, :1])
    keyframes = np.load(root / "reconstruct" / "keyframes.npy")
    assert np.all(clips_of(chosen, "frozen-keyframe") == keyframes[:, None])
    for name, folder in zip(STILL, folders, strict=True):
        assert folder.name == f"evaluate-control-{name}"
        assert folder.name in shown
        result = read_json(folder / "metrics.json")
        assert result["protocol"]["n"] == fake_run.CLIPS
        assert result["training_protocol"] == "pooled"
    assert "Unlike protocols" not in shown
    ssim = [read_json(f / "metrics.json")["metrics"]["ssim"]["mean"] for f in folders]
    assert ssim[0] == 1.0 > ssim[2] > ssim[1]


def test_a_second_run_has_nothing_to_make(chosen, monkeypatch):
    controls.run(chosen, ("mean-frame",))
    monkeypatch.setattr(_control_clips, "map_rows", lambda *a, **k: pytest.fail("made again"))
    monkeypatch.setattr(evaluate, "load_evaluators", lambda *rest: pytest.fail("measured again"))
    controls.run(chosen, ("mean-frame",))


def test_the_vae_control_is_the_ground_truth_decoded(chosen, monkeypatch):
    monkeypatch.setattr(_control_clips, "load_vae", lambda ref, device: None)
    monkeypatch.setattr(
        _control_clips, "encode_frames", lambda net, frames: frames.astype(np.float32)
    )
    monkeypatch.setattr(_control_clips, "decode_latents", lambda net, x: (x // 2).astype(np.uint8))
    controls.run(chosen, ("vae",))
    root = run_folder(chosen)
    index = np.load(root / "reconstruct" / "index.npy")
    truth = np.load(root / "preprocess" / "frames_test.npy")[index]
    assert np.array_equal(clips_of(chosen, "vae")[:, [0, 3, 5, 8, 11, 13]], truth // 2)
    record = manifest.read(root / "reconstruct-control-vae")
    assert record["determined_by"]["extra"] == {"vae": chosen.backbones.vae}


def test_scans_are_replaced_for_the_generated_controls(chosen, monkeypatch):
    seen = {}
    monkeypatch.setattr(reconstruct, "run", lambda settings, **given: seen.update(given))
    root = run_folder(chosen)
    folders = {name: root / name for name in ("preprocess", "reconstruct")}
    scans = np.load(folders["preprocess"] / "fmri_test.npy")
    train = np.load(folders["preprocess"] / "fmri_train.npy")
    repetitions = np.load(folders["preprocess"] / "fmri_test_repetitions.npy")

    def make(name: str) -> np.ndarray:
        _control_clips.make(chosen, name, StageRequest("", folders, {"clips": ""}))
        assert (seen["variant"].name, seen["clips"]) == (name, None)
        return seen["variant"].fmri

    other = make("mean-fmri")
    assert other.shape == scans.shape
    assert np.allclose(other, train.mean(axis=(0, 1)), atol=1e-6)
    assert abs(np.corrcoef(make("noise-fmri").ravel(), scans.ravel())[0, 1]) < 0.2
    assert np.allclose(make("repetitions-2"), repetitions[:, :2].mean(axis=1), atol=1e-6)
    with pytest.raises(UserError, match="repetitions-5 needs 5 .* the data set has 4"):
        make("repetitions-5")


def test_what_is_missing_or_unknown_is_one_sentence(chosen, tmp_path):
    with pytest.raises(UserError, match="no control 'mean-frames' .did you mean 'mean-frame'"):
        controls.run(chosen, ("mean-frames",))
    with pytest.raises(UserError, match="neuroclips preprocess"):
        controls.run(fake_run.settings(tmp_path / "empty"))
    command = command_for("evaluate-control-mean-frame", chosen)
    assert command.startswith("neuroclips controls --only mean-frame --subject 1")
