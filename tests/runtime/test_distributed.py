"""Several processes for one command: the same results as one, and restarts with another number."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from neuroclips_cli.models.checkpoint import load_perception, load_semantics
from neuroclips_cli.training.batch_sharding import BatchShard, ConsistentDropout, share_dropout

SETTINGS = """
profile = "tiny"
dataset = "dataset"

[data]
selection_p = 1.0

[simulate]
train_segments = 4
test_segments = 1
clips_per_segment = 12
test_clips_per_segment = 7
test_repetitions = 2
reliability = 0.4

[perception]
dropout = 0.2

[train_pr]
epochs = 3
checkpoint_every = 1
validation_segments = [4]
batch_size = 9

[semantics]
dropout = 0.2

[train_sr]
contrastive_epochs = 2
prior_epochs = 2
contrastive_batch_size = 25
prior_batch_size = 17
checkpoint_every = 1
validation_segments = [4]

[reconstruct]
steps = 2
keyframe_steps = 1
keyframe_candidates = 1
batch_size = 2
"""
COMMANDS = """
import os, sys
from neuroclips_cli.cli.main import guarded_run
from neuroclips_cli.runtime import distributed

part, distributed.destroy_process_group = distributed.destroy_process_group, lambda: None
codes = []
for line in sys.argv[1:]:
    folder, *words = line.split()
    os.chdir(folder)
    codes.append(guarded_run(words))
    print(f"{os.path.basename(folder)} {words[0]} ended with {codes[-1]}", flush=True)
part()
sys.exit(max(codes))
"""
"""Runs commands, each after its folder; processes import torch and find each other once."""
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def _launch(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    source = str(Path(__file__).parents[2])
    paths = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _start(folder: Path, *words: str, processes: int = 1) -> subprocess.Popen[str]:
    launcher = LAUNCHER if processes > 1 else ()
    return _launch(folder, *launcher, "-m", "neuroclips_cli", *words)


def _run(folder: Path, *words: str) -> str:
    running = _start(folder, *words)
    said = running.communicate(timeout=280)[0]
    assert running.returncode == 0, said
    return said


def _copy(world: Path, folder: Path, *stages: str) -> Path:
    """Copy a work folder with those of its stages only."""
    shutil.copytree(world, folder)
    for stage in (folder / "runs/sub-01").iterdir():
        if stage.name not in ("preprocess", *stages) and stage.is_dir():
            shutil.rmtree(stage)
    return folder


def _assert_same_training(one: Path, other: Path) -> None:
    """Compare what two runs of a training decode from the test scans, and their weights.

    AdamW steps along rounding noise where a gradient is zero (the attention's key bias, which
    changes nothing), so that weights are compared less closely than what they do.
    """
    load = load_perception if one.name == "train-pr" else load_semantics
    fmri = torch.from_numpy(np.load(one.parent / "preprocess/fmri_test.npy"))
    decoded = []
    for folder in (one, other):
        with torch.no_grad():
            found = load(folder).eval()(fmri)
        decoded.append(found if isinstance(found, tuple) else (found,))
    for made, wanted in zip(*decoded, strict=True):
        assert float((made - wanted).abs().max() / wanted.abs().max()) < 1e-5
    weights, others = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert weights.keys() == others.keys()
    assert max(float((weights[k] - others[k]).abs().max()) for k in weights) < 5e-5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set, preprocessed, trained and reconstructed by one process."""
    folder = tmp_path_factory.mktemp("processes") / "alone"
    folder.mkdir()
    (folder / "neuroclips.toml").write_text(SETTINGS)
    stages = ("simulate dataset", "preprocess", "train-pr", "train-sr", "reconstruct")
    running = _launch(folder, "-c", COMMANDS, *(f"{folder} {stage}" for stage in stages))
    said = running.communicate(timeout=550)[0]
    assert running.returncode == 0, said
    return folder


@pytest.fixture(scope="module")
def two(world: Path) -> tuple[Path, str]:
    """What two processes do of the same, and refuse: its folder and what they said."""
    root = world.parent
    _copy(world, root / "trained")
    _copy(world, root / "reconstructed", "train-pr", "train-sr")
    _copy(world, root / "few")
    (root / "empty").mkdir()
    (root / "empty/neuroclips.toml").write_text(SETTINGS)
    (root / "commands.py").write_text(COMMANDS)
    commands = (
        *("trained train-pr", "trained train-sr", "reconstructed reconstruct", "empty train-pr"),
        "few train-pr --set train_pr.batch_size=1",
    )
    script = str(root / "commands.py")
    running = _launch(root, *LAUNCHER, script, *(f"{root}/{line}" for line in commands))
    said = running.communicate(timeout=550)[0]
    assert running.returncode != 0, said  # the refusals
    assert "this is a bug" not in said
    return root, said


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_train_as_one(world: Path, two: tuple[Path, str]):
    root, said = two
    for stage in ("train-pr", "train-sr"):
        assert said.count(f"trained {stage} ended with 0") == 2
        alone, together = (f / "runs/sub-01" / stage for f in (world, root / "trained"))
        _assert_same_training(alone, together)
        figures = [(f / "metrics.jsonl").read_text().splitlines() for f in (alone, together)]
        assert len(figures[0]) == len(figures[1])
        for line, other in zip(*(map(json.loads, lines) for lines in figures), strict=True):
            assert line.pop("phase") == other.pop("phase")
            line.pop("seconds"), other.pop("seconds")
            assert other == pytest.approx(line, rel=1e-5, abs=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_reconstruct_as_one_and_write_every_file_once(
    world: Path, two: tuple[Path, str]
):
    root, said = two
    assert said.count("reconstructed reconstruct ended with 0") == 2
    assert said.count("7 clips reconstructed") == 1
    alone, together = (f / "runs/sub-01/reconstruct" for f in (world, root / "reconstructed"))
    for name in ("tokens_brain", "tokens_prior", "blurry", "keyframes", "clips"):
        made, wanted = np.load(together / f"{name}.npy"), np.load(alone / f"{name}.npy")
        assert made.shape == wanted.shape
        np.testing.assert_allclose(made.astype(float), wanted.astype(float), rtol=1e-5, atol=1e-5)
    names = [{str(p.relative_to(f)) for p in f.rglob("*")} for f in (alone, together)]
    assert names[0] == names[1]
    states = [json.loads((f / "manifest.json").read_text()) for f in (alone, together)]
    assert states[0]["outputs"].keys() == states[1]["outputs"].keys()
    assert "up to date" in _run(root / "reconstructed", "reconstruct")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_with_two_processes_and_gone_on_with_one(world: Path, tmp_path: Path):
    killed = _copy(world, tmp_path / "killed")
    running = _start(killed, "train-pr", processes=2)
    last = killed / "runs/sub-01/train-pr/checkpoints/perception-last.safetensors"
    until = time.monotonic() + 200
    while not last.exists() and running.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    assert last.exists()
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    said = _run(killed, "train-pr")
    assert "continuing where it stopped" in said or "up to date" in said
    _assert_same_training(*(f / "runs/sub-01/train-pr" for f in (world, killed)))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_one_process_refuses_two_refuse_with_the_reason(two: tuple[Path, str]):
    said = two[1]
    assert said.count("empty train-pr ended with 2") == 2
    assert "train-pr needs preprocess" in said
    assert said.count("few train-pr ended with 2") == 2
    assert "cannot share batches of 1 clips" in said


def test_shares_cover_a_batch_once_and_dropout_is_that_of_one_process():
    shares = [BatchShard(rank, 3) for rank in range(3)]
    rows = [share.rows(10) for share in shares]
    assert [n for own in rows for n in range(10)[own]] == list(range(10))
    x = torch.randn(20, 4)
    torch.manual_seed(0)
    whole = nn.Dropout(0.5)(x)
    parts = []
    for share, own in zip(shares, rows, strict=True):
        layers = nn.Sequential(nn.Dropout(0.5))
        share_dropout(layers, share)
        assert isinstance(layers[0], ConsistentDropout)
        torch.manual_seed(0)
        parts.append(layers(x[2 * own.start : 2 * own.stop]))
        assert torch.equal(layers.eval()(x), x)
    assert torch.equal(torch.cat(parts), whole)
