"""A stage whose result is there says so without its recipe, and so without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neuroclips_cli.errors import UserError
from neuroclips_cli.runs.stage import open_stage
from neuroclips_cli.settings.load import Settings, load_settings
from neuroclips_cli.stages import _requests

SOURCE = str(Path(__file__).resolve().parents[2])
PROGRAM = """
import sys
from neuroclips_cli.cli.main import run
assert run(sys.argv[1:]) == 0
assert "torch" not in sys.modules, "torch was imported"
"""


def finish(settings: Settings, request) -> None:
    with request.open(settings) as stage:
        stage.write_array("index.npy", np.arange(2))
        stage.write_json("metrics.json", {})


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    """A run folder whose stages are finished, as far as their manifests know."""
    home = tmp_path_factory.mktemp("home")
    chosen = load_settings({"run.profile": "tiny", "run.workdir": str(home / "runs")}, environ={})
    with open_stage(chosen, "preprocess", inputs={}) as stage:
        stage.write_array("fmri_test.npy", np.zeros((2, 3), np.float32))
    finish(chosen, _requests.train_pr(chosen))
    finish(chosen, _requests.train_sr(chosen))
    finish(chosen, _requests.reconstruct(chosen))
    finish(chosen, _requests.fuse(chosen))
    return chosen


@pytest.mark.parametrize("stage", ["train-pr", "train-sr", "reconstruct", "fuse"])
def test_a_finished_stage_answers_without_torch(settings, stage):
    words = [stage, "--profile", "tiny", "--workdir", settings.run.workdir]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env={**os.environ, "PYTHONPATH": SOURCE},
        cwd=settings.run.workdir,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{stage} of sub-01 is up to date" in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("request_of", "options"),
    [
        (_requests.train_sr, {"phase": "second"}),
        (_requests.reconstruct, {"without": "captions"}),
        (_requests.evaluate, {"run": "preprocess"}),
    ],
)
def test_a_request_without_meaning_is_refused(settings, request_of, options):
    with pytest.raises(UserError):
        request_of(settings, **options)


def test_at_most_ten_imports_of_the_recipes_stand_in_functions():
    folder = Path(_requests.__file__).parent
    lines = [
        line
        for path in folder.glob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if line.startswith((" ", "\t")) and line.lstrip().startswith(("from ", "import "))
    ]
    inner = [line for line in lines if " import " in line or line.lstrip().startswith("import ")]
    assert len(inner) <= 10, inner
