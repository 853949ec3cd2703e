"""``neuroclips config``: the settings in force and where each comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from neuroclips_cli import console
from neuroclips_cli.cli.options import command
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.field import SettingField
from neuroclips_cli.settings.load import Settings, keys, sections
from neuroclips_cli.settings.parse import nearest, toml_value


@command("config", like="preprocess")
def config(
    settings: Settings,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY ...]",
            help="Settings or sections to explain, such as train_pr.epochs or data.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    chosen = _chosen(names or [])
    if as_json:
        import json

        console.out(json.dumps(_as_json(settings, chosen), indent=2))
        return
    columns = ["setting", "value", "from"] + (["accepts", "meaning"] if names else [])
    rows = [
        [
            *(field.key, toml_value(settings.value(field.key)), settings.origins[field.key]),
            *([field.accepts, field.doc] if names else []),
        ]
        for field in chosen
    ]
    console.table("Settings in force", columns, rows)


def _chosen(names: Sequence[str]) -> list[SettingField]:
    """Return the settings and the sections' settings that were named; all if none was."""
    for name in names:
        if name not in keys() and name not in sections():
            near = nearest(name, [*keys(), *sections()])
            raise UserError(f"there is no setting or section {name!r}{near}: see neuroclips config")
    return [
        field
        for key, field in keys().items()
        if not names or key in names or key.partition(".")[0] in names
    ]


def _as_json(settings: Settings, chosen: Sequence[SettingField]) -> dict[str, Any]:
    """Return values by section, origins, and what the fields state."""
    values: dict[str, dict[str, Any]] = {}
    for field in chosen:
        section, _, name = field.key.partition(".")
        values.setdefault(section, {})[name] = settings.section(section)[name]
    return {
        "settings": values,
        "origins": {field.key: settings.origins[field.key] for field in chosen},
        "fields": {field.key: _stated(field) for field in chosen},
    }


def _stated(field: SettingField) -> dict[str, Any]:
    """Return what a setting's field states, without what is empty."""
    stated = {
        "type": ("list of " if field.is_list else "") + field.kind.__name__,
        "words": list(field.words),
        "limits": asdict(field.limits) if field.limits else None,
        "unit": field.unit,
        "doc": field.doc,
    }
    return {name: value for name, value in stated.items() if value}
