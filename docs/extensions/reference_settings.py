"""The page of the settings: what each field states, and its value in every profile."""

from __future__ import annotations

import re
from typing import Any

from neuroclips_cli.settings.field import SettingField
from neuroclips_cli.settings.load import Settings, keys, load_settings, sections
from neuroclips_cli.settings.parse import toml_value
from neuroclips_cli.settings.profiles import text_notes, value_notes, variant_text
from neuroclips_cli.settings.schema import PROFILES

HEAD = """\
Settings
========

The first of these that names a setting decides: an option of the command line,
an environment variable, ``neuroclips.toml`` in the current folder, the variant, the profile.
``neuroclips config`` prints all settings in force and where each comes from;
``neuroclips config train_pr.epochs`` explains one of them.

A setting ``section.key`` is written

- on the command line ``--set section.key=value`` (lists: ``--set evaluate.ways=2,50``);
- in the environment ``NEUROCLIPS_SECTION_KEY=value``; the section ``run`` is left out there:
  ``NEUROCLIPS_SUBJECT=2``;
- in ``neuroclips.toml`` as ``key = value`` below ``[section]``; ``neuroclips init`` writes it.

Profiles: ``tiny`` (embedded networks, two CPU cores), ``paper`` (the sizes and hyperparameters of
the paper) and ``compact`` (24 GB of GPU memory; it extends ``paper``). ``--variant released``
replaces some values of ``paper`` and ``compact`` by those of the authors' code. Beside a value is
its source: in brackets a section of the paper, its released code [code], the code that its
Semantics Reconstructor is built on [MindEye2], or the published data set [cc2017].

"""


def page() -> str:
    """Return the page in reStructuredText."""
    loaded = {
        name: load_settings({"run.profile": name}, folder=None, environ={}) for name in PROFILES
    }
    notes = {name: value_notes(name) for name in PROFILES}
    released = load_settings(
        {"run.profile": "paper", "run.variant": "released"}, folder=None, environ={}
    )
    text = HEAD
    for section, cls in sections().items():
        text += f"[{section}]\n{'-' * (len(section) + 2)}\n\n{_lines(cls.__doc__ or '')}\n\n"
        for key, field in keys().items():
            if key.startswith(f"{section}."):
                values = {
                    name: _value(settings.value(key), notes[name].get(key, ""))
                    for name, settings in loaded.items()
                    if section != "run" or name == PROFILES[0]
                }
                text += _entry(field, values, _released(key, released))
    return text


def _lines(text: str) -> str:
    """Return a docstring without its indentation."""
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _released(key: str, released: Settings) -> list[str]:
    """Return the value of variant released, if it names the key."""
    if released.origins[key] != "variant released":
        return []
    return [_value(released.value(key), text_notes(variant_text())[key])]


def _entry(field: SettingField, values: dict[str, str], released: list[str]) -> str:
    """Return the description of one setting."""
    text = f".. confval:: {field.key}\n   :type: {_accepts(field)}\n\n   {_linked(field.doc)}\n\n"
    if len(set(values.values())) == 1:
        lines = [f"Default: {next(iter(values.values()))}"]
    else:
        lines = [f"{name}: {value}" for name, value in values.items()]
    lines += [f"variant released: {value}" for value in released]
    return text + "".join(f"   - {line}\n" for line in lines) + "\n"


def _accepts(field: SettingField) -> str:
    """Return the accepted values in words, with words to type as code."""
    if field.words:
        return ("any of " if field.is_list else "") + ", ".join(f"``{w}``" for w in field.words)
    return field.accepts


def _value(value: Any, note: str) -> str:
    """Return a value as ``neuroclips.toml`` has it, and its source."""
    return f"``{toml_value(value)}``" + (f" — {_linked(note)}" if note else "")


def _linked(text: str) -> str:
    """Return plain text in reStructuredText, with links to the pages that it names."""
    escaped = re.sub(r"([*`|\\]|_\b)", r"\\\1", text)
    return re.sub(r"docs/([\w/-]+)\.md", r":doc:`/\1`", escaped)
