"""The list of commands, and a group that imports a command's module when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer

from neuroclips_cli.cli.help_pages import PlainCommand, PlainGroup
from neuroclips_cli.runs.pipeline import PIPELINE


@dataclass(frozen=True)
class CommandInfo:
    """What ``neuroclips --help`` says of a command.

    Attributes
    ----------
    panel : str
        Heading under which it stands.
    help : str
        One line; also the first one of ``neuroclips COMMAND --help``.
    """

    panel: str
    help: str


START, SET_UP, PIPELINE_PANEL = "Start here", "Set up", "Pipeline"

COMMANDS = {
    "demo": CommandInfo(
        START, "Simulate a brain watching films, decode it, and show how well that worked."
    ),
    "init": CommandInfo(
        SET_UP, "Write neuroclips.toml here, so that later commands need no flags."
    ),
    "config": CommandInfo(SET_UP, "Show the settings in force and where each comes from."),
    "status": CommandInfo(
        SET_UP, "Show for each subject what is done, stale, interrupted or missing."
    ),
    "doctor": CommandInfo(
        SET_UP, "Check machine, data set, model files, and that every stage connects and fits."
    ),
    "models": CommandInfo(SET_UP, "Backbones: what a profile needs; fetch and convert them."),
    **{spec.name: CommandInfo(PIPELINE_PANEL, spec.help) for spec in PIPELINE},
}
"""Every command in the order of the help; ``train-pr`` is made by the module ``train_pr``."""


IMPORTED = typer.Typer(callback=lambda: None)
"""Commands whose modules have been imported."""


def load(name: str) -> Any:
    """Import a command's module and return the command with its options."""
    import_module(f"neuroclips_cli.cli.{name.replace('-', '_')}")
    return typer.main.get_group(IMPORTED).commands[name]


class LazyGroup(PlainGroup):
    """The commands of :data:`COMMANDS`: names and help from there, the rest when one is used.

    Importing all of them takes longer than showing the help.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, listed in COMMANDS.items():
            self.add_command(PlainCommand(name, help=listed.help, rich_help_panel=listed.panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return name, loaded command and its arguments; shell completion asks here, too."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in COMMANDS else command, rest
