"""Check voxel selection on simulated brains whose ground truth is known.

Simulates the training runs of many subjects in memory (no files), runs the reproducibility test
of ``preprocess`` on them, and prints how many responding vertices are found and how many silent
ones are selected by mistake::

    python examples/check_selection.py --subjects 20
    python examples/check_selection.py --subjects 20 --signal 0

Takes a few minutes for 20 subjects on two cores.
"""

from __future__ import annotations

import argparse

import numpy as np

from neuroclips_cli.settings.load import Settings, load_settings
from neuroclips_cli.signal.detrend import standardize
from neuroclips_cli.signal.reproducibility import fisher_z, interrun_correlation, select_voxels
from neuroclips_cli.signal.windows import film_window
from neuroclips_cli.simulation.dataset import film_features
from neuroclips_cli.simulation.films import world_plans
from neuroclips_cli.simulation.geometry import brain_models
from neuroclips_cli.simulation.scanner import FilmFeatures, Subject, scale_of


def training_features(settings: Settings) -> dict[str, FilmFeatures]:
    """Render the training films, without writing them, and compute their features."""
    plan, data = settings.simulate, settings.data
    lengths = {
        f"seg{i + 1}": plan.clips_per_segment * data.clip_s for i in range(plan.train_segments)
    }
    films = world_plans(lengths, settings.run.seed)
    return {film.name: film_features(film, plan.stimulus_size) for film in films}


def test_subject(
    subject: Subject, settings: Settings, films: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean Fisher z of every cortical vertex and which are selected."""
    data = settings.data
    scores = []
    for film in films:
        window = film_window(1, settings.simulate.clips_per_segment)
        runs = (subject.run(film, repetition)[window][:, subject.cortex] for repetition in (1, 2))
        first, second = (standardize(run, data.detrend_order)[0] for run in runs)
        scores.append(fisher_z(interrun_correlation(first, second)))
    chosen = select_voxels(np.array(scores), data.selection_p)
    return chosen.mean_z, chosen.selected


def main() -> None:
    """Print one line per subject and the totals."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--subjects", type=int, default=20)
    parser.add_argument("--signal", type=float, default=1.0, help="simulate.signal_scale")
    parser.add_argument("--noise", type=float, default=1.0, help="simulate.noise_scale")
    given = parser.parse_args()
    flags = {"simulate.signal_scale": given.signal, "simulate.noise_scale": given.noise}
    settings = load_settings({"run.profile": "tiny", **flags})
    features = training_features(settings)
    scale = scale_of(features)
    models = brain_models(settings.simulate.grayordinates)
    cortex = np.char.startswith(np.asarray(models.name, str), "CIFTI_STRUCTURE_CORTEX_")
    found = strong = false = 0
    medians = []
    for number in range(1, given.subjects + 1):
        subject = Subject(
            number, settings.run.seed, cortex, features, scale, settings.simulate, settings.data
        )
        truth = subject.ground_truth()
        mean_z, selected = test_subject(subject, settings, list(features))
        above = truth["noise_ceiling"] > 0.3
        found, strong = found + int(selected[above].sum()), strong + int(above.sum())
        wrong = int(selected[~truth["responding"]].sum())
        false += wrong
        line = f"subject {number}: {int(selected.sum())} selected, {wrong} of them silent"
        if truth["responding"].any():
            r = np.tanh(mean_z[truth["responding"]])
            medians.append(float(np.median(r)))
            low, high = np.quantile(r, [0.05, 0.95])
            line += f"; responding r median {medians[-1]:.3f}, 5-95 % {low:.3f} to {high:.3f}"
            line += f"; ceiling > 0.3 found {selected[above].mean():.1%}"
        print(line, flush=True)
    print(f"total: {false} silent vertices selected in {given.subjects} subjects")
    if strong:
        print(
            f"total: {found} of {strong} vertices with ceiling > 0.3 found ({found / strong:.1%})"
        )
        print(f"total: median repeat correlation of responding vertices {np.mean(medians):.3f}")


if __name__ == "__main__":
    main()
