"""The page of the settings: each key with type, range, meaning and value in every profile."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, get_args, get_origin

from neuroclips_cli.settings.load import Settings, keys, load_settings, sections
from neuroclips_cli.settings.schema import CHOICES, PROFILES, RANGES
from neuroclips_cli.stages.init import text as commented_settings

HEAD = """\
Settings
========

The first of these that names a setting decides: an option of the command line,
an environment variable, ``neuroclips.toml`` in the current folder, the variant, the profile.
``neuroclips config`` prints all settings in force and where each comes from.

A setting ``section.key`` is written

- on the command line ``--set section.key=value`` (lists: ``--set evaluate.ways=2,50``);
- in the environment ``NEUROCLIPS_SECTION_KEY=value``; the section ``run`` is left out there:
  ``NEUROCLIPS_SUBJECT=2``;
- in ``neuroclips.toml`` as ``key = value`` below ``[section]``; ``neuroclips init`` writes it.

Profiles: ``tiny`` (embedded networks, two CPU cores), ``paper`` (the sizes and hyperparameters of
the paper) and ``compact`` (24 GB of GPU memory). ``--variant released`` replaces some values of
``paper`` and ``compact`` by those of the authors' code. A source in brackets is a section of the
paper.

"""
KINDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}


def page() -> str:
    """Return the page in reStructuredText."""
    loaded = {name: load_settings({"run.profile": name}, environ={}) for name in PROFILES}
    released = load_settings({"run.profile": "paper", "run.variant": "released"}, environ={})
    meanings = _comments([loaded["paper"], *loaded.values()])
    text = HEAD
    for section, cls in sections().items():
        text += f"[{section}]\n{'-' * (len(section) + 2)}\n\n{_lines(cls.__doc__ or '')}\n\n"
        for key, kind in keys().items():
            if key.startswith(f"{section}."):
                values = {name: settings.value(key) for name, settings in loaded.items()}
                text += _entry(key, kind, meanings.get(key, ""), values, _released(key, released))
    return text


def _lines(text: str) -> str:
    """Return a docstring without its indentation."""
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _released(key: str, released: Settings) -> tuple[Any, ...]:
    """Return the value of variant released, if it names the key."""
    return (released.value(key),) if released.origins[key] == "variant released" else ()


def _entry(
    key: str, kind: Any, meaning: str, values: dict[str, Any], released: tuple[Any, ...]
) -> str:
    """Return the description of one setting."""
    text = f".. confval:: {key}\n   :type: {_kind(key, kind)}\n\n"
    if meaning:
        text += f"   {_sentence(key, meaning)}\n\n"
    shown = {name: _value(value) for name, value in values.items()}
    if key == "run.profile" or len(set(shown.values())) == 1:
        parts = [f"Default: {next(iter(shown.values()))}"]
    else:
        parts = [f"{name}: {value}" for name, value in shown.items()]
    parts += [f"variant released: {_value(value)}" for value in released]
    return f"{text}   {'; '.join(parts)}\n\n"


def _sentence(key: str, meaning: str) -> str:
    """Return a comment as a sentence, with links to the pages that it names."""
    text = re.sub(r"docs/([\w/-]+)\.md", r":doc:`/\1`", meaning.rstrip("."))
    first = re.split(r"\W", text)[0]
    return f"{text}." if first in CHOICES.get(key, ()) else f"{text[0].upper()}{text[1:]}."


def _value(value: Any) -> str:
    """Return a value as ``neuroclips.toml`` has it."""
    written = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
    return f"``{written}``"


def _kind(key: str, kind: Any) -> str:
    """Return type, range and choices of a setting in words."""
    if key in CHOICES:
        several = "one or more of " if get_origin(kind) is tuple else ""
        return several + ", ".join(f"``{choice}``" for choice in CHOICES[key])
    many = get_origin(kind) is tuple
    item = get_args(kind)[0] if many else kind
    words = ("list of " if many else "") + KINDS[item] + ("s" if many and item is not str else "")
    low, high = RANGES.get(key, (None, None))
    if low is None and item in (str, bool):
        return words
    if low is None:
        return f"{words}, {'from 1' if item is int else 'above 0'}"
    return f"{words}, {low:g} to {high:.10g}" if high is not None else f"{words}, from {low:g}"


def _comments(profiles: Iterable[Settings]) -> dict[str, str]:
    """Return what ``neuroclips init`` writes beside each key; the first profile with a comment."""
    found: dict[str, str] = {}
    for settings in profiles:
        section = ""
        for line in commented_settings(settings).splitlines():
            heading = re.fullmatch(r"\[(\w+)\]", line.strip())
            if heading:
                section = heading[1]
            entry = re.match(r'(?:# )?(\w+) = (?:"(?:[^"\\]|\\.)*"|[^#"]|"[^"]*")*?#\s*(.+)$', line)
            if entry:
                found.setdefault(f"{section}.{entry[1]}", entry[2].strip())
    return found
