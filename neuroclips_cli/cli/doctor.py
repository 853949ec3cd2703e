"""``neuroclips doctor``: check the machine and the data, and say what to do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from packaging.requirements import Requirement

from neuroclips_cli import console
from neuroclips_cli.cli.models import find_backbones
from neuroclips_cli.cli.options import Subjects, command
from neuroclips_cli.data.find_runs import find_runs
from neuroclips_cli.data.region_files import read_region_file, region_paths
from neuroclips_cli.data.stretches import ARRAYS, missing_runs, stretches_of
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import human_size
from neuroclips_cli.runs.stage import subject_label
from neuroclips_cli.settings.load import Settings


@command("doctor", like="preprocess")
def doctor(
    settings: Settings,
    subjects: Subjects = None,
    dry_run: Annotated[
        bool | None,
        typer.Option(
            "--dry-run/--no-dry-run",
            help="Run shapes through all networks at full size; default: not for tiny.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Check machine, data set, model files, and that every stage connects and fits."""
    raise typer.Exit(run(settings, dry_run=dry_run))


SPACE = {"tiny": 2e9, "paper": 100e9, "compact": 60e9}
"""Bytes of free disk below which the doctor warns: data arrays, target caches, checkpoints."""


@dataclass(frozen=True)
class Check:
    """One finding: ``state`` is ``ok``, ``note`` (nothing to do) or ``problem``."""

    name: str
    state: str
    found: str
    advice: str = ""


def run(settings: Settings, *, dry_run: bool | None = None) -> int:
    """Print all findings; return 0, or 2 if there is a problem the user should correct.

    Parameters
    ----------
    settings : Settings
        What is examined.
    dry_run : bool, optional
        Whether shapes are pushed through all networks at true size. By default they are, except
        in profile ``tiny``, whose networks come with the package and fit any machine.
    """
    checks = list(examine(settings))
    rows = [(c.name, c.state, c.found, c.advice) for c in checks]
    console.table("Doctor", ("what", "state", "found", "what to do"), rows)
    sick = any(c.state == "problem" for c in checks)
    if settings.run.profile != "tiny" if dry_run is None else dry_run:
        sick |= not _dry_run(settings)
    return 2 if sick else 0


def _dry_run(settings: Settings) -> bool:
    """Walk through the profile, unless there is no torch to do it; return whether it connects."""
    try:
        from neuroclips_cli.cli import doctor_memory
    except ImportError:  # reported by the check of the packages
        return False
    return doctor_memory.run(settings)


def examine(settings: Settings) -> Iterator[Check]:
    """Yield every check in the order in which they matter."""
    yield _python()
    yield from _packages()
    yield _device(settings.run.device)
    yield _disk(settings)
    yield _dataset(settings)
    yield from _models(settings)


def _python() -> Check:
    """Check the version of Python."""
    good = (3, 10) <= sys.version_info[:2] < (3, 14)
    advice = "" if good else "use Python 3.10 to 3.13"
    return Check("Python", "ok" if good else "problem", platform.python_version(), advice)


def _packages() -> Iterator[Check]:
    """Check every package that neuroclips asks for, against the version that it asks for."""
    try:
        wanted = importlib.metadata.requires("neuroclips") or []
    except importlib.metadata.PackageNotFoundError:
        yield Check("packages", "note", "neuroclips runs from its source", "pip install neuroclips")
        return
    wrong = []
    count = 0
    for line in wanted:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version}, needed {requirement.specifier}")
    if wrong:
        yield Check("packages", "problem", "; ".join(wrong), "pip install --upgrade neuroclips")
    else:
        yield Check("packages", "ok", f"all {count} there")


def _device(name: str) -> Check:
    """Check that torch works, and which device the settings come to."""
    try:
        import torch

        from neuroclips_cli.backbones.loading import choose_device

        device = choose_device(name)
    except ImportError as error:
        return Check("device", "problem", f"torch cannot be loaded ({error})", "reinstall torch")
    except UserError as error:
        return Check("device", "problem", str(error), "use --device auto")
    if device.startswith("cuda"):
        _, memory = torch.cuda.mem_get_info()
        found = (
            f"{torch.cuda.get_device_name()} with {human_size(memory)}, torch {torch.__version__}"
        )
        return Check("device", "ok", found)
    found = f"{device}, {os.cpu_count()} cores, torch {torch.__version__}"
    return Check("device", "ok" if device == "mps" else "note", found, _cpu_advice(device))


def _cpu_advice(device: str) -> str:
    """Say what a CPU is good for."""
    return "enough for profile tiny; paper and compact need a GPU" if device == "cpu" else ""


def _disk(settings: Settings) -> Check:
    """Check the free space where results go."""
    place = Path(settings.run.workdir).absolute()
    while not place.exists():
        place = place.parent
    free, needed = shutil.disk_usage(place).free, SPACE[settings.run.profile]
    found = f"{human_size(free)} free for {settings.run.workdir}"
    if not os.access(place, os.W_OK):
        return Check("disk", "problem", f"{place} is not writable", "choose another --workdir")
    if free < needed:
        return Check(
            "disk",
            "problem",
            found,
            f"profile {settings.run.profile} may need "
            f"{human_size(needed)}; free some or choose another --workdir",
        )
    return Check("disk", "ok", found)


def _dataset(settings: Settings) -> Check:
    """Check that the data set's folder holds films and the subject's runs."""
    if not settings.run.dataset and not settings.data.runs:
        return Check(
            "data set", "note", "none chosen", "--dataset DIR, or `neuroclips simulate DIR`"
        )
    folder, data, subject = Path(settings.run.dataset), settings.data, settings.run.subject
    if not folder.is_dir() and not data.runs:
        return Check("data set", "problem", f"{folder} is not a folder", "correct --dataset")
    stated = settings.chosen_by_user("data.tr_s")
    try:
        regions = read_region_file(region_paths(data.mask)) if data.mask else None
        runs = find_runs(folder, subject, data, regions, tr_stated=stated)
    except UserError as error:
        return Check("data set", "problem", str(error), "see docs/reference/datasets.md")
    stretches = stretches_of(runs.rows)
    counts = {array: [s for s in stretches if s.array == array] for array in ARRAYS}
    found = (
        f"{subject_label(subject)}: layout {runs.layout}, {len(counts['train'])} training and "
        f"{len(counts['test'])} test segments, {len({row.run for row in runs.rows})} runs"
    )
    missing = ", ".join(name for own in counts.values() for name in missing_runs(own))
    return Check(
        "data set", "ok", found, f"averaged around missing runs: {missing}" if missing else ""
    )


def _models(settings: Settings) -> Iterator[Check]:
    """Check that every backbone is in the package, in a folder, or in the hub's cache."""
    found = list(find_backbones(settings))
    missing = [one for one in found if one.problem]
    if not missing:
        yield Check("models", "ok", f"all {len(found)} of profile {settings.run.profile} are here")
    for one in missing:
        advice = f"neuroclips models pull {one.name}"
        # what lies on the hub is fetched when it is first used; a folder has to be made
        state = "note" if one.from_hub and one.problem == "missing" else "problem"
        yield Check("model", state, f"{one.name}: {one.reference}: {one.problem}", advice)
