"""Decode the synthetic dataset as the paper and as the released code do, one departure at a time.

Every seed is a world of its own: other films, another brain, other weights to begin with. A way
differs from profile ``tiny`` in the named settings alone; what they cannot touch is taken from the
unchanged run of the same seed. Finished parts are not made again, so that an interrupted run goes
on where it stopped::

    python examples/departures_table.py work    # print
    # replace the table of the page
    python examples/departures_table.py work --write docs/results/departures.md

Takes about an hour and a half on one core.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuroclips_cli.metrics.statistics import paired_differences
from neuroclips_cli.protocols.evaluation_config import (
    EVALUATORS,
    EvaluationConfig,
    evaluation_config,
)
from neuroclips_cli.runs.stage import open_stage, read_array, read_csv, require_stage
from neuroclips_cli.settings.load import Settings, load_settings
from neuroclips_cli.stages import preprocess, simulate, train_pr, train_sr
from neuroclips_cli.stages.evaluate import load_evaluators
from neuroclips_cli.stages.reconstruct import Reconstruction

BEGIN, END = "<!-- departures table -->", "<!-- end of departures table -->"
BASE = "tiny"
SMALLER = {"train_pr.epochs": 6, "evaluate.shuffles": 0}
"""What every run has fewer of than the demo."""
CLIPS = "::4"
"""Test clips that keyframes and clips are made of; blurry clips and tokens are made of all."""

WAYS: dict[str, dict[str, Any]] = {
    BASE: {},
    "perception-released": {"perception.backbone": "released"},
    "attention-batch": {"perception.attention": "batch"},
    "contrast-1": {"train_pr.contrast_weight": 1.0},
    "contrast-0": {"train_pr.contrast_weight": 0.0},
    "semantics-released": {"semantics.backbone": "released"},
    "condition-contrastive": {"semantics.prior_condition": "contrastive"},
    "prior-alone": {"train_sr.prior_trains": "prior"},
    "start-blurry": {"reconstruct.keyframe_start": "blurry:1.0"},
    "start-noise": {"reconstruct.keyframe_start": "noise"},
    "blur-released": {"reconstruct.blur_init": "released"},
    "blur-strength-0.8": {"reconstruct.blur_init": "strength:0.8"},
    "blur-strength-0.5": {"reconstruct.blur_init": "strength:0.5"},
}
"""Name of a way -> the settings in which it differs from profile tiny."""


@dataclass(frozen=True)
class Departure:
    """Two ways that are compared, and the product in which they can differ."""

    title: str
    product: str
    paper: str
    other: str


DEPARTURES = (
    Departure("perception backbone: `mixing` / `released`", "blurry", BASE, "perception-released"),
    Departure("attention: `clip` / `batch`", "blurry", BASE, "attention-batch"),
    Departure("Eq. 1 with weight 1 / no contrast", "blurry", "contrast-1", "contrast-0"),
    Departure("Eq. 1 with weight 0.03 (tiny) / no contrast", "blurry", BASE, "contrast-0"),
    Departure("semantics backbone: `mixing` / `released`", "tokens", BASE, "semantics-released"),
    Departure("unCLIP from `blurry:1.0` / `noise`", "keyframe", "start-blurry", "start-noise"),
    Departure("unCLIP from `blurry:0.9` (tiny) / `noise`", "keyframe", BASE, "start-noise"),
    Departure("semantics backbone: `mixing` / `released`", "keyframe", BASE, "semantics-released"),
    Departure("`eq5` / `released`", "clip", BASE, "blur-released"),
    Departure("`eq5` / `strength:0.8`", "clip", BASE, "blur-strength-0.8"),
    Departure("`eq5` / `strength:0.5`", "clip", BASE, "blur-strength-0.5"),
    Departure("condition: `backbone` / `contrastive`", "keyframe", BASE, "condition-contrastive"),
    Departure("phase 2 trains: `all` / `prior`", "keyframe", BASE, "prior-alone"),
)


def changed(way: str, *sections: str) -> bool:
    """Tell whether a way differs from profile tiny in one of these sections."""
    return any(key.split(".")[0] in sections for key in WAYS[way])


def settings_of(work: Path, seed: int, way: str) -> Settings:
    """Return the settings of one way and seed, with a work folder of its own."""
    world = work / f"seed-{seed}"
    places = {"run.dataset": str(world / "dataset"), "run.workdir": str(world / way)}
    fixed = {"run.profile": "tiny", "run.variant": "paper", "run.seed": seed}
    return load_settings({**fixed, **places, **SMALLER, **WAYS[way]}, folder=world)


def prepare(work: Path, seed: int, way: str) -> Settings:
    """Train what the way changes, and link the rest from the unchanged run."""
    settings = settings_of(work, seed, way)
    if way == BASE:
        simulate.run(settings, Path(settings.run.dataset))
        preprocess.run(settings)
        train_pr.run(settings)
        train_sr.run(settings)
        return settings
    prepare(work, seed, BASE)
    own_pr, own_sr = changed(way, "perception", "train_pr"), changed(way, "semantics", "train_sr")
    world = work / f"seed-{seed}"
    _link(world / BASE / "targets", world / way / "targets")
    for stage, own in (("preprocess", False), ("train-pr", own_pr), ("train-sr", own_sr)):
        if not own:
            _link(world / BASE / "sub-01" / stage, world / way / "sub-01" / stage)
    if own_pr:
        train_pr.run(settings)
    if own_sr:
        train_sr.run(settings)
    return settings


def _link(there: Path, here: Path) -> None:
    here.parent.mkdir(parents=True, exist_ok=True)
    if not here.is_symlink():
        here.symlink_to(there.resolve(), target_is_directory=True)


Columns = dict[str, np.ndarray]
"""Metric -> float64 (clips,)."""


@dataclass(frozen=True)
class Decoding:
    """One product of one way, about to be made and measured."""

    settings: Settings
    parts: Reconstruction
    data: Path
    evaluators: Callable[[], Any]

    def frames(self) -> np.ndarray:
        """Return what was shown, uint8 (clips, frames, h, w, 3)."""
        shown = read_array(self.data / "frames_test.npy")
        return np.stack([shown[number] for number in self.parts.numbers])

    def blurry(self) -> Columns:
        """Compare blurry clips with what was shown."""
        from neuroclips_cli.metrics import pixel

        made, true = np.asarray(self.parts.blurry()), self.frames()
        flat = [clips.reshape(len(clips), -1).astype(float) for clips in (made, true)]
        return {
            "ssim": pixel.ssim(made, true).mean(axis=1),
            "psnr": pixel.psnr(made, true).mean(axis=1),
            "pixel correlation": np.array(
                [np.corrcoef(*pair)[0, 1] for pair in zip(*flat, strict=True)]
            ),
        }

    def tokens(self) -> Columns:
        """Retrieve what was shown among all test clips."""
        from neuroclips_cli.metrics.retrieval import KeyframeTokens, retrieve

        self.parts.tokens()
        brain = read_array(self.parts.stage.folder / "tokens_brain.npy")
        shown = KeyframeTokens(self.frames(), np.arange(len(brain)), self.evaluators().clip)
        return retrieve(brain, shown, len(brain), shuffles=0, seed=0).metrics

    def keyframe(self) -> Columns:
        """Evaluate keyframes beside the middle frame of what was shown."""
        from neuroclips_cli.metrics.nway import nway_accuracy

        made = np.asarray(self.parts.keyframes(self.parts.tokens(), self.parts.blurry()))
        true = self.frames()
        middle, evaluators = true[:, true.shape[1] // 2], self.evaluators()
        classes = evaluators.image.probabilities(middle).argmax(axis=1)
        scores = evaluators.image.probabilities(made)
        seen = [evaluators.clip.image_embeddings(frames) for frames in (made, middle)]
        unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in seen]
        found = {
            f"frame_{n}way": nway_accuracy(scores, classes, n) for n in self.settings.evaluate.ways
        }
        return {**found, "CLIP similarity": (unit[0] * unit[1]).sum(axis=1)}

    def clip(self) -> Columns:
        """Evaluate clips as ``neuroclips evaluate`` does."""
        from neuroclips_cli.data.resample import ArrayClips
        from neuroclips_cli.metrics import evaluation

        tokens, blurry = self.parts.tokens(), self.parts.blurry()
        keyframes = self.parts.keyframes(tokens, blurry)
        made = self.parts.clips(blurry, keyframes, self.parts.captions(keyframes, tokens))
        plan, own = how(self.settings), np.arange(len(made))
        true = self.frames()
        rate = true.shape[1] / self.settings.data.clip_s
        pair = (
            ArrayClips(made, own, self.settings.reconstruct.fps, plan.fps, plan.size),
            ArrayClips(true, own, rate, plan.fps, plan.size),
        )
        found = evaluation.measure(
            *pair, self.evaluators(), evaluation.MeasureOptions(plan.ways, shuffles=0)
        )
        return found.metrics


def decode(work: Path, seed: int, way: str, product: str) -> None:
    """Make and measure one product; a finished one is left as it is."""
    from neuroclips_cli.data.clip_table import parse_clips

    settings = prepare(work, seed, way)
    name = f"departure-{product}"
    stages = ("preprocess", "train-pr", "train-sr")
    inputs = {stage: require_stage(settings, stage, needed_by=name) for stage in stages}
    scans = read_array(inputs["preprocess"] / "fmri_test.npy")
    chosen = CLIPS if product in ("keyframe", "clip") else "0:"
    numbers = parse_clips(chosen, len(scans))
    sections = ("reconstruct", "backbones", "data", "evaluate")
    extra = {"clips": chosen}
    with open_stage(settings, name, sections=sections, inputs=inputs, extra=extra) as stage:
        if stage.up_to_date:
            return
        same_keyframes = product == "clip" and list(WAYS[way]) == ["reconstruct.blur_init"]
        if same_keyframes:  # only what comes after them is another
            for made in ("blurry.npy", "tokens_prior.npy", "keyframes.npy", ".captions.json"):
                shutil.copy(work / f"seed-{seed}" / BASE / "sub-01" / name / made, stage.folder)
        parts = Reconstruction(settings, stage, inputs, scans[numbers], numbers)
        table = [row for row in read_csv(inputs["preprocess"] / "clips.csv") if is_test(row)]
        decoding = Decoding(
            settings,
            parts,
            inputs["preprocess"],
            lambda: load_evaluators(how(settings), EVALUATORS, "cpu", "float32"),
        )
        columns: Columns = getattr(decoding, product)()
        rows = [
            [table[number]["clip"], table[number]["scene"], *(v[i] for v in columns.values())]
            for i, number in enumerate(numbers)
        ]
        stage.write_csv("per_clip.csv", ["clip", "scene", *columns], rows)


def is_test(row: Mapping[str, str]) -> bool:
    """Tell whether a line of clips.csv is about a test clip."""
    return row["split"] == "test"


Measured = dict[str, list[dict[str, str]]]
"""Seed -> the lines of a per_clip.csv."""


def compared(title: str, paper: Measured, other: Measured) -> list[list[str]]:
    """Return the table's lines about two ways, one a metric.

    Clips are paired within their seed, and all pairs are pooled; the interval is that of the mean
    difference when whole scenes are drawn again. Neither way is called better unless the interval
    excludes zero and the difference has one sign in every seed.
    """
    names = [name for name in next(iter(paper.values()))[0] if name not in ("clip", "scene")]
    for seed, rows in paper.items():
        if [row["clip"] for row in rows] != [row["clip"] for row in other[seed]]:
            raise ValueError(f"{title}: the two ways of seed {seed} are about different clips")
    scenes = np.array([f"{seed} {row['scene']}" for seed, rows in paper.items() for row in rows])
    seeds = np.array([seed for seed, rows in paper.items() for _ in rows])

    def columns(measured: Measured) -> Columns:
        lines = [row for seed in paper for row in measured[seed]]
        return {name: np.array([float(row[name]) for row in lines]) for name in names}

    first, second = columns(paper), columns(other)
    lines = []
    for name, found in paired_differences(first, second, scenes).items():
        low, high = found.summary.ci95_scenes or found.summary.ci95
        each = [float((first[name] - second[name])[seeds == seed].mean()) for seed in paper]
        agreed = all(d > 0 for d in each) or all(d < 0 for d in each)
        better = "neither"
        if agreed and not low <= 0 <= high:
            better = "first" if found.summary.mean > 0 else "second"
        values = f"{first[name].mean():.3f} | {second[name].mean():.3f}"
        span = f"{found.summary.mean:+.3f} [{low:+.3f}, {high:+.3f}]"
        signs = ", ".join(f"{d:+.3f}" for d in each)
        lines.append([title, name, values, span, signs, better])
    return lines


def table(lines: Sequence[Sequence[str]]) -> str:
    """Return the lines as Markdown."""
    head = (
        "| first / second | metric | first | second | first - second [95 %] | each seed | better |"
    )
    body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|---|---|---|---|---|---|---|", *body]) + "\n"


def measured(work: Path, seeds: Sequence[int], way: str, product: str) -> Measured:
    """Read what was measured of one product of one way; seeds that lack it are left out."""
    part = Path(way) / "sub-01" / f"departure-{product}" / "per_clip.csv"
    paths = {str(seed): work / f"seed-{seed}" / part for seed in seeds}
    return {seed: read_csv(path) for seed, path in paths.items() if path.is_file()}


def how(settings: Settings) -> EvaluationConfig:
    """Return how clips of the synthetic dataset are evaluated."""
    return evaluation_config(settings, synthetic=True, scans=True)


def main() -> None:
    """Run what is missing, then print the table or put it between the marks of a document."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("work", type=Path, help="folder of all runs")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--only", nargs="+", default=[], help="blurry, tokens, keyframe or clip")
    options.add_argument("--measured", action="store_true", help="run nothing, show what is there")
    options.add_argument("--write", type=Path, help="document with the table between its marks")
    given = options.parse_args()
    chosen = [d for d in DEPARTURES if not given.only or d.product in given.only]
    jobs = dict.fromkeys((d.product, way) for d in chosen for way in (BASE, d.paper, d.other))
    for product, way in jobs:
        for seed in [] if given.measured else given.seeds:
            print(f"{product} of {way}, seed {seed}", flush=True)
            decode(given.work, seed, way, product)
    lines, missing = [], []
    for one in chosen:
        pair = [measured(given.work, given.seeds, w, one.product) for w in (one.paper, one.other)]
        if all(len(rows) == len(given.seeds) for rows in pair):
            lines += compared(f"{one.title} ({one.product})", *pair)
        else:
            missing.append(f"{one.title} ({one.product})")
    if missing:
        print(f"not measured in every seed: {'; '.join(missing)}", flush=True)
    made = table(lines)
    if given.write is None:
        print(made)
        return
    text = given.write.read_text("utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    given.write.write_text(f"{before}{BEGIN}\n\n{made}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
