"""Settings: flags > environment > ``neuroclips.toml`` > variant > profile > default, with origins.

The keys and their types are the dataclasses of :mod:`neuroclips_cli.settings.schema`; the values
are in ``profiles/*.toml``. Everything a user can get wrong here is one sentence with the nearest
match.
"""

from __future__ import annotations

import os
import types
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, get_type_hints

from neuroclips_cli.errors import UserError
from neuroclips_cli.io.text import read_text
from neuroclips_cli.settings import schema
from neuroclips_cli.settings.field import SettingField, read_field
from neuroclips_cli.settings.parse import check_value, nearest, parse_text, read_toml
from neuroclips_cli.settings.profiles import lineage, profile_text, read_profile, variant_text
from neuroclips_cli.settings.renamed import RENAMED

FILE_NAME = "neuroclips.toml"
LARGEST_FILE = 2**20
PREFIX = "NEUROCLIPS_"
RELEASED = "released"
NOT_SETTINGS = ("NEUROCLIPS_SHARED", "NEUROCLIPS_FIXTURES", "NEUROCLIPS_GPU_TEST_DEVICE")
"""Variables with our prefix that are not settings: the tests' material and device."""


@dataclass(frozen=True)
class Settings:
    """All settings in force, one attribute per section, and the origin of each.

    ``origins`` maps a dotted key to ``"flag"``, ``"environment"``, ``"neuroclips.toml"``,
    ``"variant released"``, ``"profile <name>"`` (the profile that states the value: of
    ``compact`` it may be ``paper``), ``"default"`` or ``"run folder (<stage>)"``.
    It takes no part in comparisons.
    """

    run: schema.RunSettings
    data: schema.DataSettings
    simulate: schema.SimulateSettings
    backbones: schema.BackboneSettings
    perception: schema.PerceptionSettings
    train_pr: schema.TrainPRSettings
    semantics: schema.SemanticsSettings
    train_projector: schema.TrainProjectorSettings
    train_sr: schema.TrainSRSettings
    reconstruct: schema.ReconstructSettings
    fuse: schema.FuseSettings
    evaluate: schema.EvaluateSettings
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    def section(self, name: str) -> dict[str, Any]:
        """Return one section as a plain dictionary that JSON can hold (tuples become lists)."""
        values = asdict(getattr(self, name))
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}

    def value(self, key: str) -> Any:
        """Return the value of a dotted key such as ``"train_pr.epochs"``."""
        section, name = key.split(".", 1)
        return getattr(getattr(self, section), name)

    def chosen_by_user(self, key: str) -> bool:
        """Tell whether a flag, the environment or ``neuroclips.toml`` set the key."""
        return self.origins.get(key) in ("flag", "environment", FILE_NAME)


@lru_cache(maxsize=1)
def sections() -> dict[str, type]:
    """Return the section classes by name, in the order of :class:`Settings`."""
    hints = get_type_hints(Settings)
    return {f.name: hints[f.name] for f in fields(Settings) if f.name != "origins"}


@lru_cache(maxsize=1)
def keys() -> dict[str, SettingField]:
    """Return every setting as its field states it by its dotted key, in the schema's order."""
    return {
        f"{section}.{name}": read_field(f"{section}.{name}", hint)
        for section, cls in sections().items()
        for name, hint in get_type_hints(cls, include_extras=True).items()
    }


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    folder: Path | str | None = ".",
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Put the settings in force together.

    Parameters
    ----------
    flags
        Dotted keys to values, as given on the command line. ``None`` values are left out;
        text is read according to the key's type.
    folder
        Where ``neuroclips.toml`` may lie; None: no file is read.
    environ
        ``NEUROCLIPS_SUBJECT`` sets ``run.subject``, ``NEUROCLIPS_TRAIN_PR_EPOCHS`` sets
        ``train_pr.epochs``; an empty variable counts as not set.

    Raises
    ------
    UserError
        For an unknown profile, section or key, a value of the wrong type or out of range.
    """
    layers = [
        (_checked(dict(flags or {}), "flag"), "flag"),
        (_from_environment(environ), "environment"),
        ({} if folder is None else _from_file(Path(folder) / FILE_NAME), FILE_NAME),
    ]
    name = _first("run.profile", layers, schema.RunSettings().profile)
    profiles = _profile_layers(name)
    if _first("run.variant", layers, schema.RunSettings().variant) == RELEASED:
        layers.append(_variant_layer(name))
    layers += profiles
    defaults = {f"run.{k}": v for k, v in asdict(schema.RunSettings()).items()}
    layers.append((defaults, "default"))

    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer, origin in layers:
        for key, value in layer.items():
            if key not in values:
                values[key], origins[key] = value, origin
    missing = [key for key in keys() if key not in values]
    if missing:
        raise ValueError(f"profile {name} lacks {', '.join(missing)}")
    return _build(values, origins)


def _first(key: str, layers: Iterable[tuple[Mapping[str, Any], str]], default: str) -> str:
    """Return the strongest layer's value of a key."""
    return next((values[key] for values, _ in layers if key in values), default)


def _profile_layers(name: str) -> list[tuple[dict[str, Any], str]]:
    """Return the values of a profile and of those that it extends, the strongest first."""
    return [
        _profile_layer(read_profile(profile_text(one))[0], f"profile {one}")
        for one in lineage(name)
    ]


def _variant_layer(profile: str) -> tuple[dict[str, Any], str]:
    """Return the values of the variant that follows the released code.

    It is made for the profile that it extends, and for those that extend the same.
    """
    tables, extends = read_profile(variant_text())
    if extends not in lineage(profile):
        raise UserError(
            "variant released lays full-size values over the profiles paper and compact: on "
            f"profile {profile} take its departures one by one with --set, "
            "docs/explanation/departures.md lists them"
        )
    return _profile_layer(tables, "variant released")


def _profile_layer(tables: Mapping[str, Any], origin: str) -> tuple[dict[str, Any], str]:
    """Return checked values and their origin."""
    return _checked(_flatten(tables, origin), origin), origin


def replace_settings(
    settings: Settings,
    changes: Mapping[str, Any] | None = None,
    /,
    *,
    origin: str = "flag",
    **more: Any,
) -> Settings:
    """Return the settings with some dotted keys replaced: ``**{"train_pr.epochs": 3}``.

    Profile and variant cannot be replaced, since all other values depend on them: load again.
    """
    new = _checked({**(changes or {}), **more}, origin)
    if new.get("run.profile", settings.run.profile) != settings.run.profile:
        raise ValueError("the profile decides all other values: use load_settings")
    if new.get("run.variant", settings.run.variant) != settings.run.variant:
        raise ValueError("the variant decides other values: use load_settings")
    values = {key: new.get(key, settings.value(key)) for key in keys()}
    origins = {**settings.origins, **dict.fromkeys(new, origin)}
    return _build(values, origins)


def _build(values: Mapping[str, Any], origins: Mapping[str, str]) -> Settings:
    """Make the frozen settings from a complete flat mapping."""
    parts = {
        section: cls(**{f.name: values[f"{section}.{f.name}"] for f in fields(cls)})
        for section, cls in sections().items()
    }
    ordered = {key: origins[key] for key in keys()}
    return Settings(**parts, origins=types.MappingProxyType(ordered))


def _checked(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Check keys, types and ranges; drop ``None``; read text flags by the key's type."""
    known = keys()
    result = {}
    for key, value in values.items():
        if value is None:
            continue
        if key not in known:
            raise UserError(_unknown_key(key, source))
        if source == "flag" and isinstance(value, str):
            value = parse_text(known[key], value, source)
        result[key] = check_value(known[key], value, source)
    return result


def _unknown_key(key: str, source: str) -> str:
    """Say in one sentence that a key does not exist, with the nearest that does."""
    if key in RENAMED:
        return f"{source}: the setting {key} is now called {RENAMED[key]}: write that instead"
    section, _, name = key.partition(".")
    if section in sections() and name:
        names = [f.name for f in fields(sections()[section])]
        return (
            f"{source}: there is no setting {name!r} in [{section}]{nearest(name, names)}; "
            f"it has {', '.join(names)}"
        )
    if not name:
        return f"{source}: there is no setting {key!r}{nearest(key, keys())}; use section.key"
    return (
        f"{source}: there is no section [{section}]{nearest(section, sections())}; "
        f"the sections are {', '.join(sections())}"
    )


def _flatten(tables: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Turn TOML sections into dotted keys; keys outside a section belong to ``[run]``."""
    flat: dict[str, Any] = {}
    for section, content in tables.items():
        if isinstance(content, dict):
            if section not in sections():
                raise UserError(_unknown_key(f"{section}.x", source))
            flat.update({f"{section}.{name}": value for name, value in content.items()})
        elif f"run.{section}" in keys():
            flat[f"run.{section}"] = content
        else:
            raise UserError(_unknown_key(f"run.{section}", source))
    return flat


def _from_file(path: Path) -> dict[str, Any]:
    """Read ``neuroclips.toml`` if it is there."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path} is larger than any settings: correct or remove it")
        text = read_text(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): write it in UTF-8, or remove it"
        ) from error
    try:
        tables = read_toml(text.replace("\r\n", "\n"))
    except (ValueError, RecursionError) as error:  # a number or a nesting without end, too
        raise UserError(f"{path} is not valid TOML: {error}") from error
    return _checked(_flatten(tables, str(path)), str(path))


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Read ``NEUROCLIPS_*`` variables; an unknown one is an error, so that no slip goes unseen."""
    names, old_names = environment_names(), environment_names(RENAMED)
    result = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS or text == "":
            continue
        if variable not in names and variable in old_names:
            new = environment_names([RENAMED[old_names[variable]]])
            raise UserError(
                f"the environment variable {variable} is now called {''.join(new)}: rename it"
            )
        if variable not in names:
            raise UserError(
                f"the environment variable {variable} is not a setting{nearest(variable, names)}; "
                "unset it or correct its name"
            )
        key = names[variable]
        result[key] = parse_text(keys()[key], text, variable)
    return result


def environment_names(only: Iterable[str] | None = None) -> dict[str, str]:
    """Return the environment variables and the dotted keys that they set."""
    result = {}
    for key in only or keys():
        section, name = key.split(".", 1)
        middle = "" if section == "run" else f"{section.upper()}_"
        result[f"{PREFIX}{middle}{name.upper()}"] = key
    return result
