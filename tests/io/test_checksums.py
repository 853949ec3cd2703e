"""Damage is found and named before use; hostile names and files stay harmless."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from neuroclips_cli import console
from neuroclips_cli.cli import main as cli
from neuroclips_cli.data.clips import read_clip
from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic, checksums
from neuroclips_cli.io.safetensors import read_tensors
from neuroclips_cli.runs import manifest
from neuroclips_cli.runs.stage import (
    open_stage,
    read_array,
    read_csv,
    require_stage,
    run_folder,
    stage_state,
)
from neuroclips_cli.training.checkpoints import CheckpointManager


@pytest.fixture
def folder(settings) -> Path:
    with open_stage(settings, "preprocess", sections=["data"], inputs={}) as stage:
        stage.write_array("big.npy", np.arange(60_000.0))
        stage.write_csv("clips.csv", ["clip", "caption"], [[0, "a ball"]])
    return run_folder(settings) / "preprocess"


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _edit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_truncate, _edit])
@pytest.mark.parametrize("name", ["big.npy", "clips.csv"])
def test_a_damaged_artifact_is_named_before_it_is_used(settings, folder, damage, name, capsys):
    damage(folder / name) if name == "big.npy" else (folder / name).write_text("clip\n7\n")
    with pytest.raises(UserError, match=rf"preprocess .* is damaged \({name} was altered"):
        require_stage(settings, "preprocess", "train-pr")
    assert cli.run(["status", "--workdir", settings.run.workdir]) == 2
    assert "damaged" in capsys.readouterr().out
    with open_stage(settings, "preprocess", sections=["data"], inputs={}) as stage:
        assert not stage.up_to_date and not stage.resumed


def test_an_edited_manifest_is_named(settings, folder):
    record = json.loads((folder / "manifest.json").read_text())
    record["determined_by"]["sections"]["data"]["tr_s"] = 1.0
    (folder / "manifest.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"manifest\.json was edited"):
        require_stage(settings, "preprocess", "train-pr")


@pytest.mark.parametrize("content", ["[]", "{}", '{"state": 3}', "[" * 100_000, "9" * 5000, "\x00"])
def test_what_is_no_manifest_is_named(settings, folder, content):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json is not (a manifest|valid JSON)"):
        stage_state(settings, "preprocess")


def test_a_change_in_the_middle_of_a_large_file_is_found_by_its_hash(settings, folder, capsys):
    content = bytearray((folder / "big.npy").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "big.npy").write_bytes(content)
    record = manifest.read(folder)
    assert record is not None and checksums.altered(folder, record) == []
    assert cli.run(["status", "--verify", "--workdir", settings.run.workdir]) == 2
    assert "big.npy was altered" in capsys.readouterr().out


def test_a_stage_that_cannot_fit_is_refused_before_it_begins(settings):
    with (
        open_stage(settings, "preprocess", sections=[], inputs={}) as stage,
        pytest.raises(UserError, match="needs about 1.0 PB and .* are free; free at least"),
    ):
        stage.need_space(1e15)


@pytest.mark.parametrize("name", ["../../evil", "a/../b", "/etc", "a b", "", "reconstruct\n"])
def test_a_stage_name_never_leads_out_of_the_run_folder(settings, name):
    with (
        pytest.raises(UserError, match="not the name of a stage"),
        open_stage(settings, name, sections=[], inputs={}),
    ):
        pytest.fail("opened")
    with pytest.raises(UserError, match="not the name of a stage"):
        require_stage(settings, name, "evaluate")


def test_control_characters_never_reach_the_terminal(capsys):
    console.warn("film \x1b[2J\x07evil\x9b.mp4: two\nlines")
    said = capsys.readouterr().err
    assert "\x1b" not in said and "\x07" not in said and "\x9b" not in said
    assert "film \\x1b[2J\\x07evil\\x9b.mp4: two\nlines" in said


class _Marker:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_pickles_are_never_executed(tmp_path, suffix):
    import pickle

    ran = tmp_path / "ran"
    path = tmp_path / f"hostile{suffix}"
    if suffix == ".npy":
        np.save(path, np.array([_Marker(ran)], object), allow_pickle=True)
        with pytest.raises(UserError, match=r"hostile\.npy is not a readable"):
            read_array(path)
    for content in (pickle.dumps(_Marker(ran)), _torch_pickle(tmp_path, ran)):
        path.write_bytes(content)
        with pytest.raises(UserError, match="hostile"):
            (read_array if suffix == ".npy" else read_tensors)(path)
    assert not ran.exists()


def _torch_pickle(folder: Path, ran: Path) -> bytes:
    torch.save({"w": _Marker(ran)}, folder / "x.pt")
    return (folder / "x.pt").read_bytes()


def test_a_damaged_or_foreign_checkpoint_is_named(tmp_path):
    model = torch.nn.Linear(2, 2)
    kept = CheckpointManager(tmp_path, "perception")
    save_file({"model.weight": torch.zeros(2, 2)}, kept.last)
    with pytest.raises(UserError, match="is not a checkpoint of a training"):
        kept.progress()
    kept.save_best(torch.nn.Linear(3, 3))
    with pytest.raises(UserError, match="does not fit the model"):
        kept.load_best(model)
    kept.best.write_bytes(kept.best.read_bytes()[:40])
    with pytest.raises(UserError, match=r"perception-best\.safetensors is not a readable"):
        kept.load_best(model)


def test_a_clip_that_would_fill_the_memory_is_refused(tmp_path):
    from PIL import Image

    folder = tmp_path / "clip"
    folder.mkdir()
    Image.new("L", (12_000, 12_000)).save(folder / "0.png")
    for i in range(1, 4):
        (folder / f"{i}.png").write_bytes((folder / "0.png").read_bytes())
    with pytest.raises(UserError, match=r"take 1\.3 GB or more"):
        read_clip(folder, 2.0)


def test_a_table_that_is_no_text_is_named(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"clip\n\xff\xfe\n")
    with pytest.raises(UserError, match=r"a\.csv is not a comma-separated table in UTF-8"):
        read_csv(tmp_path / "a.csv")


def test_a_full_disk_is_said_before_anything_else_is_lost(tmp_path):
    with pytest.raises(UserError, match="no space left on the disk"):
        atomic.require_space(tmp_path / "not" / "there", 2**60)
