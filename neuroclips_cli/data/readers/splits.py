"""Which films are for testing: as the user says, or as tasks and files are called; no guesses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from neuroclips_cli.errors import UserError

_TEST = re.compile(r"test(?![a-z])", re.IGNORECASE)
Rule = Callable[[Path, str], bool]
SplitOf = Callable[[Path, str], str]
"""Film and task -> ``train`` or ``test``."""


def split_rule(shown: Sequence[tuple[Path, str]], test_films: Sequence[str]) -> tuple[SplitOf, str]:
    """Return which split a film has, and the rule in words.

    Parameters
    ----------
    shown
        Film and BIDS task of every showing.
    test_films
        Patterns that the user gave: of a film's name, with or without ending, or of a task. Empty:
        tasks called ``test`` (``test1`` ...) are for testing; else films that are called so, or
        whose folder is.

    Raises
    ------
    UserError
        If no showing or every showing is for testing.
    """
    rules: list[tuple[str, Rule]] = [
        ("the task is called test", lambda _, task: bool(_TEST.match(task))),
        (
            "the film or its folder is called test",
            lambda film, _: any(_TEST.match(name) for name in (film.stem, film.parent.name)),
        ),
    ]
    if test_films:
        names = ", ".join(test_films)
        rules = [(f"data.test_films names them ({names})", lambda *one: _named(test_films, *one))]
    for words, rule in rules:
        tests = {one for one in shown if rule(*one)}
        if tests and len(tests) < len(set(shown)):
            films = len({film for film, _ in tests})
            sentence = f"{films} films are for testing since {words}; the others are for training"
            return partial(_split, rule), sentence
    raise UserError(_nothing(shown, test_films))


def _split(rule: Rule, film: Path, task: str) -> str:
    return "test" if rule(film, task) else "train"


def _named(patterns: Sequence[str], film: Path, task: str) -> bool:
    names = (film.name, film.stem, task, f"task-{task}")
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _nothing(shown: Sequence[tuple[Path, str]], test_films: Sequence[str]) -> str:
    counts = Counter(film.name for film, _ in shown)
    films = ", ".join(f"{name} ({count}x)" for name, count in counts.most_common(5))
    films += f" and {len(counts) - 5} more" if len(counts) > 5 else ""
    if test_films:
        return (
            f"data.test_films = {', '.join(test_films)} leaves no film for training or none for "
            f"testing; films, and how often they were shown: {films}"
        )
    return (
        "the names of tasks and films do not say which films are for testing: name them with "
        f"data.test_films; films, and how often they were shown: {films or 'none'}"
    )
