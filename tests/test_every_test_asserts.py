"""No test passes without having compared something."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = sorted(HERE.rglob("test_*.py"))


def functions(tree: ast.Module) -> dict[str, ast.AST]:
    """Functions of a file by name, methods too."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name: node for node in ast.walk(tree) if isinstance(node, kinds)}


@functools.cache
def called(node: ast.AST) -> set[str]:
    """Names that a function calls, or hands on."""
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return names | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


@functools.cache
def checks(node: ast.AST) -> bool:
    """Tell whether a function compares something by itself."""
    for part in ast.walk(node):
        if isinstance(part, ast.Assert) and not isinstance(part.test, ast.Constant):
            return True
        if isinstance(part, ast.Attribute) and part.attr in ("raises", "warns", "fail"):
            return True
        if isinstance(part, ast.Attribute) and part.attr.startswith("assert_"):
            return True
    return False


def asserts(name: str, known: dict[str, ast.AST]) -> bool:
    """Tell whether a function, or a helper of the tests that it calls, compares something."""
    seen: set[str] = set()
    waiting = {name} & known.keys()
    while waiting:
        if any(checks(known[one]) for one in waiting):
            return True
        seen |= waiting
        waiting = set().union(*(called(known[one]) for one in waiting)) & known.keys() - seen
    return False


@functools.cache
def helpers() -> dict[str, ast.AST]:
    """Functions of the files that are not tests themselves."""
    found: dict[str, ast.AST] = {}
    for path in HERE.rglob("*.py"):
        if not path.name.startswith("test_"):
            found |= functions(ast.parse(path.read_text()))
    return found


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_every_test_asserts_something(path):
    own = functions(ast.parse(path.read_text()))
    known = helpers() | own
    idle = [name for name in own if name.startswith("test") and not asserts(name, known)]
    assert not idle, f"{path.name}: {', '.join(idle)} compare nothing"


def test_a_test_without_a_comparison_is_found():
    source = (
        "def test_a():\n    work()\ndef work():\n    assert True\ndef test_b():\n    assert 1 < x"
    )
    known = functions(ast.parse(source))
    assert not asserts("test_a", known)
    assert asserts("test_b", known)
