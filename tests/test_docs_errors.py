"""docs/errors.md is what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _script():
    path = ROOT / "examples" / "list_user_errors.py"
    spec = importlib.util.spec_from_file_location("list_user_errors", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_of_errors_is_current():
    said = _script().page()
    assert said.count("\n- ") > 100
    wrong = "run `python examples/list_user_errors.py` and commit docs/errors.md"
    assert (ROOT / "docs" / "errors.md").read_text("utf-8") == said, wrong


def test_a_sentence_is_read_whatever_it_is_put_together_from():
    source = 'raise UserError(f"{path} is " "wrong" + hint(path))\nraise UserError(text)\n'
    assert _script().sentences(source) == ["{path} is wrong{hint(path)}", "{text}"]
