"""A command that is refused leaves no folder, no file and no earlier work changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import fake_run
from helpers.simulation_world import SMALL, copy_of, simulated

from neuroclips_cli.cli.main import run
from neuroclips_cli.runs import model_card
from neuroclips_cli.runs.model_card import ModelCard
from neuroclips_cli.runs.pipeline import BY_NAME, PIPELINE
from neuroclips_cli.runs.stage import open_stage
from neuroclips_cli.settings.load import replace_settings

PREPROCESS = [f"--set={key}={value}" for key, value in SMALL.items() if key.startswith("data.")]
PREPROCESS += ["--set", "data.selection_p=1e-300"]
COMMANDS = {
    "simulate": ["simulate", "data"],
    "preprocess": ["preprocess", "--dataset", "data", *PREPROCESS],
    "train-pr": ["train-pr", "--set", "train_pr.validation_segments=[99]"],
    "train-projector": ["train-projector", "images"],
    "train-sr": ["train-sr", "--set", "train_sr.validation_segments=[99]"],
    "adapt": ["adapt", "--subject", "2", "--from", "pool-03-04", "--minutes", "999"],
    "reconstruct": ["reconstruct"],
    "decode": ["decode", "scans.npy"],
    "fuse": ["fuse"],
    "evaluate": ["evaluate"],
    "controls": ["controls"],
    "compare": ["compare", "a.json", "b.json"],
    "interpret": ["interpret"],
    "report": ["report"],
}
"""Of every stage a command that is refused when its folder is open already."""
FINISHED = ("train-pr", "train-sr", "reconstruct", "evaluate")


@pytest.fixture
def home(tmp_path):
    """Two subjects whose stages are finished as far as manifests know; the networks are none."""
    chosen = fake_run.settings(tmp_path / "runs")
    for subject in (1, 2):
        own = replace_settings(chosen, {"run.subject": subject})
        with open_stage(own, "preprocess", inputs={}) as stage:
            for split in ("train", "test"):
                stage.write_array(f"fmri_{split}.npy", np.zeros((4, 2, 3), np.float32))
                stage.write_array(f"frames_{split}.npy", np.zeros((4, 6, 16, 16, 3), np.uint8))
            header = ["clip", "split", "segment", "onset_s", "volume", "crosses_scene"]
            rows = [[i, "train", 1, 2 * i, i, 0, "", ""] for i in range(4)]
            with stage.atomic("selection.npz") as path:
                np.savez(path, index=np.arange(3), columns=np.arange(3), selected=np.ones(3, bool))
            stage.write_text("selection.dscalar.nii", "no image")
            stage.write_csv("clips.csv", [*header, "scene", "caption"], rows)
    for home, names in ({}, FINISHED), ({"run.decoder": "pool-03-04"}, FINISHED[:2]):
        own = replace_settings(chosen, home)
        for name in names:
            with open_stage(own, name, sections=BY_NAME[name].settings, inputs={}) as stage:
                stage.fact("model", {"voxels": 3, "frames": 6, "latent_shape": [4, 2, 2]})
                stage.write_array("index.npy", np.arange(2))
                for file in ("model.safetensors", "clips.npy", "metrics.json", "per_clip.csv"):
                    stage.write_text(file, "neither tensors nor a table")
                stage.write_json(model_card.NAME, ModelCard(name, "pooled", ()).as_json())
    copy_of(simulated(), tmp_path / "data")
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "scans.npy", np.zeros((4, 2, 7)))
    return tmp_path


def _files(home: Path) -> dict[str, bytes]:
    """Return all files and folders; a lock that lies where others lie is no result."""
    found = [path for path in home.rglob("*") if ".locks" not in path.parts]
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in found}


@pytest.mark.parametrize("name", [spec.name for spec in PIPELINE])
def test_a_refused_command_changes_nothing(home, name, capsys):
    before = _files(home)
    assert run(COMMANDS[name]) == 2
    assert "Error: " in capsys.readouterr().err
    assert _files(home) == before
