"""The Python interface gives what the commands give."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import random_backbones as tiny
from helpers import fake_evaluators, fake_run, trained_run
from helpers.trained_run import FRAMES, SIZE, TEST, VERTICES, VOXELS

import neuroclips_cli
from neuroclips_cli import Run, api, evaluate_clips, open_run
from neuroclips_cli.errors import UserError
from neuroclips_cli.runs.stage import read_array, read_csv, read_json
from neuroclips_cli.settings.load import load_settings
from neuroclips_cli.signal.detrend import standardize
from neuroclips_cli.stages import evaluate, reconstruct

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "from-python.md"
SEED = 3
QUICK = {"evaluate.bootstrap_samples": 50, "evaluate.shuffles": 2, "evaluate.size": SIZE}


@pytest.fixture(scope="module")
def backbones(tmp_path_factory) -> dict[str, object]:
    return tiny.save_all(tmp_path_factory.mktemp("backbones"))


@pytest.fixture(scope="module")
def folder(backbones, tmp_path_factory) -> Path:
    """Reconstruct and evaluate a run of random networks, with a seed that is not the default."""
    workdir = tmp_path_factory.mktemp("work") / "runs"
    workdir.mkdir()
    changes = {"run.seed": SEED, "reconstruct.keyframe_start": "blurry:0.8", **QUICK}
    chosen = trained_run.settings(workdir, backbones, **changes)
    trained_run.write(chosen)
    reconstruct.run(chosen)
    reconstruct.run(chosen, without="blurry")
    reconstruct.run(chosen, without="keyframe")
    evaluate.run(chosen)
    return workdir / "sub-01"


@pytest.fixture
def run(folder: Path) -> Run:
    return Run(folder, {"run.device": "cpu"})


def test_the_package_alone_imports_neither_torch_nor_numpy():
    code = (
        "import sys, neuroclips_cli; heavy = {'torch', 'numpy', 'nibabel'}; "
        "print(heavy & set(sys.modules), {'Run', 'evaluate_clips', 'open_run'} <= "
        "set(dir(neuroclips_cli)));"
        "neuroclips_cli.open_run; print('torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split("\n")[:2] == ["set() True", "False"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        neuroclips_cli.nothing  # noqa: B018


@pytest.mark.parametrize("without", [None, "blurry", "keyframe"])
def test_decode_makes_what_reconstruct_made_bit_for_bit(run: Run, without) -> None:
    made = Counter()
    scans = run.array("preprocess", "fmri_test.npy")
    decoded = run.decode(scans, without=without, advance=lambda part, n: made.update({part: n}))
    stage = "reconstruct" + (f"-without-{without}" if without else "")
    there = {path.stem for path in (run.folder / stage).glob("*.npy")} - {"index"}
    for name in ("blurry", "tokens_brain", "tokens_prior", "keyframes", "clips"):
        array = getattr(decoded, name)
        assert (array is not None) == (name in there), name
        if array is not None:
            expected = run.array(stage, f"{name}.npy")
            assert array.dtype == expected.dtype
            assert np.array_equal(array, expected), name
    if without != "keyframe":
        captions = [row["caption"] for row in run.table(stage, "captions.csv")]
        assert list(decoded.captions or ()) == captions
    assert run.settings.run.seed == SEED
    assert made["clips"] == TEST and made["tokens"] == 2 * TEST


def test_some_scans_come_out_by_their_clip_numbers(run: Run) -> None:
    # clips 2 and 3 are a batch of the whole run, so that the same sums are made
    scans = run.array("preprocess", "fmri_test.npy")[2:4]
    stage = run.folder / "reconstruct"
    decoded = run.decode(scans, [2, 3], last="keyframes")
    assert np.array_equal(decoded.keyframes, read_array(stage / "keyframes.npy")[2:4])
    assert decoded.numbers == (2, 3) and decoded.clips is None and decoded.captions is None
    other = run.decode(scans, [0, 1], last="tokens")
    assert np.array_equal(other.tokens_brain, decoded.tokens_brain)
    assert not np.array_equal(other.tokens_prior, decoded.tokens_prior)
    assert other.blurry is None
    assert np.array_equal(run.decode(scans, last="blurry").blurry, decoded.blurry)
    seeded = Run(run.folder, {"run.device": "cpu", "run.seed": 4}).decode(
        scans, [2, 3], last="tokens"
    )
    assert not np.array_equal(seeded.tokens_prior, decoded.tokens_prior)


@pytest.mark.parametrize(
    ("scans", "numbers", "message"),
    [
        (np.zeros((2, VOXELS + 1)), None, rf"\(2, {VOXELS + 1}\).*\(clips, {VOXELS}\)"),
        (np.zeros(VOXELS), None, "selected voxels"),
        (np.zeros((0, VOXELS)), None, "selected voxels"),
        (np.array([["a"] * VOXELS]), None, "decodes numbers"),
        (np.full((2, VOXELS), np.nan), None, "scan 0 holds NaN"),
        (np.zeros((2, VOXELS)), [1], "2 scans and 1 clip numbers"),
        (np.zeros((2, VOXELS)), [1, -1], "one number from 0"),
    ],
)
def test_scans_that_do_not_fit_are_refused_in_a_sentence(run: Run, scans, numbers, message) -> None:
    with pytest.raises(UserError, match=message):
        run.decode(scans, numbers)


def test_unknown_parts_and_what_is_left_out_are_refused(run: Run) -> None:
    scans = np.zeros((1, VOXELS))
    for choices in ({"last": "clip"}, {"without": "captions"}):
        with pytest.raises(UserError, match="not both known"):
            run.decode(scans, **choices)
    for last, without in (("keyframes", "keyframe"), ("captions", "keyframe"), ("blurry",) * 2):
        with pytest.raises(UserError, match="leaves out"):
            run.decode(scans, last=last, without=without)


def test_a_run_tells_what_is_done_and_how_it_was_measured(run: Run) -> None:
    states = run.stages()
    assert list(states) == sorted(
        ["preprocess", "train-pr", "train-sr", "reconstruct", "evaluate"]
        + ["reconstruct-without-blurry", "reconstruct-without-keyframe"]
    )
    assert set(states.values()) == {"done"}
    assert run.manifest("train-sr")["facts"]["model"]["voxels"] == VOXELS
    assert run.metrics() == read_json(run.folder / "evaluate" / "metrics.json")
    assert run.table("preprocess", "clips.csv") == read_csv(run.folder / "preprocess/clips.csv")
    assert open_run(run.folder.parent, subject=1).stages() == states
    assert repr(run) == f"Run({str(run.folder)!r})"
    with pytest.raises(UserError, match="holds no fuse, only evaluate"):
        run.manifest("fuse")
    with pytest.raises(UserError, match="holds no evaluate-fuse"):
        run.metrics("fuse")
    with pytest.raises(UserError, match=r"holds no clip\.npy: name one of .*clips\.npy"):
        run.array("reconstruct", "clip.npy")


def test_a_folder_of_no_subject_is_refused(tmp_path: Path) -> None:
    for name in ("nothing", "sub-02"):
        with pytest.raises(UserError, match="not a folder of a subject"):
            Run(tmp_path / name)
    (tmp_path / "sub-2").mkdir()
    with pytest.raises(UserError, match="rename"):
        Run(tmp_path / "sub-2")
    (tmp_path / "sub-01").mkdir()
    assert Run(tmp_path / "sub-01").stages() == {}
    with pytest.raises(UserError, match="neuroclips train-pr"):
        Run(tmp_path / "sub-01").decode(np.zeros((1, 3)))


def test_maps_go_out_and_come_back(run: Run, tmp_path: Path) -> None:
    selected = run.read_maps()["selected"] > 0
    assert selected.sum() == VOXELS and len(selected) == VERTICES
    rng = np.random.default_rng(0)
    weights, everywhere = rng.normal(size=VOXELS), rng.normal(size=VERTICES)
    run.write_maps(tmp_path / "a.dscalar.nii", {"weights": weights, "all": everywhere})
    back = run.read_maps(tmp_path / "a.dscalar.nii")
    assert list(back) == ["weights", "all"]
    np.testing.assert_array_equal(back["weights"][selected], weights.astype(np.float32))
    assert not back["weights"][~selected].any()
    np.testing.assert_array_equal(back["all"], everywhere.astype(np.float32))
    image = nib.load(tmp_path / "a.dscalar.nii")
    assert image.header.get_axis(1) == nib.load(
        run.folder / "preprocess/selection.dscalar.nii"
    ).header.get_axis(1)
    with pytest.raises(UserError, match="map weights has shape"):
        run.write_maps(tmp_path / "b.dscalar.nii", {"weights": weights[1:]})
    with pytest.raises(UserError, match=r"should end in \.dscalar\.nii"):
        run.write_maps(tmp_path / "b.nii", {"weights": weights})
    with pytest.raises(UserError, match="no map"):
        run.write_maps(tmp_path / "b.dscalar.nii", {})
    assert not (tmp_path / "b.dscalar.nii").exists()


@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_judge_gives_what_the_command_writes(tmp_path, monkeypatch, capsys, kind) -> None:
    fake_evaluators.install(monkeypatch)
    gt = fake_evaluators.draw_clips(25, 16, size=SIZE)
    pred = fake_evaluators.draw_clips(25, FRAMES, size=SIZE // 2, seed=1)
    if kind == "float":
        gt, pred = gt / np.float32(255), pred / np.float32(255)
    np.save(tmp_path / "gt.npy", gt)
    np.save(tmp_path / "pred.npy", pred)
    # clips of 4 s make enough blocks for the second kind of interval
    quick = {**QUICK, "evaluate.size": SIZE // 2, "data.clip_s": 4.0}
    result = evaluate_clips(pred, gt, settings=quick)
    assert capsys.readouterr() == ("", "")
    chosen = load_settings({**quick, "evaluate.protocol": "standard"})
    evaluate.run_pair(chosen, tmp_path / "pred.npy", tmp_path / "gt.npy", tmp_path / "out")
    written = read_json(tmp_path / "out" / "metrics.json")
    for key in ("pred", "gt", "panels"):
        written["protocol"].pop(key)
    assert result == written
    low, high = result["metrics"]["ssim"]["ci95"]
    assert low < result["metrics"]["ssim"]["mean"] < high
    assert "frame_2way" in result["metrics"] and result["metrics"]["ssim"]["ci95_scenes"]


def test_a_runs_clips_are_measured_as_the_command_measures_them(folder: Path) -> None:
    run = Run(folder, {"run.device": "cpu", **QUICK})
    index = run.array("reconstruct", "index.npy").tolist()
    found = run.evaluate(run.array("reconstruct", "clips.npy"), index)["metrics"]
    written = run.metrics()["metrics"]
    for name in set(found) & set(written):
        assert found[name]["mean"] == pytest.approx(written[name]["mean"], abs=1e-6), name
    assert {"ssim", "psnr"} <= set(found)
    with pytest.raises(UserError, match="test clips are numbered 0 to"):
        run.evaluate(run.array("reconstruct", "clips.npy")[:1], [99])


def test_clips_of_the_synthetic_dataset_get_its_evaluators(tmp_path, monkeypatch) -> None:
    fake_evaluators.install(monkeypatch)
    chosen = fake_run.settings(tmp_path / "runs")
    fake_run.write(chosen)
    made = Run(tmp_path / "runs" / "sub-01", {"evaluate.size": fake_run.SIZE})
    record = tmp_path / "runs" / "sub-01" / "preprocess" / "manifest.json"
    content = read_json(record)
    content["facts"]["synthetic"] = True
    record.write_text(json.dumps(content))
    clips = made.array("reconstruct", "clips.npy")
    found = made.evaluate(clips, made.array("reconstruct", "index.npy"))
    assert found["protocol"]["protocol"] == "synthetic"
    assert found["metrics"]["ssim"]["mean"] > 0.5


def test_arrays_that_are_no_pairs_of_clips_are_refused() -> None:
    clips = fake_evaluators.draw_clips(3, 4)
    for pred, message in (
        (clips[:2], "pred holds 2 clips and gt holds 3"),
        (clips[:, 0], r"pred holds uint8 \(3, 16, 16, 3\)"),
        (np.where(clips > 9, np.nan, 0.5), "pred holds NaN"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate_clips(pred, clips)
    with pytest.raises(UserError, match="neuroclips"):
        evaluate_clips(clips, clips, protocol="neuroclip")


def test_the_page_does_what_it_says(folder: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder.parents[1])
    names: dict[str, object] = {}
    series = 300 + np.random.default_rng(5).normal(0, 5, (9, VERTICES)).astype(np.float32)
    trained_run.write_scans(Path("new_run.dtseries.nii"), series)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(blocks) > 4
    z = standardize(series[3:7, :VOXELS], names["run"].settings.data.detrend_order)[0]
    np.testing.assert_allclose(names["new"], z, atol=1e-5)
    assert Path("thirds.dscalar.nii").is_file()


def test_a_window_of_volumes_is_asked_for(run: Run, monkeypatch) -> None:
    monkeypatch.setattr(api, "require_stage", lambda _, stage, **__: run.folder / stage)
    wide = Run(run.folder, {"run.device": "cpu", "data.window": 3})
    with pytest.raises(UserError, match=rf"numbers \(clips, 3, {VOXELS}\)"):
        wide.decode(np.zeros((2, VOXELS)))


@pytest.mark.parametrize(
    ("named", "more", "said"),
    [
        ([], {}, "there is nothing to read"),
        ("gone.nii", {}, "gone.nii do not exist"),
        ("run.dtseries.nii", {"confounds": ["a.tsv"]}, "a.tsv is not needed"),
        ("run.dtseries.nii", {"start_s": 40.0}, "run.dtseries.nii is too short"),
    ],
)
def test_runs_that_cannot_be_read_are_one_sentence(run: Run, named, more, said) -> None:
    trained_run.write_scans(Path("run.dtseries.nii"), np.ones((9, VERTICES), np.float32))
    with pytest.raises(UserError, match=said):
        run.read_scans(named, **more)
