"""Write docs/errors.md: every sentence that a user can meet, taken from the code.

``python examples/list_user_errors.py`` writes it, ``--check`` only says whether it is current.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "errors.md"
HEAD = """# Every error that you can mend

Each line is the sentence of one `UserError` in the code: what is wrong, where, and what to do.
Such an error ends a command with exit code 2 and nothing finished is lost. Words in `{braces}` are
filled in. The list is written by `python examples/list_user_errors.py`; a test keeps it current.
"""


def sentences(source: str) -> list[str]:
    """Return the sentence of every ``UserError(...)`` of a module, in order of the lines."""
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "UserError" and node.args
    ]
    return [in_words(call.args[0]) for call in sorted(calls, key=lambda call: call.lineno)]


def in_words(node: ast.expr) -> str:
    """Return a message's expression as text with the filled-in parts in braces."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(in_words(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return "{" + ast.unparse(node.value) + "}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return in_words(node.left) + in_words(node.right)
    return "{" + ast.unparse(node) + "}"


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for path in sorted((ROOT / "neuroclips_cli").rglob("*.py")):
        found = sentences(path.read_text("utf-8"))
        if found:
            parts.append(f"## `{path.relative_to(ROOT).as_posix()}`\n")
            parts.append("".join(f"- `` {' '.join(text.split())} ``\n" for text in found))
    return "\n".join(parts)


def main() -> int:
    """Write or check the page."""
    text = page()
    if "--check" in sys.argv[1:]:
        current = PAGE.exists() and PAGE.read_text("utf-8") == text
        print("current" if current else f"stale: run python {Path(__file__).name}")
        return int(not current)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
