"""Check that nothing is decoded from brains that see nothing.

Simulates subjects whose scans are noise (``simulate.signal_scale = 0``), each with films, brain
and seed of its own, takes each of them through ``preprocess``, ``train-pr``, ``train-sr``,
``reconstruct`` and ``evaluate`` at a small size, and counts in how many of them the decoded clips
beat a control at the 5 % level (Holm's correction over the metrics)::

    python examples/check_zero_signal.py zero-signal --subjects 20

The one shortcut: ``preprocess`` rightly refuses such scans, as no voxel repeats, so its test is
opened to voxels with p < 0.2. Finished stages are kept, so that the check can be interrupted. Takes
about a minute for each subject on one core.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from neuroclips_cli import console
from neuroclips_cli.settings.load import Settings, load_settings
from neuroclips_cli.stages import (
    compare,
    controls,
    evaluate,
    preprocess,
    reconstruct,
    simulate,
    train_pr,
    train_sr,
)

LEVEL = 0.05
VERTICES = 8000  # cortical vertices of the small brain, which Bonferroni's correction counts
SMALL = {
    "simulate.signal_scale": 0.0,
    "simulate.train_segments": 6,
    "simulate.test_segments": 4,
    "simulate.clips_per_segment": 30,
    "simulate.test_clips_per_segment": 30,
    "simulate.test_repetitions": 2,
    "train_pr.epochs": 3,
    "train_pr.validation_segments": [6],
    "train_sr.contrastive_epochs": 3,
    "train_sr.prior_epochs": 5,
    "train_sr.validation_segments": [6],
    "reconstruct.steps": 3,
    "reconstruct.keyframe_steps": 4,
    "reconstruct.keyframe_candidates": 1,
    "evaluate.bootstrap_samples": 200,
}
CLIPS = ",".join(str(clip) for clip in range(0, 120, 4))
MADE = ("mean-frame", "nearest-training-clip")
CONTROLS = ("evaluate:shuffled", *(f"evaluate-control-{name}" for name in MADE))


def settings_of(folder: Path, subject: int) -> Settings:
    """Return the settings of one subject's data set, seed and run folder."""
    home = folder / f"subject-{subject:02d}"
    places = {"run.dataset": str(home / "dataset"), "run.workdir": str(home / "runs")}
    chosen = load_settings({**SMALL, **places, "run.seed": subject}, folder=folder, environ={})
    return replace(chosen, data=replace(chosen.data, selection_p=0.2 * VERTICES))


def decode(settings: Settings) -> None:
    """Simulate one subject and decode its test films."""
    simulate.run(settings, Path(settings.run.dataset))
    preprocess.run(settings)
    train_pr.run(settings)
    train_sr.run(settings)
    reconstruct.run(settings, clips=CLIPS)


def beaten(settings: Settings) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Return control -> metric -> (run minus control, p, p corrected by Holm)."""
    evaluate.run(settings)
    controls.run(settings, MADE)
    compared = compare.run(settings, ["evaluate", *CONTROLS], kind="csv", overwrite=True)
    return {
        control: {
            name: (-found.summary.mean, found.p, found.p_holm)
            for name, found in one.differences.items()
        }
        for control, one in zip(CONTROLS, compared[1:], strict=True)
    }


def tally(
    found: list[dict[str, dict[str, tuple[float, float, float]]]],
) -> list[tuple[str, int, dict[str, int]]]:
    """Return for each control: in how many subjects it was beaten, and by which metric.

    Parameters
    ----------
    found
        What `beaten` returned for each subject.

    Returns
    -------
    list of tuple
        Control; subjects in which any metric beat it at 5 % after Holm's correction; metric ->
        subjects in which it beat it at 5 % without a correction.
    """
    rows = []
    for control in CONTROLS:
        each = [subject[control] for subject in found]
        whole = sum(any(d > 0 and holm < LEVEL for d, _, holm in s.values()) for s in each)
        alone = {m: sum(s[m][0] > 0 and s[m][1] < LEVEL for s in each) for m in each[0]}
        rows.append((control, whole, alone))
    return rows


def main() -> None:
    """Decode every subject, then print how often each control was beaten."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--subjects", type=int, default=20)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    console.configure(quiet=True)
    found = []
    for subject in range(1, given.subjects + 1):
        settings = settings_of(given.folder, subject)
        decode(settings)
        found.append(beaten(settings))
    print(f"of {given.subjects} subjects without signal, the run was better in")
    for control, whole, alone in tally(found):
        singly = ", ".join(f"{metric} {count}" for metric, count in alone.items() if count)
        print(f"{control}: {whole} (Holm over the metrics); singly: {singly or 'none'}")


if __name__ == "__main__":
    main()
