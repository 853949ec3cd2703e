"""``neuroclips init``: write a commented neuroclips.toml."""

from __future__ import annotations

from pathlib import Path

from neuroclips_cli import console
from neuroclips_cli.cli.options import command
from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic
from neuroclips_cli.settings.load import FILE_NAME, Settings
from neuroclips_cli.settings.template import template_text


@command("init")
def init(settings: Settings, overwrite: bool) -> None:
    run(settings, overwrite=overwrite)


def run(settings: Settings, *, folder: Path | str = ".", overwrite: bool = False) -> Path:
    """Write ``neuroclips.toml``, with the profile and four active lines of ``settings``.

    A file that is there is refused without ``overwrite``.
    """
    path = Path(folder) / FILE_NAME
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; edit it, or write it anew with --overwrite")
    atomic.write_text(path, template_text(settings))
    console.info(f"wrote {path} (profile {settings.run.profile})")
    if not settings.run.dataset:
        console.info("next: `neuroclips simulate DIR`, or put your data set into it as dataset")
    return path
