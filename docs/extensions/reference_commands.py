"""The page of the command line: every command with its arguments and options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from neuroclips_cli.cli.commands import COMMANDS, load
from neuroclips_cli.cli.options import SHARED

HEAD = """\
Command line
============

Every command is ``neuroclips COMMAND [OPTIONS]``. ``neuroclips --help`` lists the commands,
``neuroclips COMMAND --help`` shows one, ``neuroclips --version`` prints the version.

Exit codes: 0 done; 1 a bug, please report it; 2 something that you can correct, one sentence says
what and how; 128 + the number of a signal that stopped the command (130 for Ctrl-C): the same
command continues.

"""


def page() -> str:
    """Return the page in reStructuredText."""
    text, shared = HEAD, {}
    for name, listed in COMMANDS.items():
        top = load(name)
        for path, command in commands(f"neuroclips {name}", top):
            context = command.make_context(path, [], resilient_parsing=True)
            usage = command.get_usage(context).removeprefix("Usage: ")
            text += _title(path, "-" if command is top else "~")
            text += f"{command.help or listed.help}\n\n.. program:: {path}\n\n"
            text += f".. code-block:: text\n\n   {usage}\n\n"
            for parameter in command.params:
                entry = _entry(parameter, context)
                if getattr(parameter, "rich_help_panel", None) == SHARED:
                    shared[parameter.name] = entry
                elif "--help" not in parameter.opts:
                    text += entry
    text += _title("Common options", "-")
    text += "Every command but ``models`` itself takes these.\n\n.. program:: neuroclips\n\n"
    return text + "".join(shared.values())


def commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield a command and its sub-commands with the words that call them."""
    yield path, command
    for name, one in getattr(command, "commands", {}).items():
        yield from commands(f"{path} {name}", one)


def _title(text: str, line: str) -> str:
    """Return a heading in reStructuredText."""
    return f"{text}\n{line * len(text)}\n\n"


def _entry(parameter: Any, context: Any) -> str:
    """Return the description of an argument or option."""
    names, meaning = parameter.get_help_record(context) or (parameter.name.upper(), "")
    if parameter.param_type_name == "argument":
        return f"``{names}``\n   {_escape(meaning)}\n\n"
    return f".. option:: {names.replace(' / ', ', ')}\n\n   {_escape(meaning)}\n\n"


def _escape(text: str) -> str:
    """Protect characters that reStructuredText gives a meaning."""
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("|", "\\|")
