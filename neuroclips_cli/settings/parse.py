"""Reading and checking single setting values: type, range, allowed words, nearest match."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any, get_args, get_origin

from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.schema import CHOICES, RANGES

_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
_TRUTH = {"true": True, "false": False, "1": True, "0": False}


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


def parse_text(key: str, text: str, kind: Any, source: str) -> Any:
    """Read a value given as text (a flag or an environment variable) by the key's type.

    Lists are separated by commas; brackets around them are allowed.
    """
    if key == "run.subject":
        return parse_subject(text)
    if get_origin(kind) is tuple:
        inner = text.strip().removeprefix("[").removesuffix("]")
        parts = [part.strip().strip("\"'") for part in inner.split(",")]
        item = get_args(kind)[0]
        return tuple(parse_text(key, part, item, source) for part in parts if part)
    if kind is str:
        return text
    if kind is bool:
        if text.strip().lower() not in _TRUTH:
            raise UserError(_wrong(key, text, kind, source))
        return _TRUTH[text.strip().lower()]
    try:
        return kind(text)
    except ValueError:
        raise UserError(_wrong(key, text, kind, source)) from None


def check_value(key: str, value: Any, kind: Any, source: str) -> Any:
    """Return the value in the key's type, or raise a one-sentence :class:`UserError`.

    A whole number counts as a number, a list as a tuple; ``true`` is never a number.
    """
    if key == "run.subject" and isinstance(value, str):
        value = parse_subject(value)
    if get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(_wrong(key, value, kind, source))
        return tuple(check_value(key, item, get_args(kind)[0], source) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise UserError(_wrong(key, value, kind, source))
    if kind is bool:
        return value
    if kind is str:
        _check_choice(key, value, source)
    else:
        _check_range(key, value, kind, source)
    return value


def _wrong(key: str, value: Any, kind: Any, source: str) -> str:
    """Say in one sentence that a value has the wrong type."""
    if get_origin(kind) is tuple:
        wanted = f"a list, each item {_WORDS[get_args(kind)[0]]}"
    else:
        wanted = _WORDS[kind]
    return f"{source}: {key} = {value!r} should be {wanted}"


def _check_choice(key: str, value: str, source: str) -> None:
    """Check a word against the key's choices; ``name:<x>`` takes a number from 0 to 1."""
    choices = CHOICES.get(key, ())
    if not choices or value in choices:
        return
    for choice in choices:
        stem = choice.removesuffix("<x>")
        if stem != choice and value.startswith(stem):
            try:
                if 0 <= float(value.removeprefix(stem)) <= 1:
                    return
            except ValueError:
                break
    raise UserError(
        f"{source}: {key} = {value!r} is unknown{nearest(value, choices)}; "
        f"choose one of {', '.join(choices)}"
    )


def _check_range(key: str, value: float, kind: type, source: str) -> None:
    """Check a number: by :data:`RANGES`, else whole numbers from 1 and others above 0."""
    low, high = RANGES.get(key, (1 if kind is int else 0, None))
    strict = kind is float and key not in RANGES
    inside = math.isfinite(value) and (value > low if strict else value >= low)
    if inside and (high is None or value <= high):
        return
    wanted = f"above {low:g}" if strict else f"at least {low:g}"
    if high is not None:
        wanted = f"from {low:g} to {high:g}"
    raise UserError(f"{source}: {key} = {value!r} is out of range; it must be {wanted}")
