"""Every command in turn on a small data set, with the embedded networks."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from neuroclips_cli.cli import main as cli
from neuroclips_cli.runs.stage import read_array

SETTINGS = """
profile = "tiny"
dataset = "dataset"

[data]
selection_p = 1.0

[simulate]
train_segments = 6
test_segments = 2
clips_per_segment = 14
test_clips_per_segment = 8
test_repetitions = 3
reliability = 0.4

[train_pr]
epochs = 2
validation_segments = [6]

[train_sr]
contrastive_epochs = 1
prior_epochs = 1
contrastive_batch_size = 40
prior_batch_size = 40
validation_segments = [6]

[reconstruct]
steps = 2
keyframe_steps = 1
keyframe_candidates = 2

[fuse]
epochs = 2

[evaluate]
bootstrap_samples = 100
shuffles = 2
"""


FORMATS = Path(__file__).parents[2] / "docs" / "reference" / "file-formats.md"


def undescribed(folder: Path) -> set[str]:
    """Return the names of files that the page of file formats does not list."""
    page, missing = FORMATS.read_text("utf-8"), set()
    for path in folder.rglob("*"):
        if path.is_dir() or any(part.startswith(".") for part in path.parts):
            continue
        name = re.sub(r"-[0-9a-f]{16}\.", "-*.", path.name)
        name = re.sub(r"tfevents\..*", "tfevents.*", name)
        name = re.sub(r"-\d{4}\.mp4", "-0000.mp4", name)
        name = re.sub(r"(?:seg|test)\d+_\d+_", "seg1_1_", name)
        name = re.sub(r"(seg|test)\d+\.", r"\g<1>1.", name)
        if name not in page:
            missing.add(name)
    return missing


@pytest.mark.slow
def test_the_commands_pass_artifacts_from_the_brain_to_the_report(tmp_path: Path):
    Path("neuroclips.toml").write_text(SETTINGS)
    for words in (
        ["simulate", "dataset"],
        ["preprocess"],
        ["train-pr"],
        ["train-sr"],
        ["reconstruct"],
        ["reconstruct", "--without", "keyframe", "--clips", "0:4"],
        ["fuse", "--clips", "0:6"],
        ["evaluate"],
        ["evaluate", "--run", "reconstruct-without-keyframe"],
        ["evaluate", "--run", "fuse"],
        ["controls", "--only", "frozen-keyframe,nearest-training-clip"],
        ["report"],
        ["status", "--verify"],
    ):
        assert cli.run(words) == 0, words

    run = Path("runs/sub-01")
    clips = read_array(run / "reconstruct" / "clips.npy")
    assert clips.shape == (16, 16, 64, 64, 3)
    assert clips.dtype == np.uint8
    assert len({clip.tobytes() for clip in np.asarray(clips)}) == 16
    assert len(list((run / "reconstruct" / "videos").glob("*.mp4"))) == 16
    with (run / "reconstruct" / "captions.csv").open() as stream:
        assert all(row["caption"] for row in csv.DictReader(stream))
    metrics = json.loads((run / "evaluate" / "metrics.json").read_text())
    for name in ("video_2way", "video_50way", "clip_pcc", "frame_2way", "frame_50way", "ssim"):
        low, high = metrics["metrics"][name]["ci95"]
        assert low <= metrics["metrics"][name]["mean"] <= high
        assert metrics["metrics"][name]["n"] == 16
    assert "psnr" in metrics["controls"]["shuffled_fmri"]
    assert metrics["protocol"]["evaluators"] == "synthetic-dataset evaluators"
    fused = json.loads((run / "evaluate-fuse" / "metrics.json").read_text())
    assert fused["metrics"]["video_2way"]["n"] == 6
    page = (run / "report" / "index.html").read_text()
    assert "synthetic-dataset evaluators" in page and "frozen-keyframe" in page
    assert "http://" not in page.replace("http://www.w3.org", "")

    before = (run / "reconstruct" / "manifest.json").read_bytes()
    assert cli.run(["reconstruct"]) == 0
    assert (run / "reconstruct" / "manifest.json").read_bytes() == before
    assert not undescribed(Path("runs")) | undescribed(Path("dataset"))
