"""preprocess --from-release on small tensors of the published layout."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from neuroclips_cli.cli import main as cli
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.load import Settings, load_settings
from neuroclips_cli.stages import preprocess_released
from neuroclips_cli.stages._training_data import training_clips

FILMS, LENGTH, VOXELS, SIZE = {"train": 18, "test": 5}, 3, 11, 14
REPETITIONS = {"train": 2, "test": 10}


def write(folder: Path, *, subject: int = 1, voxels: int = VOXELS, floating: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    rng = torch.Generator().manual_seed(0)
    for split, films in FILMS.items():
        clips = films * LENGTH
        signal = torch.randn(clips, 1, voxels, generator=rng)
        noise = torch.randn(clips, REPETITIONS[split], voxels, generator=rng)
        torch.save(signal + 0.3 * noise, folder / f"subj{subject:02d}_{split}_fmri.pt")
        shape = (clips, 6, 3, SIZE, SIZE)
        frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=rng)
        torch.save(frames / 255 if floating else frames, folder / f"GT_{split}_3fps.pt")
    return folder


def settings_for(workdir: Path, **flags: object) -> Settings:
    named = {key.replace("__", "."): value for key, value in flags.items()}
    base = {"run.workdir": str(workdir), "data.frame_size": SIZE}
    return load_settings({**base, **named}, environ={})


@pytest.mark.parametrize("floating", [True, False])
def test_the_run_folder_is_that_of_raw_data(tmp_path, floating):
    folder = write(tmp_path / "release", floating=floating)
    texts = {"train": [f"a film {n}" for n in range(54)], "test": ["  a  test "] * 15}
    for split, captions in texts.items():
        (folder / f"{split}_captions.json").write_text(json.dumps(captions))
    done = preprocess_released.run(settings_for(tmp_path / "runs"), folder)

    scans = torch.load(folder / "subj01_train_fmri.pt", weights_only=True).numpy()
    assert np.array_equal(np.load(done / "fmri_train.npy"), scans)
    repeated = torch.load(folder / "subj01_test_fmri.pt", weights_only=True).numpy()
    assert np.array_equal(np.load(done / "fmri_test_repetitions.npy"), repeated)
    assert np.allclose(np.load(done / "fmri_test.npy"), repeated.mean(1), atol=1e-6)
    for split, clips in (("train", 54), ("test", 15)):
        frames = np.load(done / f"frames_{split}.npy")
        assert frames.shape == (clips, 6, SIZE, SIZE, 3) and frames.dtype == np.uint8
        given = torch.load(folder / f"GT_{split}_3fps.pt", weights_only=True)
        given = (given * 255).round().byte() if floating else given
        assert np.array_equal(frames, given.permute(0, 1, 3, 4, 2).numpy())
    with np.load(done / "selection.npz", allow_pickle=False) as selection:
        assert selection["selected"].all() and len(selection["index"]) == VOXELS
        assert (np.tanh(selection["mean_z"]) > 0.5).all()
    with (done / "clips.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [r["split"] for r in rows] == ["train"] * 54 + ["test"] * 15
    assert (rows[3]["segment"], rows[3]["onset_s"], rows[3]["volume"]) == ("2", "0", "")
    assert rows[4]["onset_s"] == "2" and rows[4]["caption"] == "a film 4"
    assert rows[54]["clip"] == "0" and rows[54]["caption"] == "a test"

    clips = training_clips(done, (18,))
    assert clips.held_out == (18,) and len(clips.validation) == LENGTH
    assert clips.fmri.shape == (54, 2, VOXELS) and clips.captions[0] == "a film 0"


def test_the_command_reads_it_and_frames_are_resized(tmp_path, capsys):
    folder = write(tmp_path / "release", subject=2)
    words = ["preprocess", "--from-release", str(folder), "--subject", "2"]
    words += ["--set", "data.frame_size=8"]
    assert cli.run(words) == 0
    done = Path("runs/sub-02/preprocess")
    assert np.load(done / "frames_test.npy", mmap_mode="r").shape == (15, 6, 8, 8, 3)
    assert cli.run(words) == 0
    assert "up to date" in capsys.readouterr().err


def problem(tmp_path: Path, folder: Path, **flags: object) -> str:
    with pytest.raises(UserError) as found:
        preprocess_released.run(settings_for(tmp_path / "runs", **flags), folder)
    assert "\n" not in str(found.value)
    assert not (tmp_path / "runs" / "sub-01" / "preprocess" / "fmri_train.npy").exists()
    return str(found.value)


def test_wrong_sizes_and_subjects_are_one_sentence(tmp_path):
    folder = write(tmp_path / "release")
    train = torch.load(folder / "subj01_train_fmri.pt", weights_only=True)

    def with_train(tensor: object) -> str:
        torch.save(tensor, folder / "subj01_train_fmri.pt")
        return problem(tmp_path, folder)

    assert "holds 53 clips" in with_train(train[:53])
    assert "10 repetitions where the train films have 2" in with_train(train.repeat(1, 5, 1))
    assert "those of subject 3 and not of subject 1" in with_train(torch.zeros(54, 2, 9114))
    assert "11" in with_train(torch.zeros(54, 2, 7)) and "7 voxels" in with_train(train[..., :7])
    assert "films of 2 and 3 clips" in with_train_frames(tmp_path, folder, train[:36])
    assert "not a tensor" in with_train([1.0])
    torch.save(train, folder / "subj01_train_fmri.pt")
    assert "(clips, 8, 3, height, width)" in problem(tmp_path, folder, data__frames_per_clip=8)
    content = (folder / "GT_train_3fps.pt").read_bytes()
    (folder / "GT_train_3fps.pt").write_bytes(content[:-500])
    assert "not a whole weight file" in problem(tmp_path, folder)
    (folder / "GT_train_3fps.pt").unlink()
    assert "lacks GT_train_3fps.pt" in problem(tmp_path, folder)
    assert "--from-release" in problem(tmp_path, tmp_path / "nowhere")
    assert "lacks subj03" in problem(tmp_path, folder, run__subject=3)


def with_train_frames(tmp_path: Path, folder: Path, train: torch.Tensor) -> str:
    """Both training files shortened alike: only the test films tell."""
    frames = torch.load(folder / "GT_train_3fps.pt", weights_only=True)
    torch.save(train, folder / "subj01_train_fmri.pt")
    torch.save(frames[: len(train)].clone(), folder / "GT_train_3fps.pt")
    said = problem(tmp_path, folder)
    torch.save(frames, folder / "GT_train_3fps.pt")
    return said


def test_captions_of_the_wrong_number_are_named_and_h5_files_are_read(
    tmp_path, shared, monkeypatch
):
    h5py = pytest.importorskip("h5py", reason="captions as HDF5 need h5py")
    from neuroclips_cli.data.released_captions import caption_file, read_caption_list

    folder = write(tmp_path / "release")
    path = folder / "cc2017_train_captions.h5"
    with h5py.File(path, "w") as file:
        file["Train_captions"] = [f"clip {n}" for n in range(54)]
    assert caption_file(folder, "train") == path and caption_file(folder, "test") is None
    assert read_caption_list(path, 54)[53] == "clip 53"
    with pytest.raises(UserError, match="54 captions for 55 clips"):
        read_caption_list(path, 55)
    published = shared / "data" / "cc2017_test_captions.h5"
    assert read_caption_list(published, 1200)[1] == "a bee on a pink flower"
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"neuroclips\[release\]"):
        read_caption_list(path, 54)


def test_the_authors_own_captions_are_read_and_the_projector_is_named(tmp_path, capsys):
    folder = write(tmp_path / "release")
    for split, films in FILMS.items():
        texts = np.hstack([np.array([f"{split} clip  {n}"]) for n in range(films * LENGTH)])
        torch.save(texts, folder / f"GT_{split}_caption.pt")
        torch.save(torch.zeros(films * LENGTH, 8), folder / f"GT_{split}_caption_emb.pt")
    torch.save({"proj": torch.zeros(8, 4)}, folder / "coco_tokens_avg_proj.pth")
    done = preprocess_released.run(settings_for(tmp_path / "runs"), folder)
    with (done / "clips.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [rows[0]["caption"], rows[53]["caption"]] == ["train clip 0", "train clip 53"]
    assert [row["caption"] for row in rows[54:]] == [f"test clip {n}" for n in range(15)]
    said = " ".join(capsys.readouterr().err.split())
    assert "neuroclips models convert" in said and "coco_tokens_avg_proj.pth" in said
    (folder / "train_captions.json").write_text(json.dumps([f"own {n}" for n in range(54)]))
    preprocess_released.run(settings_for(tmp_path / "runs"), folder)
    assert "own 53" in (done / "clips.csv").read_text()
