"""Decoding accuracy of the synthetic dataset at several TRs and windows of volumes.

The same films and brains are recorded in cc2017's form (one volume per 2 s clip) and as
``simulate --layout fmriprep`` records them at TR 0.8, 1.0, 1.49 and 2.0 s. Responses are read as
``preprocess`` reads them, from 1, 3 and 5 volumes per clip at the true delay, and from 1 at the
paper's delay of 4 s; voxels are selected by their reproducibility. The tokens of the test clips are
decoded by the ridge regression in closed form that ``train-sr`` begins with (profile ``tiny``), and
measured by identification among clips of other scenes (chance .5) and by the nearest class (kind of
object, chance .1; setting, chance .167). Intervals: 95 %, bootstrap over the test films' scenes.

Run it from the repository: ``python examples/practice_timing.py --seeds 0 1 2``.
Writes Markdown to standard output, one line per seed as soon as it is known to standard error.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.backbones.clip import load_clip
from neuroclips_cli.settings.load import Settings, load_settings
from neuroclips_cli.signal.clip_times import at_positions, response_positions, span
from neuroclips_cli.signal.detrend import standardize
from neuroclips_cli.signal.reproducibility import (
    mean_over_repetitions,
    select_voxels,
    voxel_reproducibility,
)
from neuroclips_cli.simulation import synthetic_world
from neuroclips_cli.simulation.dataset import film_features
from neuroclips_cli.simulation.films import FilmPlan
from neuroclips_cli.simulation.hemodynamics import best_delay_s
from neuroclips_cli.simulation.layouts import LAYOUTS, Layout
from neuroclips_cli.simulation.layouts.base import Recording, Scan
from neuroclips_cli.simulation.scanner import FilmFeatures, Subject, scale_of
from neuroclips_cli.training.cross_fitted_ridge import cross_fit_pool, joint_targets

FORMS = (
    ("cc2017", 2.0),
    ("fmriprep", 0.8),
    ("fmriprep", 1.0),
    ("fmriprep", 1.49),
    ("fmriprep", 2.0),
)
WINDOWS = (1, 3, 5)
AXES = 128
"""Principal axes of the targets that are decoded; further ones hold hardly any variance."""
PAPER_DELAY_S = 4.0
DRAWS = 1000


@dataclass(frozen=True)
class World:
    """Films of one seed, and what is decoded of them.

    Attributes
    ----------
    plans, features
        Of every film, in order: training films first.
    tokens : float32 (clips, tokens, dim)
        CLIP tokens of the frame in the middle of every clip.
    text : float32 (clips, dim)
        Embeddings of the captions.
    film, scene, kind, setting : int (clips,)
        Which film and scene a clip shows, and what.
    train : bool (clips,)
    """

    plans: list[FilmPlan]
    features: dict[str, FilmFeatures]
    tokens: NDArray[np.float32]
    text: NDArray[np.float32]
    film: NDArray[np.int64]
    scene: NDArray[np.int64]
    kind: NDArray[np.int64]
    setting: NDArray[np.int64]
    train: NDArray[np.bool_]


def scan_of(settings: Settings, layout: str, tr_s: float) -> tuple[Layout, Scan]:
    """Return a layout, and the settings of scans at one TR."""
    known = LAYOUTS[layout]
    simulate = replace(settings.simulate, layout=layout, tr_s=tr_s)
    return known, known.scan(simulate, settings.data)


def draw_world(settings: Settings, seed: int) -> World:
    """Draw the films, look at them as a brain does, and encode their clips."""
    layout, scan = scan_of(settings, "cc2017", 2.0)
    plans = layout.plans(scan, seed)
    size, clip_s = settings.simulate.stimulus_size, settings.data.clip_s
    features = {plan.name: film_features(plan, size) for plan in plans}
    frames, captions, rows = [], [], []
    for number, plan in enumerate(plans):
        film = plan.film
        if film is None:
            raise SystemExit("the films are not of the synthetic world")
        for clip in range(round(plan.duration_s / clip_s)):
            middle = (clip + 0.5) * clip_s
            place = film.scene_index(middle)
            scene = film.scenes[place]
            at = np.array([middle - film.starts_s[place]])
            frames.append(synthetic_world.render_scene(scene, at, size)[0])
            captions.append(synthetic_world.caption(scene))
            rows.append((number, 1000 * number + place, scene.kind, scene.setting))
    clip = load_clip(settings.backbones.clip)
    tokens = np.concatenate([clip.tokens(np.stack(part)) for part in _pieces(frames)])
    names = np.array([plan.name.startswith("seg") for plan in plans])
    film_of, scene_of, kind, setting = np.array(rows).T
    return World(
        plans,
        features,
        np.asarray(tokens, np.float32),
        np.asarray(clip.text_embeddings(captions), np.float32),
        film_of,
        scene_of,
        kind,
        setting,
        names[film_of],
    )


def _pieces(frames: list[NDArray[np.uint8]]) -> list[list[NDArray[np.uint8]]]:
    return [frames[start : start + 64] for start in range(0, len(frames), 64)]


class Form:
    """The scans of one subject in one form."""

    def __init__(self, settings: Settings, world: World, seed: int, layout: str, tr_s: float):
        self.settings, self.world = settings, world
        known, self.scan = scan_of(settings, layout, tr_s)
        recordings = known.recordings(1, self.scan)
        cortex = known.cortex(self.scan)
        subject = Subject(
            1,
            seed,
            cortex,
            world.features,
            scale_of(world.features),
            self.scan.simulate,
            settings.data,
            (one.timeline for one in recordings),
        )
        self.runs: dict[str, list[tuple[Recording, NDArray[np.float32]]]] = {}
        for one in recordings:
            (shown,) = one.timeline.shown
            series = subject.record(one.timeline, one.name)[:, cortex]
            self.runs.setdefault(shown.film, []).append((one, series))
        self.selected = self._select()

    def _select(self) -> NDArray[np.bool_]:
        """Test every vertex's reproducibility over the training films."""
        scores, order = [], self.settings.data.detrend_order
        for film, runs in self.runs.items():
            if film.startswith("seg"):
                (shown,) = runs[0][0].timeline.shown
                first = int(np.ceil(shown.scan_start_s / self.scan.tr_s))
                stop = int((shown.scan_start_s + shown.duration_s) / self.scan.tr_s)
                scores.append(voxel_reproducibility([s[first:stop] for _, s in runs], order)[0])
        return select_voxels(np.array(scores), self.settings.data.selection_p).selected

    def responses(self, train: bool, window: int, delay_s: float) -> NDArray[np.float32]:
        """Standardized responses, float32 (clips, repetitions, window * voxels)."""
        data, parts = self.settings.data, []
        for film, runs in self.runs.items():
            if film.startswith("seg") != train:
                continue
            (shown,) = runs[0][0].timeline.shown
            positions = response_positions(
                round(shown.duration_s / data.clip_s),
                start_s=shown.scan_start_s,
                clip_s=data.clip_s,
                delay_s=delay_s,
                tr_s=self.scan.tr_s,
                window=window,
            )
            positions = np.clip(positions, 0, len(runs[0][1]) - 1)
            over = span(positions)
            read = []
            for _, series in runs:
                z, _ = standardize(series[over][:, self.selected], data.detrend_order)
                values = at_positions(z, (positions - over.start).ravel(), "cubic")
                read.append(values.reshape(len(positions), -1).astype(np.float32))
            parts.append(np.stack(read, axis=1))
        return np.concatenate(parts)


def decode(form: Form, window: int, delay_s: float) -> NDArray[np.float64]:
    """Decode the tokens of the test clips, float64 (clips, tokens * dim)."""
    world, train = form.world, form.world.train
    targets = joint_targets(world.tokens[train], world.text[train])
    center = targets.mean(axis=0)
    _, _, axes = np.linalg.svd(targets - center, full_matrices=False)
    axes = axes[:AXES]
    scans = form.responses(True, window, delay_s)
    part = (scans, world.film[train], (targets - center) @ axes.T)
    (fit,) = cross_fit_pool([part], AXES)
    test = mean_over_repetitions(form.responses(False, window, delay_s))
    decoded = ((test @ fit.weight.T + fit.bias) @ fit.axes + fit.mean) @ axes + center
    return np.asarray(decoded[:, : world.tokens[0].size], np.float64)


def score(world: World, decoded: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Score every test clip: share of other scenes' clips that fit worse, and right classes."""
    flat = world.tokens.reshape(len(world.tokens), -1).astype(np.float64)
    train, test = world.train, ~world.train
    middle = flat[train].mean(axis=0)
    truth, guess = (_unit(values - middle) for values in (flat[test], decoded))
    fit = guess @ truth.T
    scene = world.scene[test]
    found = {
        "identification": np.array(
            [(fit[i, i] > fit[i, scene != scene[i]]).mean() for i in range(len(fit))]
        )
    }
    for name, classes in (("kind", world.kind), ("setting", world.setting)):
        known = np.unique(classes[train])
        centers = np.stack([flat[train][classes[train] == one].mean(axis=0) for one in known])
        nearest = known[(guess @ _unit(centers - middle).T).argmax(axis=1)]
        found[name] = (nearest == classes[test]).astype(np.float64)
    return found


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def interval(values: NDArray[np.float64], scenes: NDArray[np.int64]) -> tuple[float, float]:
    """95 % interval of the mean by drawing scenes with replacement."""
    rng = np.random.default_rng(0)
    _, place = np.unique(scenes, return_inverse=True)
    total, count = np.bincount(place, values), np.bincount(place)
    drawn = rng.integers(len(total), size=(DRAWS, len(total)))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


Measured = dict[tuple[str, float, int, str], list[dict[str, tuple[float, float, float]]]]


def measure(settings: Settings, seed: int, found: Measured) -> None:
    """Measure all forms, windows and delays with one seed."""
    world = draw_world(settings, seed)
    scenes = world.scene[~world.train]
    for layout, tr_s in FORMS:
        began = time.monotonic()
        form = Form(settings, world, seed, layout, tr_s)
        true_s = best_delay_s(settings.data.clip_s, tr_s)
        for window in WINDOWS:
            delays = {"true": true_s} if window > 1 else {"4 s": PAPER_DELAY_S, "true": true_s}
            for name, delay_s in delays.items():
                values = score(world, decode(form, window, delay_s))
                figures = {
                    measure: (float(each.mean()), *interval(each, scenes))
                    for measure, each in values.items()
                }
                found.setdefault((layout, tr_s, window, name), []).append(figures)
                told = ", ".join(f"{k} {v[0]:.3f}" for k, v in figures.items())
                print(
                    f"seed {seed} {layout} TR {tr_s} window {window} delay {name} "
                    f"({delay_s:.2f} s), {int(form.selected.sum())} voxels: {told}",
                    file=sys.stderr,
                    flush=True,
                )
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def table(found: Measured) -> str:
    """Return Markdown: a line per form, window and delay, with means over seeds."""
    lines = [
        "| form | TR (s) | window | delay | identification | kind | setting |",
        "|---|---|---|---|---|---|---|",
    ]
    for (layout, tr_s, window, delay), seeds in found.items():
        cells = []
        for name in ("identification", "kind", "setting"):
            mean, low, high = np.mean([one[name] for one in seeds], axis=0)
            each = " ".join(f"{one[name][0]:.3f}" for one in seeds)
            cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}] ({each})")
        lines.append(f"| {layout} | {tr_s:g} | {window} | {delay} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    settings = load_settings({"run.profile": "tiny"})
    found: Measured = {}
    for seed in given.seeds:
        measure(settings, seed, found)
    print(f"Seeds {', '.join(map(str, given.seeds))}; {platform.machine()}, {platform.system()}.\n")
    print(table(found))


if __name__ == "__main__":
    main()
