"""The small makers of shared/cases: each input is read as its README says, or refused so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neuroclips_cli.cli import main as cli

STUB = """#!{python}
import shutil, sys
if sys.argv[1] != "simulate":
    sys.exit(f"only simulate is expected of a maker, not {{sys.argv[1:]}}")
shutil.copytree({data!r}, sys.argv[2], dirs_exist_ok=True)
"""
"""Stands for ``neuroclips simulate`` in the makers: all of them simulate the same data set."""


@pytest.fixture(scope="session")
def simulated(shared, tmp_path_factory) -> Path:
    """Simulate the makers' data set once; return a folder with a ``neuroclips`` that copies it."""
    root = tmp_path_factory.mktemp("cases")
    sys.path.insert(0, str(shared / "cases"))
    from common import SIZES

    sys.path.remove(str(shared / "cases"))
    assert cli.run(["simulate", str(root / "data"), *SIZES]) == 0
    command = root / "bin" / "neuroclips"
    command.parent.mkdir()
    command.write_text(STUB.format(python=sys.executable, data=str(root / "data")))
    command.chmod(0o755)
    return command.parent


@pytest.fixture
def make(shared, simulated, tmp_path):
    """Run a case's maker in the test's folder; return what it wrote."""

    def made(case: str) -> Path:
        path = f"{simulated}{os.pathsep}{os.environ['PATH']}"
        script = shared / "cases" / case / "make.py"
        target = tmp_path / "made"
        subprocess.run(
            [sys.executable, str(script), str(target)],
            check=True,
            env={**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        return target

    return made


@pytest.fixture
def preprocess(tmp_path, capsys):
    """Run ``preprocess`` on a data set; return exit code, messages and the stage folder."""

    def run(dataset: Path, *more: str) -> tuple[int, str, Path]:
        runs = tmp_path / f"runs-{dataset.name}"
        words = ["preprocess", "--profile", "tiny", "--dataset", str(dataset)]
        capsys.readouterr()
        code = cli.run([*words, "--workdir", str(runs), *more])
        return code, capsys.readouterr().err, runs / "sub-01" / "preprocess"

    return run


def arrays(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path) for path in folder.glob("*.npy")}


def same_results(one: Path, other: Path) -> bool:
    ours, theirs = arrays(one), arrays(other)
    return ours.keys() == theirs.keys() and all(
        np.array_equal(ours[name], theirs[name], equal_nan=True) for name in ours
    )


def test_bundles_as_unpacked(make, preprocess):
    root = make("bundles-as-unpacked")
    code, _, found = preprocess(root / "as_unpacked")
    assert code == 0
    assert same_results(found, preprocess(root / "base")[2])


def test_captions_of_pictures_with_equal_names(make):
    from neuroclips_cli.data.coco_captions import read_captioned

    root = make("captions-of-pictures-with-equal-names")
    images = read_captioned(root)
    assert len(images.paths) == 24
    words = {"train": "a red picture", "val": "a blue picture"}
    for path, captions in zip(images.paths, images.captions, strict=True):
        assert captions == [words[path.parent.name]]
    command = ["train-projector", str(root), "--workdir", "w", "--profile", "tiny"]
    assert cli.run([*command, "--set", "train_projector.epochs=1"]) == 0


def test_folders_behind_links(make, preprocess):
    root = make("folders-behind-links")
    plain = preprocess(root / "far")[2]
    for name in ("films_linked", "runs_linked"):
        code, _, found = preprocess(root / name)
        assert code == 0 and same_results(found, plain), name
    code, said, _ = preprocess(root / "not_fetched")
    link = root / "not_fetched/subject1/fmri/test1/cifti/test1_2_Atlas.dtseries.nii"
    assert code == 2 and str(link) in said.replace("\n", "") and "fetch it" in said
    command = ["train-projector", str(root / "coco"), "--workdir", "w", "--profile", "tiny"]
    assert cli.run([*command, "--set", "train_projector.epochs=1"]) == 0


def test_mask_stored_the_other_way_round(make, preprocess):
    import nibabel as nib

    root = make("mask-stored-the-other-way-round")
    chosen = []
    for name in ("same_order", "other_order"):
        code, _, found = preprocess(root / "data", "--mask", str(root / f"mask_{name}.nii.gz"))
        assert code == 0
        with np.load(found / "selection.npz") as selection:
            chosen.append(selection["index"])
    inside = np.asarray(nib.load(root / "mask_same_order.nii.gz").dataobj).ravel() > 0
    assert np.array_equal(*chosen) and inside[chosen[0]].all() and len(chosen[0]) > 20
    code, said, _ = preprocess(root / "data", "--mask", str(root / "mask_elsewhere.nii.gz"))
    assert code == 2 and said.count("affine") >= 1 and "58" in said and "18" in said


def test_valid_files_called_damaged(make, preprocess):
    root = make("valid-files-called-damaged")
    expected = {
        "old.dlabel.nii": (2, ("CIFTI-1", "wb_command -file-convert -cifti-version-convert")),
        "areas.L.label.gii": (2, ("GIFTI", ".dlabel.nii")),
        "area.dscalar.nii": (0, ()),
        "areas.dlabel.nii": (0, ()),
    }
    for name, (wanted, words) in expected.items():
        code, said, found = preprocess(root / "data", "--mask", str(root / name), "--overwrite")
        assert code == wanted and all(word in " ".join(said.split()) for word in words), said
        if not wanted:
            with np.load(found / "selection.npz") as selection:
                assert selection["index"].max() < 4000 and len(selection["index"]) > 20


def test_time_step_of_the_header_is_wrong(make, preprocess):
    root = make("time-step-of-the-header-is-wrong")
    code, said, _ = preprocess(root / "cifti_1s")
    said = " ".join(said.split())
    assert code == 2 and "--set data.tr_s=2" in said and "delay of 4 s as 4 volumes" in said
    assert "35 volumes of 1 s cannot be the run of a film of 60 s" in said
    code, said, _ = preprocess(root / "cifti_1s", "--set", "data.tr_s=1")
    assert code == 2 and "data.clip_s" in said
    true = preprocess(root / "true")[2]
    code, said, found = preprocess(root / "cifti_1s", "--set", "data.tr_s=2")
    assert code == 0 and "was taken, as you stated" in " ".join(said.split())
    assert same_results(found, true)
    mask = ("--mask", str(root / "mask.nii.gz"))
    code, said, silent = preprocess(root / "volumes_0s", *mask)
    assert code == 0 and "no time between volumes" in " ".join(said.split())
    assert preprocess(root / "volumes_1s", *mask)[0] == 2
    assert np.array_equal(np.load(silent / "fmri_test.npy"), np.load(true / "fmri_test.npy"))


def test_film_cut_without_decoding(make, preprocess, tmp_path):
    from helpers.numbered_films import number, reencoded

    from neuroclips_cli.data.clips import open_clip

    root = make("film-cut-without-decoding")
    code, said, found = preprocess(root / "data")
    assert code == 0 and "rate" not in said
    frames = np.load(found / "frames_test.npy")
    assert [number(frame) for frame in frames[20:].reshape(-1, *frames.shape[2:])] == list(
        range(320, 1520, 10)
    )
    facts = json.loads((found / "manifest.json").read_text())["facts"]
    assert facts["film_decoders"]["test2"] == "PyAV"

    again = root / "again"
    shutil.copytree(root / "data", again)
    reencoded(root / "data" / "stimuli" / "test2.mp4", again / "stimuli" / "test2.mp4")
    responses = [np.load(f / "fmri_test.npy") for f in (found, preprocess(again)[2])]
    assert np.array_equal(*responses, equal_nan=True)
    assert preprocess(root / "data1")[0] == 0
    for clip in range(6):
        opened = open_clip(root / "clips" / f"{clip:04d}.mp4", 2.0)
        assert opened.duration_s == 2.0 and opened.fps == pytest.approx(30)
        shown = [number(frame) for frame in opened.read(3)[0]]
        assert shown == [clip * 60 + n for n in range(0, 60, 10)]


def test_gif_that_holds_a_picture(make, tmp_path):
    root = make("gif-that-holds-a-picture")
    pair = ["--pred", str(root / "pred"), "--gt", str(root / "gt.npy")]
    out = tmp_path / "out"
    assert cli.run(["evaluate", "--profile", "tiny", *pair, "--out", str(out)]) == 0
    metrics = json.loads((out / "metrics.json").read_text())["metrics"]
    assert metrics["ssim"]["mean"] == pytest.approx(1, abs=1e-9)
    assert metrics["psnr"]["mean"] == pytest.approx(100)


@pytest.mark.skipif(sys.platform != "linux", reason="preloads a library that refuses locks")
def test_file_system_without_locks(shared, simulated, tmp_path):
    case = shared / "cases" / "file-system-without-locks" / "nolock.c"
    library = tmp_path / "nolock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, case], check=True)
    data = simulated.parent / "data"
    script = "import sys; from neuroclips_cli.cli.main import main; sys.exit(main())"
    for number in ("37", "524"):
        words = ["preprocess", "--profile", "tiny", "--dataset", str(data)]
        done = subprocess.run(
            [sys.executable, "-c", script, *words, "--workdir", f"runs{number}"],
            env={**os.environ, "LD_PRELOAD": str(library), "FLOCK_ERRNO": number},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 and "gives no locks" in done.stderr, done.stderr


def test_released_scans_with_a_hole(make, tmp_path, capsys):
    root = make("released-scans-with-a-hole")
    capsys.readouterr()
    words = ["--workdir", str(tmp_path / "runs"), "--profile", "tiny"]
    assert cli.run(["preprocess", "--from-release", str(root), *words]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "subj01_train_fmri.pt" in said and "clip 3, repetition 1, voxel 5): left out" in said
    done = tmp_path / "runs" / "sub-01" / "preprocess"
    assert np.load(done / "fmri_train.npy").shape == (216, 2, 299)
    assert np.isfinite(np.load(done / "fmri_train.npy")).all()
    assert np.load(done / "fmri_test.npy").shape == (60, 299)
    with np.load(done / "selection.npz") as selection:
        assert np.flatnonzero(selection["excluded"]).tolist() == [5]
    assert cli.run(["train-pr", *words, "--epochs", "1"]) == 0
