"""Kill, fill and race the commands on a small data set, and compare what they leave.

Commands run in forked children, so that the libraries are imported once; a child is killed as the
kernel's out-of-memory killer or a scheduler would: SIGKILL, at any moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PIPELINE = ("preprocess", "train-pr", "train-sr", "reconstruct", "fuse", "evaluate", "report")
BESIDE = ("interpret", "controls", "train-projector", "simulate")
STAGES = (*PIPELINE, *BESIDE)
RUN = Path("runs") / "sub-01"
OUTPUTS = {
    "controls": (f"{RUN}/*-control-*", f"{RUN}/compare"),
    "train-projector": ("runs/train-projector", "runs/targets/token-means*", "runs/targets/cap*"),
    "simulate": ("made",),
}
"""Where a stage writes, if not in the folder of its name."""

SETTINGS = """
profile = "tiny"
dataset = "{dataset}"
device = "cpu"

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
epochs = 3
checkpoint_every = 1
validation_segments = [6]

[train_sr]
contrastive_epochs = 2
prior_epochs = 2
contrastive_batch_size = 40
prior_batch_size = 40
checkpoint_every = 1
validation_segments = [6]

[reconstruct]
steps = 2
keyframe_steps = 1
keyframe_candidates = 1
batch_size = 4

[train_projector]
epochs = 20
batch_size = 4

[fuse]
epochs = 2

[evaluate]
bootstrap_samples = 50
shuffles = 2
"""
"""Of everything as little as the commands accept; several batches, epochs and checkpoints."""


@dataclass(frozen=True)
class Outcome:
    """How a child ended: its exit code (minus the signal that killed it) and what it said."""

    code: int
    said: str
    seconds: float


def warm_up() -> None:
    """Import what the children need; no threads may be started here."""
    import diffusers  # noqa: F401
    import nibabel  # noqa: F401
    import open_clip  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch
    import torch.utils.tensorboard
    import transformers  # noqa: F401

    from neuroclips_cli.cli import main  # noqa: F401

    torch.set_num_threads(1)


def start(words: Sequence[str], folder: Path) -> int:
    """Start ``neuroclips <words>`` in a folder; return the child's process number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        said = os.open(folder / f"said-{os.getpid()}.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        from neuroclips_cli.cli import main

        code = main.guarded_run(list(words))
    finally:
        os._exit(code)


def finish(child: int, folder: Path, began: float) -> Outcome:
    """Wait for a child."""
    _, status = os.waitpid(child, 0)
    said = folder / f"said-{child}.txt"
    text = said.read_text("utf-8", "replace") if said.exists() else ""
    said.unlink(missing_ok=True)
    return Outcome(os.waitstatus_to_exitcode(status), text, time.monotonic() - began)


def command(words: Sequence[str], folder: Path) -> Outcome:
    """Run a command to its end."""
    began = time.monotonic()
    return finish(start(words, folder), folder, began)


def kill_after(
    words: Sequence[str], folder: Path, seconds: float, how: int = signal.SIGKILL
) -> Outcome:
    """Run a command and send it a signal after some seconds, unless it has ended by then."""
    began = time.monotonic()
    child = start(words, folder)
    while time.monotonic() - began < seconds:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            text = (folder / f"said-{child}.txt").read_text("utf-8", "replace")
            return Outcome(os.waitstatus_to_exitcode(status), text, time.monotonic() - began)
        time.sleep(0.005)
    os.kill(child, how)
    return finish(child, folder, began)


def prepare(folder: Path) -> dict[str, float]:
    """Simulate a data set and run every stage undisturbed; return the seconds of each."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = folder / "dataset"
    (folder / "calm").mkdir(exist_ok=True)
    (folder / "calm" / "neuroclips.toml").write_text(SETTINGS.format(dataset=dataset))
    _captioned_images(folder / "calm" / "images")
    took = {}
    for name, words in [
        ("data set", ["simulate", str(dataset)]),
        *((stage, stage_words(stage)) for stage in STAGES),
    ]:
        outcome = command(words, folder / "calm")
        if outcome.code:
            raise RuntimeError(f"{name} failed undisturbed:\n{outcome.said}")
        took[name] = outcome.seconds
    return took


def stage_words(stage: str) -> list[str]:
    """Return the command of a stage."""
    more = {
        "controls": ["--only", "frozen-frame,vae"],
        "train-projector": ["images"],
        "simulate": ["made"],
    }
    return [stage, *more.get(stage, [])]


def _captioned_images(folder: Path) -> None:
    """Write images with captions in COCO's layout."""
    import numpy as np
    from PIL import Image

    folder.mkdir(exist_ok=True)
    draw = np.random.default_rng(0)
    names = [f"{number:03d}.png" for number in range(40)]
    for name in names:
        Image.fromarray(draw.integers(0, 255, (32, 32, 3)).astype(np.uint8)).save(folder / name)
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    notes = [{"id": n, "image_id": n, "caption": f"a picture {n}"} for n in range(len(names))]
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))


def begin(calm: Path, folder: Path, stage: str, *, link: bool = True) -> Path:
    """Make a working folder in which everything before ``stage`` is done.

    Files are hard links, except with ``link`` false, for another disk where those cannot lead.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(calm / "neuroclips.toml", folder)
    copy = os.link if link else shutil.copy2
    if stage == "train-projector":
        shutil.copytree(calm / "images", folder / "images")  # links share the time of access
    elif stage != "simulate":
        done = PIPELINE if stage in BESIDE else PIPELINE[: PIPELINE.index(stage)]
        for earlier in done:
            shutil.copytree(calm / RUN / earlier, folder / RUN / earlier, copy_function=copy)
    return folder


def fingerprint(folder: Path, stage: str) -> dict[str, str]:
    """Return a digest of every artifact of a stage; times and event logs are left out."""
    found = {}
    roots = [r for pattern in OUTPUTS.get(stage, (f"{RUN}/{stage}",)) for r in folder.glob(pattern)]
    for path in sorted(f for root in roots for f in (root, *root.rglob("*")) if f.is_file()):
        name = path.relative_to(folder).as_posix()
        if "events.out.tfevents" in name or ".locks" in path.parts:
            continue
        content = path.read_bytes()
        if path.name == "manifest.json":
            record = json.loads(content)
            kept = {key: record[key] for key in ("state", "facts", "determined_by", "seed")}
            content = json.dumps(kept, sort_keys=True).encode()
        elif path.name == "metrics.jsonl":
            lines = [json.loads(line) for line in content.splitlines()]
            content = json.dumps([{**line, "seconds": 0} for line in lines]).encode()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def differing(calm: Path, folder: Path, stage: str) -> list[str]:
    """Name the artifacts of a stage that differ between two folders."""
    first, second = fingerprint(calm, stage), fingerprint(folder, stage)
    return [n for n in sorted({*first, *second}) if first.get(n) != second.get(n)]


def moments(seed: int, count: int, seconds: float) -> list[float]:
    """Draw moments to strike at, between the start and a bit after the end."""
    draw = random.Random(seed)
    return [draw.uniform(0.0, 1.02 * seconds) for _ in range(count)]
