"""Profiles: the values of all settings, each with a note of its source beside it.

A profile that begins with ``extends = "paper"`` states only what differs from that profile.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from typing import Any

from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.parse import nearest, read_toml
from neuroclips_cli.settings.schema import PROFILES

_HEADING = re.compile(r"\[(\w+)\]\s*")
_ENTRY = re.compile(r'(\w+) = (?:"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[^"\[#]*)\s*(?:#\s*(.*))?')


@lru_cache(maxsize=8)
def profile_text(name: str) -> str:
    """Return the text of a profile; an unknown name is a :class:`UserError`."""
    if name not in PROFILES:
        raise UserError(
            f"there is no profile {name!r}{nearest(name, PROFILES)}; "
            f"choose one of {', '.join(PROFILES)}"
        )
    return _text(name)


def variant_text() -> str:
    """Return the text of the variant that follows the authors' released code."""
    return _text("released")


def _text(name: str) -> str:
    """Return the text of a file of the profiles."""
    return (resources.files("neuroclips_cli.profiles") / f"{name}.toml").read_text("utf-8")


def read_profile(text: str) -> tuple[dict[str, Any], str]:
    r"""Return the tables of a profile's text and the name of the profile that it extends.

    >>> read_profile('extends = "paper"\n[fuse]\nepochs = 5')
    ({'fuse': {'epochs': 5}}, 'paper')
    """
    tables = read_toml(text)
    return tables, tables.pop("extends", "")


def lineage(name: str) -> list[str]:
    """Return a profile and those that it extends, the strongest first.

    >>> lineage("compact")
    ['compact', 'paper']
    """
    extends = read_profile(profile_text(name))[1]
    return [name, *(lineage(extends) if extends else [])]


def value_notes(name: str) -> dict[str, str]:
    """Return the notes beside the values of a profile, by dotted key.

    Parameters
    ----------
    name : str
        The profile. What it takes over from another profile has the note of that profile.

    Returns
    -------
    dict of str to str
        Source or reason of each value, such as ``"[4.1]"``.
    """
    notes: dict[str, str] = {}
    for one in reversed(lineage(name)):
        notes |= text_notes(profile_text(one))
    return notes


def text_notes(text: str) -> dict[str, str]:
    r"""Return the notes beside the values of a profile's text, by dotted key.

    >>> text_notes('[data]\ntr_s = 2.0   # [4.1]')
    {'data.tr_s': '[4.1]'}
    """
    notes = {}
    section = ""
    for line in text.splitlines():
        if heading := _HEADING.fullmatch(line):
            section = heading[1]
        elif section and (entry := _ENTRY.fullmatch(line)):
            notes[f"{section}.{entry[1]}"] = (entry[2] or "").strip()
    return notes
