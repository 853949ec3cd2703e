"""Count what says how tidy the package is: modules, hidden imports, lines, docstrings, patches.

``python docs/scripts/house_numbers.py`` prints a table of this checkout; ``--before REV`` adds a
column of an earlier commit, which git checks out beside it. Nothing is imported: the sources are
parsed.
"""

from __future__ import annotations

import argparse
import ast
import functools
import io
import re
import statistics
import subprocess
import tempfile
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NUMERIC = ("data", "generation", "losses", "metrics", "models", "signal", "simulation", "training")
"""Packages whose public functions are mathematics of arrays, for the docstring count."""
STAGES = {
    "preprocess",
    "train-pr",
    "train-sr",
    "reconstruct",
    "fuse",
    "evaluate",
    "interpret",
    "report",
    "controls",
    "compare",
    "demo",
}
NO_GRAPH = (
    "reporting/paper_tables.py",
    "reporting/" + "published.py",
    "stages/demo.py",
)
"""Name stages for another purpose: runs that the paper has figures of, and arguments of steps."""


@functools.cache
def sources(root: Path) -> list[tuple[Path, str, ast.Module]]:
    """Return path in the package, text and syntax tree of every module."""
    package = root / "neuroclips_cli"
    texts = {path: path.read_text("utf-8") for path in sorted(package.rglob("*.py"))}
    return [(path.relative_to(package), text, ast.parse(text)) for path, text in texts.items()]


def root_modules(root: Path) -> int:
    """Count the modules at the package's root, but ``__init__`` and ``__main__``."""
    found = (root / "neuroclips_cli").glob("*.py")
    return sum(not path.name.startswith("__") for path in found)


def hidden_imports(root: Path) -> int:
    """Count the imports inside functions of ``stages/``."""
    count = 0
    for path, _, tree in sources(root):
        if path.parts[0] != "stages":
            continue
        inside: set[ast.AST] = set()
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                inside |= {
                    node
                    for node in ast.walk(function)
                    if isinstance(node, ast.Import | ast.ImportFrom)
                }
        count += len(inside)
    return count


def graph_places(root: Path) -> int:
    """Count the modules that state stages and their order: three of their names in one literal."""
    return sum(
        _states_graph(tree) for path, _, tree in sources(root) if path.as_posix() not in NO_GRAPH
    )


def _states_graph(tree: ast.Module) -> bool:
    """Tell whether one literal, or the calls of one literal, name three stages and more."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            items: list[ast.AST | None] = [*node.elts]
        elif isinstance(node, ast.Dict):
            items = [*node.keys]
        else:
            continue
        # a row of a table names its stage first
        items = [
            item.args[0] if isinstance(item, ast.Call) and item.args else item for item in items
        ]
        words = {item.value for item in items if isinstance(item, ast.Constant)}
        if len(STAGES.intersection(word for word in words if isinstance(word, str))) >= 3:
            return True
    return False


def lines(root: Path) -> tuple[int, int, int]:
    """Count all lines, lines with code, and lines of docstrings."""
    total = code = documented = 0
    for _, text, tree in sources(root):
        total += len(text.splitlines())
        strings = _docstring_lines(tree)
        documented += len(strings)
        used: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type not in _NO_CODE:
                used.update(range(token.start[0], token.end[0] + 1))
        code += len(used - strings)
    return total, code, documented


_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def _docstring_lines(tree: ast.AST) -> set[int]:
    """Return the lines of all strings that stand alone: docstrings, of attributes too."""
    found: set[int] = set()
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            found.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return found


def docstring_median(root: Path) -> float:
    """Return the median docstring lines of public functions of the numeric packages."""
    counts = []
    for path, _, tree in sources(root):
        if path.parts[0] not in NUMERIC or path.name.startswith("_"):
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                counts.append(len((ast.get_docstring(node) or "").splitlines()))
    return statistics.median(counts) if counts else 0


def doctests(root: Path) -> int:
    """Count the docstrings with an example."""
    count = 0
    for _, _, tree in sources(root):
        for node in ast.walk(tree):
            kinds = ast.FunctionDef | ast.ClassDef | ast.Module
            if isinstance(node, kinds) and ">>> " in (ast.get_docstring(node) or ""):
                count += 1
    return count


PATCHED = re.compile(
    r"(?:setattr|patch\.object)\(\s*[\w.]+,\s*[\"']_[a-z]\w*[\"']"
    r"|patch\(\s*[\"']neuroclips_cli[\w.]*\._[a-z]\w*[\"']"
    r"|setattr\(\s*[\"']neuroclips_cli[\w.]*\._[a-z]\w*[\"']"
)


def private_patches(root: Path) -> int:
    """Count the tests' patches of private names of the package."""
    return sum(
        len(PATCHED.findall(path.read_text("utf-8"))) for path in (root / "tests").rglob("*.py")
    )


def numbers(root: Path) -> dict[str, float]:
    """Return every count of a checkout by its description.

    Parameters
    ----------
    root : Path
        Folder of the checkout.
    """
    total, code, documented = lines(root)
    return {
        "modules at the package's root": root_modules(root),
        "function-level imports in stages/": hidden_imports(root),
        "places that name the stage graph": graph_places(root),
        "lines of the package": total,
        "... with code": code,
        "... of docstrings": documented,
        "median docstring lines of public numeric functions": docstring_median(root),
        "docstrings with doctests": doctests(root),
        "private names patched in tests": private_patches(root),
    }


def numbers_at(revision: str) -> dict[str, float]:
    """Return every count of an earlier commit."""
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "before"
        subprocess.run([*git, "add", "--quiet", "--detach", str(old), revision], check=True)
        try:
            return numbers(old)
        finally:
            subprocess.run([*git, "remove", "--force", str(old)], check=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--before", metavar="REV", action="append", default=[], help="An earlier commit, too."
    )
    options = parser.parse_args()
    columns = {revision: numbers_at(revision) for revision in options.before}
    columns["now"] = numbers(ROOT)
    print("| | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name in columns["now"]:
        print(
            f"| {name} | " + " | ".join(f"{column[name]:,g}" for column in columns.values()) + " |"
        )


if __name__ == "__main__":
    main()
