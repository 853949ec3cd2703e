"""``neuroclips config``: the settings in force and where each comes from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from neuroclips_cli import console
from neuroclips_cli.cli.options import command
from neuroclips_cli.settings.load import Settings, keys, sections


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @command(app, "config", like="preprocess")
    def config(
        settings: Settings,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        if as_json:
            import json

            console.out(json.dumps(_as_json(settings), indent=2))
            return
        rows = [[key, _shown(settings.value(key)), settings.origins[key]] for key in keys()]
        console.table("Settings in force", ("setting", "value", "from"), rows)


def _as_json(settings: Settings) -> dict[str, Any]:
    """Return all settings and their origins."""
    values = {name: settings.section(name) for name in sections()}
    return {"settings": values, "origins": dict(settings.origins)}


def _shown(value: object) -> str:
    """Return a value as it would stand in TOML."""
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)
