"""docs/how-to/cluster.md, examples/slurm and examples/snakemake: real commands, real behavior."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import typer

from neuroclips_cli.cli import commands

ROOT = Path(__file__).resolve().parents[2]
SLURM, SNAKEFILE = ROOT / "examples" / "slurm", ROOT / "examples" / "snakemake" / "Snakefile"
RECIPES = [ROOT / "docs" / "how-to" / "cluster.md", SNAKEFILE, *sorted(SLURM.iterdir())]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


def invocations(text: str) -> list[list[str]]:
    """Words after ``neuroclips``, ``-m neuroclips_cli`` or ``stage.sbatch``, comments too."""
    found = re.findall(
        r"(?:^|[\s`\"(])(?:neuroclips|-m neuroclips_cli|stage\.sbatch) +([a-z][^`\"\n;|)]*)", text
    )
    found += re.findall(r"submit \"[^\"]*\" \"[^\"]*\" ([a-z][^)]*)\)", text)
    return [shlex.split(words, comments=True) for words in found]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_recipes_name_only_commands_and_options_that_exist(recipe):
    calls = [words for words in invocations(recipe.read_text("utf-8")) if words]
    assert calls
    for name, *words in calls:
        assert name in commands.COMMANDS, f"{recipe.name}: {name}"
        command = commands.load(name)
        context = typer.Context(command)
        options = {option for p in command.get_params(context) for option in p.opts}
        for word in (w.split("=")[0] for w in words if w.startswith("--")):
            assert word in options, f"{recipe.name}: {name} {word}"


def test_the_snakefile_has_a_rule_for_every_stage():
    text = SNAKEFILE.read_text("utf-8")
    rules = {name.replace("_", "-") for name in re.findall(r"^rule (\w+):", text, re.M)} - {"all"}
    assert rules == {name for name, *_ in invocations(text) if name != "neuroclips"}
    for name in rules:
        assert f'update(of("{name}"))' in text


@pytest.fixture
def cluster(tmp_path) -> Path:
    """Return a folder with the scripts, and programs that write down what they are called with."""
    for path in SLURM.iterdir():
        shutil.copy(path, tmp_path)
        assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    programs = {
        "sbatch": 'echo "$@" >> calls; wc -l < calls',
        "scontrol": 'echo "scontrol $@" >> calls',
        "neuroclips": 'echo "neuroclips $@" >> calls; trap "exit 138" USR1; '
        "for i in $(seq ${TENTHS:-0}); do sleep 0.1; done; exit ${CODE:-0}",
    }
    (tmp_path / "bin").mkdir()
    for name, body in programs.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
    return tmp_path


def start(cluster: Path, *words: str, **environment: str) -> subprocess.Popen:
    path = f"{cluster / 'bin'}{os.pathsep}{os.environ['PATH']}"
    task = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_JOB_ID": "77"}
    return subprocess.Popen(
        ["bash", *words], cwd=cluster, env={**os.environ, **task, "PATH": path, **environment}
    )


def calls(cluster: Path) -> list[str]:
    return (cluster / "calls").read_text().splitlines()


def test_jobs_wait_for_the_jobs_that_they_need(cluster):
    assert start(cluster, "submit.sh", SUBJECTS="1-2").wait(30) == 0
    after = {}
    for number, line in enumerate(calls(cluster), start=1):
        assert "--array=1-2" in line
        waits = re.search(r"aftercorr:([\d:]+)", line)
        after[line.split("stage.sbatch ")[1]] = (number, waits[1] if waits else "")
    assert after == {
        "preprocess": (1, ""),
        "train-pr": (2, "1"),
        "train-sr": (3, "1"),
        "reconstruct": (4, "2:3"),
        "fuse": (5, "4"),
        "evaluate": (6, "4"),
        "report": (7, "5:6"),
    }


def test_a_task_runs_its_stage_for_its_subject(cluster):
    assert start(cluster, "stage.sbatch", "train-sr", "--verbose").wait(30) == 0
    assert calls(cluster) == ["neuroclips train-sr --subject 2 --verbose"]


def test_a_failed_stage_fails_its_task_and_is_not_queued_again(cluster):
    assert start(cluster, "stage.sbatch", "fuse", CODE="2").wait(30) == 2
    assert calls(cluster) == ["neuroclips fuse --subject 2"]


def test_before_the_time_limit_a_task_stops_and_goes_back_into_the_queue(cluster):
    job = start(cluster, "stage.sbatch", "train-pr", TENTHS="300")
    until = time.monotonic() + 20
    while not (cluster / "calls").exists() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.3)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(20) == 0
    assert calls(cluster) == ["neuroclips train-pr --subject 2", "scontrol requeue 77"]
