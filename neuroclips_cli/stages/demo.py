"""The whole way on the synthetic dataset: simulate, decode, measure, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from neuroclips_cli import console
from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic
from neuroclips_cli.runs.pipeline import PIPELINE, StageSpec
from neuroclips_cli.runs.stage import read_json
from neuroclips_cli.settings.load import FILE_NAME, Settings, replace_settings
from neuroclips_cli.settings.template import template_text
from neuroclips_cli.stages._launch import run_stage

FUSED_CLIPS = "0:24"
"""Test clips that ``fuse`` chains in the demo: one test film."""
CONTROLS = ("frozen-keyframe", "nearest-training-clip")
"""What the demo's clips are compared with: what moves them, and what looking up would give."""


def run(settings: Settings, folder: Path, *, overwrite: bool = False) -> Path:
    """Simulate a subject who watches films, decode the test films, and show how well it went.

    Every part is a stage of its own, so an interrupted demo continues where it stopped, and a
    finished one returns at once.

    Parameters
    ----------
    settings
        Profile ``tiny``; data set and work folder are placed in ``folder``.
    folder
        Gets ``neuroclips.toml``, ``dataset/`` and ``runs/``.
    overwrite
        Make every part afresh.

    Returns
    -------
    Path
        The HTML report.

    Raises
    ------
    UserError
        If another profile is in force: only ``tiny`` has its networks in the package.
    """
    if settings.run.profile != "tiny":
        raise UserError(
            f"the demo runs on profile tiny, whose networks come with the package, not on "
            f"{settings.run.profile} ({settings.origins['run.profile']}): leave the profile out, "
            "or start the demo in another folder"
        )
    settings = _place(settings, folder, overwrite)
    began = time.monotonic()
    steps = _steps(settings, folder / "dataset", overwrite)
    last = folder
    for number, (name, step) in enumerate(steps, start=1):
        console.info(f"[{number}/{len(steps)}] {name}")
        last = step()
    report = last / "index.html"
    spent = console.duration(time.monotonic() - began)
    facts = read_json(last / "manifest.json")["facts"]
    for sentence in (*facts["in_words"], facts["headline"]):
        console.info(sentence)
    console.info(f"the demo took {spent}; open {report.resolve()} in a browser")
    console.info(f"to continue from here: cd {folder} && neuroclips status")
    return report


def _place(settings: Settings, folder: Path, overwrite: bool) -> Settings:
    """Put data set and results into the folder, with a settings file for commands run there."""
    inside = replace_settings(settings, {"run.dataset": "dataset", "run.workdir": "runs"})
    if overwrite or not (folder / FILE_NAME).exists():
        atomic.write_text(folder / FILE_NAME, template_text(inside))
    places = {"run.dataset": str(folder / "dataset"), "run.workdir": str(folder / "runs")}
    return replace_settings(settings, places)


def _steps(
    settings: Settings, dataset: Path, overwrite: bool
) -> list[tuple[str, Callable[[], Any]]]:
    """Return the parts of the demo in the pipeline's order, each named by its command."""
    return [
        (f"{spec.name}: {spec.demo}", partial(_step, settings, spec, dataset, overwrite))
        for spec in PIPELINE
        if spec.demo
    ]


def _step(settings: Settings, spec: StageSpec, dataset: Path, overwrite: bool) -> Any:
    """Run one part."""
    options: dict[str, dict[str, Any]] = {
        "simulate": {"folder": dataset},
        "fuse": {"clips": FUSED_CLIPS},
        "controls": {"names": CONTROLS},
    }
    return run_stage(settings, spec.name, overwrite=overwrite, **options.get(spec.name, {}))
