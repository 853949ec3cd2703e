"""The examples in the docstrings run and print what they show."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import neuroclips_cli

PACKAGE = Path(neuroclips_cli.__file__).parent
LEAST_EXAMPLES = 60


def modules_with_examples() -> list[str]:
    """Return the modules whose source shows a prompt; finding them imports none of them."""
    return [
        ".".join((PACKAGE.name, *file.relative_to(PACKAGE).with_suffix("").parts))
        for file in sorted(PACKAGE.rglob("*.py"))
        if ">>> " in file.read_text(encoding="utf-8")
    ]


def examples_of(name: str) -> list[doctest.DocTest]:
    module = importlib.import_module(name)
    found = doctest.DocTestFinder(exclude_empty=True).find(module, name)
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_print_what_they_show(name: str) -> None:
    runner = doctest.DocTestRunner(verbose=False)
    report: list[str] = []
    tests = examples_of(name)
    assert tests, f"{name} shows a prompt outside a docstring that doctest finds"
    for test in tests:
        runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


def test_there_are_enough_examples() -> None:
    assert sum(len(examples_of(name)) for name in modules_with_examples()) >= LEAST_EXAMPLES
