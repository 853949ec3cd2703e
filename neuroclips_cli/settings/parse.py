"""Reading and checking single setting values: type, range, allowed words, nearest match."""

from __future__ import annotations

import difflib
import json
import math
import sys
from collections.abc import Iterable
from typing import Any

from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.field import SettingField

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
SUBJECTS = ("run.subject", "run.subjects", "data.common")
"""Settings whose values may be written as subjects' labels are."""
_TRUTH = {"true": True, "false": False, "1": True, "0": False}


def read_toml(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text; a ``ValueError`` if it is none."""
    return tomllib.loads(text)


def toml_value(value: object) -> str:
    """Return a setting's value as TOML has it.

    >>> print(toml_value(True), toml_value((2, 50)), toml_value("tiny"))
    true [2, 50] "tiny"
    """
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest known word, or nothing."""
    match = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else ""


def parse_subject(text: str | int) -> int:
    """Read a subject: ``1``, ``01``, ``sub-01`` and ``subject1`` are the same.

    Raises
    ------
    UserError
        If no positive whole number is left.
    """
    word = str(text).strip().lower()
    for prefix in ("sub-", "subject-", "subject", "sub"):
        if word.startswith(prefix):
            word = word[len(prefix) :]
            break
    if not word.isdecimal() or int(word) < 1:
        raise UserError(f"the subject {str(text)!r} is not a number from 1; write 1, 01 or sub-01")
    return int(word)


def parse_text(field: SettingField, text: str, source: str) -> Any:
    """Read a value given as text (a flag or an environment variable) by the setting's type.

    Lists are separated by commas; brackets around them are allowed.
    """
    if field.is_list:
        inner = text.strip().removeprefix("[").removesuffix("]")
        parts = [part.strip().strip("\"'") for part in inner.split(",")]
        return tuple(_parse_one(field, part, source) for part in parts if part)
    return _parse_one(field, text, source)


def _parse_one(field: SettingField, text: str, source: str) -> Any:
    """Read one value, or one item of a list, given as text."""
    if field.key in SUBJECTS:
        return parse_subject(text)
    if field.kind is str:
        return text
    if field.kind is bool:
        if text.strip().lower() not in _TRUTH:
            raise UserError(_wrong_type(field, text, source, item=True))
        return _TRUTH[text.strip().lower()]
    try:
        return field.kind(text)
    except ValueError:
        raise UserError(_wrong_type(field, text, source, item=True)) from None


def check_value(field: SettingField, value: Any, source: str) -> Any:
    """Return the value in the setting's type, or raise a one-sentence :class:`UserError`.

    A whole number counts as a number, a list as a tuple; ``true`` is never a number.
    """
    if field.is_list:
        if not isinstance(value, (list, tuple)):
            raise UserError(_wrong_type(field, value, source))
        return tuple(_check_one(field, item, source) for item in value)
    return _check_one(field, value, source)


def _check_one(field: SettingField, value: Any, source: str) -> Any:
    """Return one value, or one item of a list, in the setting's type."""
    kind: Any = field.kind
    if field.key in SUBJECTS and isinstance(value, str):
        value = parse_subject(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise UserError(_wrong_type(field, value, source, item=True))
    if field.words and not _is_word(value, field.words):
        raise UserError(
            f"{source}: {field.key} = {value!r} is unknown{nearest(value, field.words)}; "
            f"choose one of {', '.join(field.words)}"
        )
    if field.limits and not (math.isfinite(value) and field.limits.holds(value)):
        raise UserError(
            f"{source}: {field.key} = {value!r} is out of range; it must be {field.limits}"
        )
    return value


def _wrong_type(field: SettingField, value: Any, source: str, *, item: bool = False) -> str:
    """Say in one sentence that a value, or an item of a list, has the wrong type."""
    wanted = _WORDS[field.kind]
    if field.is_list and not item:
        wanted = f"a list, each item {wanted}"
    return f"{source}: {field.key} = {value!r} should be {wanted}"


def _is_word(value: str, words: tuple[str, ...]) -> bool:
    """Tell whether a word is allowed; ``name:<x>`` takes a number from 0 to 1."""
    if value in words:
        return True
    for word in words:
        stem = word.removesuffix("<x>")
        if stem != word and value.startswith(stem):
            try:
                return 0 <= float(value.removeprefix(stem)) <= 1
            except ValueError:
                return False
    return False
