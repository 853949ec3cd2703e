"""Compare ways of adapting a decoder to a new subject, over minutes of its films.

Simulates four subjects who watch synthetic films, trains the Semantics Reconstructor on three of
them, fits it to the fourth in every mode from 5, 10, 20 minutes and all of its training films, and
measures what its scans of the test films are decoded to. `unseen` decodes the fourth by the average
subject of a pool in the voxels that the three have in common, without a training film of its own::

    python examples/adaptation_curves.py adaptation --seeds 0 1 2 --left-out 4

What is there already is not made again. `--table FILE` writes the Markdown table of all results in
the folder. Each clip's contrastive tokens are compared with the CLIP tokens of all test clips
(retrieval) and with the mean tokens of the training clips of each kind of object (kind). Its
keyframe, generated from the prior's tokens without a blurry clip, is compared with the film's
middle frame by the evaluator of the frame metrics (frame 50-way and 2-way).
Differences from `scratch`, trained on the same minutes of the new subject alone (for `unseen`: on
the fewest), are paired by clip; intervals and permutation tests are over scenes, and over seeds,
of which each has other films and brains. With several seeds the last column has the mean of their
differences and its interval by Student's t: what to expect of another seed's films and brains.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import sem
from scipy.stats import t as student

from neuroclips_cli.backbones.clip import load_clip
from neuroclips_cli.generation.decoder import KeyframeGenerator, TokenDecoder
from neuroclips_cli.metrics.retrieval import retrieve
from neuroclips_cli.metrics.semantic import EvaluatorOutputs, run_evaluators
from neuroclips_cli.metrics.statistics import paired_differences, summarize
from neuroclips_cli.runs.stage import read_array, read_csv
from neuroclips_cli.settings.load import Settings, load_settings, replace_settings
from neuroclips_cli.stages import adapt, preprocess, simulate, train_sr
from neuroclips_cli.stages._requests import run_config
from neuroclips_cli.stages.evaluate import load_evaluators

SUBJECTS = (1, 2, 3, 4)
MINUTES = (10.0, 5.0, 20.0, 0.0)
MODES = ("scratch", "ridge", "embedder", "full", "closed-form", "unseen")
UNSEEN = "unseen"
MEASURES = {
    "retrieval_fmri_to_image": "retrieval, top-1 of all test clips",
    "retrieval_fmri_to_image_top5": "retrieval, top-5",
    "kind": "kind of object, one of 10",
    "frame_50way": "keyframe, 50-way",
    "frame_2way": "keyframe, 2-way",
}


def settings_of(folder: Path, seed: int, runs: str = "runs") -> Settings:
    """Profile tiny with four subjects; phase 2 has 4 epochs instead of 20."""
    flags = {
        "run.profile": "tiny",
        "run.seed": seed,
        "run.dataset": str(folder / f"dataset-{seed}"),
        "run.workdir": str(folder / f"{runs}-{seed}"),
        "simulate.subjects": len(SUBJECTS),
        "train_sr.prior_epochs": 4,
    }
    return load_settings(flags, folder=folder, environ={})


class Films:
    """CLIP tokens of the films, which all subjects saw, and what they show.

    Parameters
    ----------
    settings : Settings
        Of a preprocessed subject.
    """

    def __init__(self, settings: Settings) -> None:
        folder = Path(settings.run.workdir) / f"sub-{settings.run.subject:02d}" / "preprocess"
        clip = load_clip(settings.backbones.clip, "cpu", "float32")
        rows = read_csv(folder / "clips.csv")
        kinds = {
            row["scene"]: row["kind"]
            for row in read_csv(Path(settings.run.dataset) / "stimuli" / "scenes.csv")
        }
        config = run_config(settings, folder)
        self.evaluators = load_evaluators(config, ["image_classifier"], "cpu", "float32")
        self.tokens, self.kind, self.scene = {}, {}, {}
        for split in ("train", "test"):
            frames = read_array(folder / f"frames_{split}.npy")
            middle = np.ascontiguousarray(frames[:, frames.shape[1] // 2])
            self.middle = middle
            parts = [clip.tokens(middle[at : at + 64]) for at in range(0, len(middle), 64)]
            self.tokens[split] = np.concatenate([np.asarray(part, np.float32) for part in parts])
            own = [row["scene"] for row in rows if row["split"] == split]
            self.scene[split] = np.array(own)
            self.kind[split] = np.array([kinds[scene] for scene in own])

    def measure(self, decoded: np.ndarray, keyframes: np.ndarray) -> dict[str, np.ndarray]:
        """Return every measure of the test clips, (clips,), from what :func:`decode` returns."""
        shown = self.tokens["test"]
        found = retrieve(decoded, shown, len(shown), shuffles=0, seed=0).metrics
        names = sorted(set(self.kind["train"]))
        means = [self.tokens["train"][self.kind["train"] == name].mean(axis=0) for name in names]
        of_kind = np.stack(means) - self.tokens["train"].mean(axis=0)
        centered = decoded - decoded.mean(axis=0)
        similarity = _unit(centered) @ _unit(of_kind).T
        named = np.array(names)[similarity.argmax(axis=1)]
        said = run_evaluators(keyframes[:, None], self.middle[:, None], self.evaluators, 1)
        outputs = EvaluatorOutputs(lengths=np.ones(len(keyframes), int), **said)
        frames = outputs.accuracies(np.arange(len(keyframes)), (2, 50))
        return {**found, **frames, "kind": (named == self.kind["test"]).astype(float)}


def _unit(rows: np.ndarray) -> np.ndarray:
    flat = rows.reshape(len(rows), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def decode(settings: Settings, decoder: str) -> tuple[np.ndarray, np.ndarray]:
    """Decode the subject's test scans, the mean over their repetitions.

    Returns
    -------
    tuple of numpy.ndarray
        Contrastive tokens, float32 (clips, tokens, dim); keyframes, uint8 (clips, h, w, 3).
    """
    workdir = Path(settings.run.workdir)
    scans = read_array(workdir / f"sub-{settings.run.subject:02d}" / "preprocess" / "fmri_test.npy")
    network = TokenDecoder(settings, workdir / decoder / "train-sr", "cpu", "float32")
    generate = KeyframeGenerator(settings, "cpu", "float32")
    keyframes = []
    for numbers in np.array_split(np.arange(len(scans)), max(len(scans) // 40, 1)):
        keyframes.append(
            generate(network.prior(scans[numbers], numbers.tolist()), numbers.tolist())
        )
    return network.contrastive(scans), np.concatenate(keyframes)


def run_unseen(folder: Path, seed: int, new: int) -> None:
    """Decode a subject by the average of the others, in their voxels in common."""
    where = folder / "values" / f"{seed}_{new}_none_{UNSEEN}.npz"
    if where.exists():
        return
    others = tuple(subject for subject in SUBJECTS if subject != new)
    settings = settings_of(folder, seed, f"common-{new}")
    simulate.run(settings, Path(settings.run.dataset))
    for subject in others:
        preprocess.run(replace_settings(settings, {"run.subject": subject}))
    settings = replace_settings(settings, {"data.common": others})
    for subject in SUBJECTS:
        preprocess.run(replace_settings(settings, {"run.subject": subject}))
    pool = train_sr.run(replace_settings(settings, {"run.subjects": others})).parent
    own = replace_settings(settings, {"run.subject": new})
    _save(where, Films(own), decode(own, pool.name))


def _save(where: Path, films: Films, decoded: tuple[np.ndarray, np.ndarray]) -> None:
    values = films.measure(*decoded)
    where.parent.mkdir(exist_ok=True)
    np.savez(where, scene=films.scene["test"], **values)
    shown = ", ".join(f"{name} {values[name].mean():.3f}" for name in MEASURES)
    print(f"{where.stem}: {shown}", flush=True)


def run_seed(
    folder: Path, seed: int, left_out: Sequence[int], amount: float, modes: Sequence[str]
) -> None:
    """Make and measure what is not there yet of one seed and one amount of film."""
    wanted = [
        (new, mode, folder / "values" / f"{seed}_{new}_{amount:g}_{mode}.npz")
        for new in left_out
        for mode in modes
        if mode != UNSEEN
    ]
    wanted = [one for one in wanted if not one[2].exists()]
    if not wanted:
        return
    settings = settings_of(folder, seed)
    simulate.run(settings, Path(settings.run.dataset))
    for subject in SUBJECTS:
        preprocess.run(replace_settings(settings, {"run.subject": subject}))
    films = Films(replace_settings(settings, {"run.subject": wanted[0][0]}))
    for new, mode, where in wanted:
        others = tuple(subject for subject in SUBJECTS if subject != new)
        own, parent = replace_settings(settings, {"run.subject": new}), ""
        if mode != "scratch":
            parent = train_sr.run(replace_settings(settings, {"run.subjects": others})).parent.name
        made = adapt.run(own, parent=parent, minutes=amount, mode=mode, only="train-sr")
        _save(where, films, decode(own, made.name))


_HEAD = (
    "| minutes | mode | value [95 %] | minus scratch [95 %] | p | of each seed "
    "| their mean [95 %] |"
)


def table(folder: Path) -> str:
    """Return the Markdown tables of all results in the folder."""
    found: dict[tuple[str, str], dict[str, dict[str, np.ndarray]]] = {}
    for path in sorted((folder / "values").glob("*.npz")):
        seed, new, amount, mode = path.stem.split("_")
        with np.load(path, allow_pickle=False) as values:
            found.setdefault((amount, mode), {})[f"{seed} {new}"] = dict(values)
    words = {"none": 0.0, "0": np.inf}
    amounts = sorted({key[0] for key in found}, key=lambda text: float(words.get(text, text)))
    modes = [mode for mode in MODES if any(key[1] == mode for key in found)]
    fewest = next((amount for amount in amounts if (amount, "scratch") in found), "")
    lines = []
    for measure, title in MEASURES.items():
        lines += [f"**{title}**\n", _HEAD, "|---|---|---|---|---|---|---|"]
        for amount in amounts:
            for mode in modes:
                if (amount, mode) in found:
                    same = fewest if mode == UNSEEN else amount
                    base = found.get((same, "scratch"), {}) if mode != "scratch" else {}
                    cells = _cells(measure, found[amount, mode], base)
                    shown = {"none": "0", "0": "all"}.get(amount, amount)
                    lines.append(f"| {shown} | {mode} | {cells} |")
        lines.append("")
    return "\n".join(lines)


def _cells(
    measure: str,
    ours: dict[str, dict[str, np.ndarray]],
    base: dict[str, dict[str, np.ndarray]],
) -> str:
    """Return value and paired difference; a scene of one seed counts once, whoever saw it."""
    values, scenes = _joined(measure, ours, list(ours))
    summary = summarize(values, groups=scenes)
    assert summary.ci95_scenes is not None
    low, high = summary.ci95_scenes
    cells = f"{summary.mean:.3f} [{low:.3f}, {high:.3f}]"
    both = [run for run in ours if run in base]
    if not both:
        return f"{cells} |  |  |  | "
    values, scenes = _joined(measure, ours, both)
    other, _ = _joined(measure, base, both)
    gap = paired_differences({measure: values}, {measure: other}, scenes)[measure]
    assert gap.summary.ci95_scenes is not None
    low, high = gap.summary.ci95_scenes
    p = "<.0001" if gap.p < 1e-4 else f"{gap.p:.4f}"
    seeds = {run.split()[0]: [r for r in both if r.split()[0] == run.split()[0]] for run in both}
    means = [
        float(np.mean(_joined(measure, ours, runs)[0] - _joined(measure, base, runs)[0]))
        for runs in seeds.values()
    ]
    each = ", ".join(f"{mean:+.3f}" for mean in means)
    shown = f"{gap.summary.mean:+.3f} [{low:+.3f}, {high:+.3f}]"
    return f"{cells} | {shown} | {p} | {each} | {over_seeds(means)}"


def over_seeds(means: Sequence[float]) -> str:
    """Return the mean over seeds with Student's interval, in which every seed is one world."""
    if len(means) < 2:
        return ""
    half = float(sem(means) * student.ppf(0.975, len(means) - 1))
    center = float(np.mean(means))
    return f"{center:+.3f} [{center - half:+.3f}, {center + half:+.3f}]"


def _joined(
    measure: str, results: dict[str, dict[str, np.ndarray]], runs: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    values = np.concatenate([results[run][measure] for run in runs])
    seeds = [np.char.add(run.split()[0] + " ", results[run]["scene"]) for run in runs]
    return values, np.concatenate(seeds)


def main() -> None:
    """Run what is asked for, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--left-out", type=int, nargs="+", default=list(SUBJECTS))
    parser.add_argument("--minutes", type=float, nargs="+", default=list(MINUTES))
    parser.add_argument("--modes", nargs="+", default=list(MODES))
    parser.add_argument("--table", type=Path, help="write the table of what is there, run nothing")
    given = parser.parse_args()
    if given.table:
        given.table.write_text(table(given.folder))
        return
    given.folder.mkdir(exist_ok=True)
    for place, amount in enumerate(given.minutes):
        for seed in given.seeds:
            run_seed(given.folder, seed, given.left_out, amount, given.modes)
        for seed in given.seeds if place == 0 and UNSEEN in given.modes else ():
            for new in given.left_out:
                run_unseen(given.folder, seed, new)


if __name__ == "__main__":
    main()
