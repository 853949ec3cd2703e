"""Help pages in plain text: Typer's own load Rich's Markdown and highlighting for every page."""

from __future__ import annotations

import shutil
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

MOST_COLUMNS = 100
"""Longer lines are hard to read, also where the terminal is wider."""


class _PlainHelp:
    """Usage, purpose, then arguments, options and commands under their headings.

    Headings are bold on a terminal; Click leaves that out everywhere else.
    """

    def format_help(self: Any, ctx: Any, formatter: Any) -> None:
        """Write the page in the width of the terminal."""
        formatter.width = min(shutil.get_terminal_size().columns, MOST_COLUMNS) - 1
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        for heading, rows in self._sections(ctx).items():
            with formatter.section(typer.style(heading, bold=True)):
                formatter.write_dl(rows, col_max=min(30, formatter.width * 2 // 5))
        self.format_epilog(ctx, formatter)

    def _sections(self: Any, ctx: Any) -> dict[str, list[tuple[str, str]]]:
        """Return what to list under each heading: a name with its type or metavar, its help."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                kind = f"{parameter.param_type_name.capitalize()}s"
                panel = getattr(parameter, "rich_help_panel", None) or kind
                sections.setdefault(panel, []).append(record)
        commands = getattr(self, "commands", {})
        widest = max(map(len, commands), default=0)
        for name, command in commands.items():
            panel = getattr(command, "rich_help_panel", None) or "Commands"
            sections.setdefault(panel, []).append((name.ljust(widest), command.help or ""))
        return sections


class PlainCommand(_PlainHelp, TyperCommand):
    """A command with a plain help page."""


class PlainGroup(_PlainHelp, TyperGroup):
    """A group of commands with a plain help page."""
