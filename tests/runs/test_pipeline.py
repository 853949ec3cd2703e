"""The table of stages agrees with the code that reads it, and is the only place that states it."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

import neuroclips_cli
from neuroclips_cli.cli.commands import COMMANDS
from neuroclips_cli.runs import pipeline
from neuroclips_cli.runs.pipeline import PIPELINE
from neuroclips_cli.settings.load import sections

PACKAGE = Path(neuroclips_cli.__file__).parent
NAMES = {spec.name for spec in PIPELINE}


def test_stages_come_after_what_they_need_and_sections_are_settings():
    seen: set[str] = set()
    for spec in PIPELINE:
        assert seen.issuperset((*spec.needs, *spec.uses)), spec.name
        assert set(spec.settings) <= set(sections()), spec.name
        seen.add(spec.name)
    assert len(seen) == len(PIPELINE)


@pytest.mark.parametrize("spec", PIPELINE, ids=lambda spec: spec.name)
def test_every_row_is_a_command_and_a_recipe(spec):
    assert COMMANDS[spec.name].help == spec.help
    assert callable(import_module(f"neuroclips_cli.stages.{spec.module}").run)


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("preprocess", ()),
        ("train-sr", ("preprocess",)),
        ("reconstruct", ("preprocess", "train-pr", "train-sr")),
        ("evaluate", ("preprocess", "train-pr", "train-sr", "reconstruct")),
        ("controls", ("preprocess", "train-pr", "train-sr", "reconstruct", "evaluate")),
        ("demo", ()),
    ],
)
def test_upstream_is_everything_a_result_comes_from(stage, expected):
    assert pipeline.upstream(stage) == expected


def test_the_run_that_is_evaluated_takes_the_place_of_reconstruct():
    assert pipeline.upstream("evaluate", reconstruction="fuse")[-1] == "fuse"


def test_variants_have_the_row_of_their_stage_and_others_none():
    for name in ("evaluate-control-vae", "evaluate-fuse", "evaluate"):
        assert pipeline.settings_sections(name) == ("evaluate",)
    assert pipeline.spec_of("fuse-more") is None and pipeline.settings_sections("other") == ()
    assert pipeline.is_shared("train-projector") and not pipeline.is_shared("train-pr")


def test_no_other_module_lists_stages():
    """A list of three and more stages in one literal is a second statement of the graph.

    Two say something else: runs the paper has figures of, and the demo's arguments.
    """
    found = []
    for path in PACKAGE.rglob("*.py"):
        if path == Path(pipeline.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            items: list = []
            if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
                items = node.elts
            elif isinstance(node, ast.Dict):
                items = node.keys
            words = [item.value for item in items if isinstance(item, ast.Constant)]
            if len(NAMES.intersection(w for w in words if isinstance(w, str))) >= 3:
                found.append(path.relative_to(PACKAGE).as_posix())
    # demo gives three of its steps their arguments
    assert set(found) - {"reporting/paper_tables.py", "stages/demo.py"} == set()
