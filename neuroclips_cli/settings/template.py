"""The commented ``neuroclips.toml`` that ``neuroclips init`` writes."""

from __future__ import annotations

import textwrap

from neuroclips_cli.settings.field import SettingField
from neuroclips_cli.settings.load import Settings, keys, load_settings, sections
from neuroclips_cli.settings.parse import toml_value
from neuroclips_cli.settings.profiles import value_notes

_HEAD = """\
# Settings of neuroclips in this folder; `neuroclips config` shows what is in force and why.
# Flags and the environment (NEUROCLIPS_TRAIN_PR_EPOCHS=3) are stronger than this file.
# Lines that begin with "# key = value" show what profile {profile} says: take the # away to change.
# A source in brackets is a section of the paper; [code] is its released code, [MindEye2] the code
# that its Semantics Reconstructor is built on, [cc2017] the published data set.
"""
_ACTIVE = ("run.profile", "run.subject", "run.dataset", "run.workdir")
_WIDTH = 100


def template_text(settings: Settings) -> str:
    """Return the file's content: a few lines in force, the profile's values as comments.

    Parameters
    ----------
    settings : Settings
        The section ``run`` is taken from here; all other values are those of its profile.

    Returns
    -------
    str
        TOML, with the meaning of each setting above it and the source of its value beside it.
    """
    profile = load_settings({"run.profile": settings.run.profile}, folder=None, environ={})
    notes = value_notes(settings.run.profile)
    text = _HEAD.format(profile=settings.run.profile)
    for section in sections():
        text += f"\n[{section}]\n"
        for key, field in keys().items():
            if key.startswith(f"{section}."):
                source = settings if section == "run" else profile
                text += _entry(field, source.value(key), notes.get(key, ""))
    return text


def _entry(field: SettingField, value: object, note: str) -> str:
    """Return a setting's meaning as a comment, and its line."""
    meaning = f"{field.doc} {field.accepts[0].upper()}{field.accepts[1:]}."
    if field.accepts == "text":
        meaning = field.doc
    wrapped = textwrap.wrap(meaning, _WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    line = f"{field.key.partition('.')[2]} = {toml_value(value)}"
    line += f"   # {note}" if note else ""
    mark = "" if field.key in _ACTIVE else "# "
    return "\n" + "".join(f"# {part}\n" for part in wrapped) + f"{mark}{line}\n"
