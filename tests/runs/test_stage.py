"""Stage folders: finished, stale, interrupted, locked, replaced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from neuroclips_cli.errors import UserError
from neuroclips_cli.runs import manifest
from neuroclips_cli.runs.stage import (
    open_stage,
    read_array,
    read_csv,
    require_stage,
    run_folder,
    sha256,
    stage_state,
)
from neuroclips_cli.settings.load import Settings, load_settings, replace_settings


@pytest.fixture
def dataset(tmp_path) -> Path:
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "seg1.txt").write_text("first")
    return folder


def preprocess(settings: Settings, dataset: Path, **options) -> str:
    """Run a small stage; return what happened."""
    with open_stage(
        settings, "preprocess", sections=["data"], inputs={"dataset": dataset}, **options
    ) as stage:
        if stage.up_to_date:
            return "up to date"
        stage.write_array("a.npy", np.arange(3))
        return "resumed" if stage.resumed else "made"


def train(settings: Settings) -> str:
    source = require_stage(settings, "preprocess", "train-pr")
    with open_stage(
        settings, "train-pr", sections=["train_pr"], inputs={"preprocess": source}
    ) as stage:
        if not stage.up_to_date:
            stage.write_text("model.txt", "weights")
        return "up to date" if stage.up_to_date else "made"


def interrupt(settings: Settings, dataset: Path, error: BaseException) -> None:
    with (
        pytest.raises(type(error)),
        open_stage(settings, "preprocess", sections=["data"], inputs={"dataset": dataset}) as stage,
    ):
        stage.write_text("half.txt", "half")
        stage.fact("voxels", 7)
        raise error


def record(settings: Settings, stage: str = "preprocess") -> dict:
    return json.loads((run_folder(settings) / stage / "manifest.json").read_text())


def test_a_manifest_tells_what_was_made_from_what(settings, dataset):
    assert preprocess(settings, dataset) == "made"
    found = record(settings)
    assert found["state"] == "done"
    assert found["settings"]["run"]["profile"] == "tiny"
    assert found["seed"] == 0
    assert found["outputs"] == {"a.npy": sha256(run_folder(settings) / "preprocess/a.npy")}
    assert found["inputs"]["dataset"]["digest"].startswith("content:")
    assert {"numpy", "torch"} <= set(found["libraries"])
    assert found["start"] <= found["end"]


def test_the_work_folder_is_a_bids_derivative(settings, dataset):
    preprocess(settings, dataset)
    described = json.loads((run_folder(settings).parent / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0]["Name"] == "neuroclips"


def test_an_unchanged_stage_returns_at_once(settings, dataset):
    preprocess(settings, dataset)
    before = record(settings)
    assert preprocess(settings, dataset) == "up to date"
    assert record(settings) == before


def test_tuples_in_extra_do_not_make_a_stage_stale(settings, dataset):
    preprocess(settings, dataset, extra={"clips": (0, 50)})
    assert preprocess(settings, dataset, extra={"clips": (0, 50)}) == "up to date"
    assert preprocess(settings, dataset, extra={"clips": (0, 51)}) == "made"


@pytest.mark.parametrize("key", ["data.delay_s", "run.seed"])
def test_a_changed_setting_makes_the_stage_again(settings, dataset, key):
    preprocess(settings, dataset)
    assert preprocess(replace_settings(settings, {key: 6}), dataset) == "made"


def test_a_setting_of_another_section_does_not_count(settings, dataset):
    preprocess(settings, dataset)
    assert preprocess(replace_settings(settings, {"fuse.epochs": 6}), dataset) == "up to date"


def test_a_changed_input_makes_the_stage_again(settings, dataset):
    preprocess(settings, dataset)
    (dataset / "seg1.txt").write_text("other")
    assert stage_state(settings, "preprocess")[0] == "stale"
    assert preprocess(settings, dataset) == "made"


def test_touching_a_small_input_changes_nothing(settings, dataset):
    preprocess(settings, dataset)
    os.utime(dataset / "seg1.txt", (1, 1))
    assert preprocess(settings, dataset) == "up to date"


def test_a_lost_output_makes_the_stage_again(settings, dataset):
    preprocess(settings, dataset)
    (run_folder(settings) / "preprocess/a.npy").unlink()
    assert stage_state(settings, "preprocess")[1] == ["a.npy is missing"]
    assert preprocess(settings, dataset) == "made"


def test_overwrite_starts_afresh(settings, dataset):
    preprocess(settings, dataset)
    (run_folder(settings) / "preprocess/old.txt").write_text("old")
    assert preprocess(settings, dataset, overwrite=True) == "made"
    assert not (run_folder(settings) / "preprocess/old.txt").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("x"), UserError("x")])
def test_interrupted_work_is_kept_and_resumed(settings, dataset, error):
    interrupt(settings, dataset, error)
    assert stage_state(settings, "preprocess")[0] == "interrupted"
    assert preprocess(settings, dataset) == "resumed"
    assert record(settings)["facts"] == {"voxels": 7}
    assert (run_folder(settings) / "preprocess/half.txt").exists()


def test_partial_work_of_other_settings_is_cleared(settings, dataset):
    interrupt(settings, dataset, RuntimeError("x"))
    assert preprocess(replace_settings(settings, {"data.delay_s": 6}), dataset) == "made"
    assert not (run_folder(settings) / "preprocess/half.txt").exists()


def test_a_failed_replacement_brings_the_earlier_result_back(settings, dataset):
    preprocess(settings, dataset)
    changed = replace_settings(settings, {"data.delay_s": 6})
    with (
        pytest.raises(UserError),
        open_stage(changed, "preprocess", sections=["data"], inputs={"dataset": dataset}),
    ):
        raise UserError("a run is truncated")
    assert preprocess(settings, dataset) == "up to date"


def test_a_refused_run_keeps_partial_work_of_other_settings(settings, dataset, monkeypatch):
    interrupt(settings, dataset, RuntimeError("x"))
    changed = replace_settings(settings, {"data.delay_s": 6})
    for end in (UserError("x"), KeyboardInterrupt()):
        with (
            pytest.raises(type(end)),
            open_stage(changed, "preprocess", sections=["data"], inputs={"dataset": dataset}),
        ):
            raise end
        assert (run_folder(settings) / "preprocess/half.txt").exists()
    asked = []

    def full(folder: Path, size: int) -> None:
        asked.append(size)
        if len(asked) == 2:
            raise UserError("the disk is full")

    monkeypatch.setattr("neuroclips_cli.io.atomic.require_space", full)
    inputs = {"dataset": dataset}
    with open_stage(changed, "preprocess", sections=["data"], inputs=inputs) as stage:
        stage.need_space(7)
    assert len(asked) == 3, "asked again when the partial work had gone"
    assert not (run_folder(settings) / ".replaced").exists()


def test_a_bad_first_run_leaves_nothing(settings, dataset):
    with (
        pytest.raises(UserError),
        open_stage(settings, "preprocess", sections=["data"], inputs={"dataset": dataset}),
    ):
        raise UserError("a run is truncated")
    assert stage_state(settings, "preprocess")[0] == "missing"
    assert not Path(settings.run.workdir).exists()


def test_a_missing_stage_names_the_command_to_run_first(settings):
    with pytest.raises(UserError, match="run `neuroclips preprocess --subject 1 .*first"):
        train(settings)


def test_an_interrupted_stage_is_not_used(settings, dataset):
    interrupt(settings, dataset, RuntimeError("x"))
    with pytest.raises(UserError, match="interrupted"):
        train(settings)


def test_a_stage_is_stale_when_what_it_came_from_was_made_again(settings, dataset):
    preprocess(settings, dataset)
    assert train(settings) == "made"
    assert train(settings) == "up to date"
    with open_stage(settings, "preprocess", sections=[], inputs={}) as stage:
        stage.write_array("a.npy", np.arange(4))
    state, reasons, _ = stage_state(settings, "train-pr")
    assert (state, reasons) == ("stale", ["input preprocess changed"])


def test_a_stage_is_stale_when_its_source_is(settings, dataset):
    preprocess(settings, dataset)
    train(settings)
    (dataset / "seg1.txt").write_text("other")
    state, reasons, _ = stage_state(settings, "train-pr")
    assert (state, reasons) == ("stale", ["preprocess: input dataset changed"])


def test_a_result_outlives_its_data_set_and_a_move(settings, dataset, tmp_path):
    preprocess(settings, dataset)
    train(settings)
    dataset.rename(tmp_path / "gone")
    (tmp_path / "runs").rename(tmp_path / "moved")
    moved = load_settings({"run.workdir": str(tmp_path / "moved")}, environ={})
    assert stage_state(moved, "train-pr")[:2] == ("done", [])


def test_only_what_the_user_chose_contradicts_a_finished_stage(settings, dataset):
    preprocess(replace_settings(settings, {"data.delay_s": 6}), dataset)
    assert require_stage(settings, "preprocess", "train-pr").is_dir()
    chosen = replace_settings(settings, {"data.delay_s": 8})
    with pytest.raises(UserError, match=r"data.delay_s was 6.0, now 8.0"):
        require_stage(chosen, "preprocess", "train-pr")


def test_altered_outputs_are_found_by_their_hashes(settings, dataset):
    preprocess(settings, dataset)
    folder = run_folder(settings) / "preprocess"
    (folder / "a.npy").write_bytes(b"x")
    assert manifest.damaged(folder, record(settings)) == ["a.npy was altered"]


def test_a_second_writer_is_refused_and_told_who_writes(settings, dataset):
    with open_stage(settings, "preprocess", sections=[], inputs={}):
        assert stage_state(settings, "preprocess")[0] == "running"
        with pytest.raises(UserError, match=f"process {os.getpid()} on .* since"):
            preprocess(settings, dataset)
    assert preprocess(settings, dataset) == "made"


def test_a_killed_writer_blocks_nobody(settings, dataset, tmp_path):
    program = textwrap.dedent(
        """
        import os, signal, sys
        from neuroclips_cli.runs.stage import open_stage
        from neuroclips_cli.settings.load import load_settings
        settings = load_settings({"run.workdir": sys.argv[1]}, environ={})
        with open_stage(settings, "preprocess", sections=["data"],
                        inputs={"dataset": sys.argv[2]}) as stage:
            stage.write_text("half.txt", "half")
            (stage.folder / ".torn.1.tmp.npy").write_text("torn")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    arguments = [sys.executable, "-c", program, settings.run.workdir, str(dataset)]
    done = subprocess.run(arguments, cwd=tmp_path, check=False, env=_path_to_source())
    assert done.returncode == -9
    assert stage_state(settings, "preprocess")[0] == "interrupted"
    assert preprocess(settings, dataset) == "resumed"
    assert sorted(p.name for p in (run_folder(settings) / "preprocess").iterdir()) == [
        "a.npy",
        "half.txt",
        "manifest.json",
    ]


def test_a_broken_manifest_is_named(settings, dataset):
    preprocess(settings, dataset)
    (run_folder(settings) / "preprocess/manifest.json").write_text("{")
    with pytest.raises(UserError, match="manifest.json is not valid JSON"):
        preprocess(settings, dataset)


def test_an_array_in_pieces_appears_at_the_end(settings):
    opened = {"settings": settings, "stage": "preprocess", "sections": [], "inputs": {}}
    with (
        pytest.raises(KeyboardInterrupt),
        open_stage(**opened) as stage,
        stage.open_array("a.npy", (4, 2), "float32") as array,
    ):
        array[:2] = 1
        raise KeyboardInterrupt
    assert not (stage.folder / "a.npy").exists()
    with open_stage(**opened) as stage:
        assert stage.resumed
        with stage.open_array("a.npy", (4, 2), "float32") as array:
            array[2:] = 1
    np.testing.assert_array_equal(read_array(stage.folder / "a.npy"), [[0, 0]] * 2 + [[1, 1]] * 2)


def test_tensors_and_tables_come_back(settings):
    import torch
    from safetensors.torch import load_file

    with open_stage(settings, "preprocess", sections=[], inputs={}) as stage:
        weights = torch.arange(6.0).reshape(2, 3).T
        path = stage.write_safetensors("m.safetensors", {"w": weights}, {"kind": "test"})
        assert torch.equal(load_file(path)["w"], weights)
        table = stage.write_csv("t.csv", ["clip", "caption"], [[0, 'a "red" ball, rising']])
        assert read_csv(table) == [{"clip": "0", "caption": 'a "red" ball, rising'}]


def _path_to_source() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
