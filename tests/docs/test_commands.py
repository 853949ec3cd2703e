"""Every command line in the pages is accepted, and the tutorials do what they say."""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from neuroclips_cli.cli.commands import COMMANDS
from neuroclips_cli.cli.main import app, guarded_run
from neuroclips_cli.settings.load import load_settings, sections
from neuroclips_cli.settings.parse import read_toml

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = sorted(
    path
    for path in (ROOT / "docs").rglob("*.md")
    if "generated" not in path.relative_to(ROOT).parts
)
PAGES = [ROOT / "README.md", *WRITTEN, *sorted((ROOT / ".github").rglob("*.md"))]
RUN = ("own-data", "new-metric", "compare-systems")
"""Tutorials whose blocks are run in order; the others need minutes, a GPU or a download."""
NOT_RUN = ("models pull", "train-pr", "train-sr")
"""Commands of these tutorials that take long or use the network; they are parsed only."""
STOP = {"&&", "||", "|", ";", "&"}


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield language and content of the fenced blocks of a page."""
    for match in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```", text, re.M | re.S):
        yield match[2], textwrap.dedent(match[3])


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the words after ``neuroclips`` (or ``-m neuroclips_cli``) of every call in a script."""
    for line in text.replace("\\\n", " ").splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue
        for place, word in enumerate(words):
            called = Path(word).name == "neuroclips" and (place == 0 or words[place - 1] in STOP)
            if called or (word == "neuroclips_cli" and words[place - 1] == "-m"):
                rest = words[place + 1 :]
                stops = [i for i, one in enumerate(rest) if one in STOP or one.startswith(">")]
                yield rest[: min(stops, default=len(rest))]


def calls(page: Path) -> list[list[str]]:
    """Return every call of a page, in blocks and in the text."""
    text = page.read_text("utf-8")
    found = [
        words
        for kind, body in blocks(text)
        if kind in ("sh", "bash")
        for words in command_lines(body)
    ]
    prose = re.sub(r"^( *)```.*?^\1```", "", text, flags=re.M | re.S)
    inline = re.findall(r"(?<!`)`(neuroclips [^`\n]+)`(?!`)", prose)
    found += [words for line in inline for words in command_lines(line)]
    return [words for words in found if not {"...", "COMMAND"} & set(words)]


def is_name(words: list[str]) -> bool:
    """Tell whether only the name of a command was written, as text does when it speaks of one."""
    return len(words) == 1 and words[0] in COMMANDS


def parse(words: list[str]) -> None:
    """Parse a command line as the program does, without running it."""
    command: Any = typer.main.get_command(app)
    name, context = "neuroclips", None
    while hasattr(command, "resolve_command"):
        if not words or words[0].startswith("-"):
            assert set(words) <= {"--help", "-h", "--version"}, words
            return
        context = typer.Context(command, info_name=name, parent=context)
        name, command, words = command.resolve_command(context, words)
    if not {"--help", "-h"} & set(words):
        command.make_context(name, list(words), parent=context)
    for key, value in re.findall(r"--set (\w+\.\w+)=(\S+)", " ".join(words)):
        load_settings({key: value}, environ={})


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_line_is_accepted(page: Path) -> None:
    for words in calls(page):
        if is_name(words):
            continue
        try:
            parse(words)
        except Exception as problem:
            said = problem.format_message() if hasattr(problem, "format_message") else problem
            pytest.fail(f"neuroclips {' '.join(words)}: {said}")


def test_the_pages_hold_many_commands_and_a_wrong_one_is_noticed() -> None:
    assert sum(len(calls(page)) for page in PAGES) > 100
    for wrong in (
        "evaluat",
        "evaluate --pret x",
        "preprocess --set data.tr=2",
        "reconstruct --steps x",
    ):
        with pytest.raises(Exception):  # noqa: B017
            parse(wrong.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_settings_and_python_in_the_pages_are_valid(page: Path, tmp_path: Path) -> None:
    for kind, body in blocks(page.read_text("utf-8")):
        if kind == "python":
            assert ast.parse(body, page.name).body
        if kind == "toml" and set(read_toml(body)) <= set(sections()):
            (tmp_path / "neuroclips.toml").write_text(body, "utf-8")
            chosen = load_settings(folder=tmp_path, environ={})
            for section, values in read_toml(body).items():
                assert all(chosen.chosen_by_user(f"{section}.{name}") for name in values)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_of_the_repository_that_a_page_names_are_there(page: Path) -> None:
    named = re.findall(
        r"(?<![\w/.])(?:tests|examples|neuroclips_cli|docs)/[\w./-]*\w", page.read_text("utf-8")
    )
    missing = {name for name in named if not list(ROOT.glob(name + "*"))}
    assert not missing


def test_the_architecture_page_names_every_package() -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text("utf-8")
    packages = [path.parent.name for path in (ROOT / "neuroclips_cli").glob("*/__init__.py")]
    assert len(packages) > 10
    assert not [name for name in packages if f"`{name}/`" not in page]


@pytest.mark.parametrize("name", RUN)
def test_the_tutorial_does_what_it_says(name: str) -> None:
    page = ROOT / "docs" / "tutorials" / f"{name}.md"
    names: dict[str, Any] = {}
    ran = 0
    for kind, body in blocks(page.read_text("utf-8")):
        if kind == "python":
            exec(compile(body, f"{name}.md", "exec"), names)
            ran += 1
        if kind == "sh":
            for words in command_lines(body):
                if not " ".join(words).startswith(NOT_RUN):
                    assert guarded_run(words) == 0, words
                    ran += 1
    assert ran > 3
