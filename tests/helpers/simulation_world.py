"""A tiny simulated data set shared by the tests of simulation, data and preprocess."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from neuroclips_cli.settings.load import Settings, load_settings
from neuroclips_cli.simulation.geometry import SMALL_CORTEX, SMALL_SUBCORTEX

CORTEX = 2 * SMALL_CORTEX
GRAYORDINATES = CORTEX + SMALL_SUBCORTEX

SMALL = {
    "run.profile": "tiny",
    "data.window": 1,
    "simulate.train_segments": 8,
    "simulate.test_segments": 2,
    "simulate.clips_per_segment": 14,
    "simulate.test_clips_per_segment": 8,
    "simulate.test_repetitions": 3,
    "simulate.stimulus_size": 32,
    "data.frame_size": 32,
    "simulate.reliability": 0.5,
    # Eight short segments say little: let more vertices pass than 0.05 would.
    "data.selection_p": 1.0,
}


def settings_for(dataset: Path, workdir: Path, **more: object) -> Settings:
    """Settings of profile tiny for a small data set; keys with two underscores for a dot."""
    flags = {**SMALL, "run.dataset": str(dataset), "run.workdir": str(workdir)}
    flags |= {key.replace("__", "."): value for key, value in more.items()}
    return load_settings(flags, folder=workdir, environ={})


@cache
def simulated() -> Path:
    """Simulate once per test run; copy it (:func:`copy_of`) before changing anything."""
    from neuroclips_cli.stages import simulate

    root = Path(mkdtemp(prefix="neuroclips-")) / "dataset"
    simulate.run(settings_for(root, root.parent), root)
    return root


SIZES: dict[str, object] = {
    "simulate__train_segments": 2,
    "simulate__test_segments": 1,
    "simulate__clips_per_segment": 8,
    "simulate__test_clips_per_segment": 8,
    "simulate__test_repetitions": 2,
}
"""Two short training films and a test film."""


@cache
def simulated_layout(layout: str, **more: object) -> Path:
    """Simulate a layout once per test run, of `SIZES`."""
    from neuroclips_cli.stages import simulate

    root = Path(mkdtemp(prefix="neuroclips-")) / layout
    chosen = SIZES | {f"simulate__{key}": value for key, value in more.items()}
    settings = settings_for(root, root.parent, **chosen, simulate__layout=layout)
    simulate.run(settings, root)
    return root


def copy_of(root: Path, target: Path) -> Path:
    """Copy a data set."""
    return Path(shutil.copytree(root, target))
