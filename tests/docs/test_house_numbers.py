"""The script that counts modules, imports, lines and patches counts what it says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "scripts" / "house_numbers.py"

PRIVATE = "_hidden"  # not in a literal of a patch, or this file would be counted


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("house_numbers", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["house_numbers"] = module
    spec.loader.exec_module(module)
    return module


def test_every_count_of_a_small_package(script, tmp_path):
    package = tmp_path / "neuroclips_cli"
    for folder in ("stages", "metrics"):
        (package / folder).mkdir(parents=True)
    (package / "__init__.py").write_text('"""Package."""\n')
    (package / "errors.py").write_text("A = 1\n\n# nothing\n")
    (package / "stages" / "one.py").write_text(
        "import os\n\ndef run():\n    import sys\n    def inner():\n        import re\n"
        "ORDER = ('preprocess', 'train-pr', 'evaluate')\n"
    )
    (package / "metrics" / "two.py").write_text(
        'def f(x):\n    """Sum.\n\n    >>> f(1)\n    1\n    """\n    return x\n\n'
        "def _hidden():\n    return 2\n"
    )
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_two.py").write_text(
        f"patch.setattr(two, '{PRIVATE}', 1); patch.setattr(two, 'f', 1)\n"
        f"patch.setattr('neuroclips_cli.metrics.two.{PRIVATE}', 1)\n"
    )
    assert list(script.numbers(tmp_path).values()) == [1, 2, 1, 21, 11, 6, 4, 1, 2]


def test_the_package_keeps_what_was_reached(script):
    assert script.root_modules(script.ROOT) <= 4
    assert script.hidden_imports(script.ROOT) <= 10
    assert script.graph_places(script.ROOT) == 1
    assert script.private_patches(script.ROOT) <= 5
