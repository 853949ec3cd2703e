"""Pages that are written from the code at every build: commands, settings, Python API."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import reference_commands
import reference_settings
import reference_stages

import neuroclips_cli

PACKAGE = neuroclips_cli.__name__
DOMAIN = (
    *("data", "signal", "simulation", "models", "losses", "training", "backbones", "generation"),
    *("metrics", "protocols", "reporting"),
)
"""Packages of the Python API; what the commands are made of has no page."""


def write(folder: Path) -> None:
    """Write all generated pages; a page whose text did not change keeps its time."""
    pages = {
        "command-line.rst": reference_commands.page(),
        "settings.rst": reference_settings.page(),
        "stages.rst": reference_stages.page(),
        **_api_pages(),
    }
    for path in folder.rglob("*.rst"):
        if path.relative_to(folder).as_posix() not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def _api_pages() -> dict[str, str]:
    """Return one page per package and one that lists them, by file name."""
    pages = {f"api/{package}.rst": _package_page(package) for package in DOMAIN}
    interface = f"{_title('Runs and judging', '=')}.. automodule:: {PACKAGE}.api\n"
    pages["api/interface.rst"] = interface
    return {**pages, "api/index.rst": _index_page()}


def _interface() -> str:
    """Return the names that are imported from the package itself, described one by one."""
    text = ""
    for name in getattr(neuroclips_cli, "__all__", ()):
        if not name.startswith("_"):
            kind = "autoclass" if inspect.isclass(getattr(neuroclips_cli, name)) else "autofunction"
            text += f".. {kind}:: {PACKAGE}.{name}\n\n"
    return text


def _modules(package: str) -> Iterator[str]:
    """Yield the names of a package and of its modules without an underscore."""
    name = f"{PACKAGE}.{package}"
    yield name
    for module in pkgutil.walk_packages(import_module(name).__path__, f"{name}."):
        if not any(part.startswith("_") for part in module.name.split(".")):
            yield module.name


def _title(text: str, line: str) -> str:
    """Return a heading in reStructuredText."""
    return f"{text}\n{line * len(text)}\n\n"


def _package_page(package: str) -> str:
    """Return the page of a package: its modules as sections."""
    own, *modules = _modules(package)
    text = _title(package, "=")
    # What a package takes from its modules is described there.
    text += f".. automodule:: {own}\n   :{'no-members' if modules else 'members'}:\n\n"
    for name in modules:
        text += _title(name.removeprefix(f"{PACKAGE}."), "-") + f".. automodule:: {name}\n\n"
    return text


def _index_page() -> str:
    """Return the page that lists the packages."""
    lines = [f"   {page}" for page in ("interface", *DOMAIN)]
    return (
        _title("Python API", "=")
        + "Generated from the docstrings. Names that begin with an underscore are left out.\n\n"
        + _interface()
        + ".. toctree::\n   :maxdepth: 1\n   :titlesonly:\n\n"
        + "\n".join(lines)
        + "\n"
    )
