"""``neuroclips report``: one self-contained HTML file."""

from __future__ import annotations

from neuroclips_cli.cli.options import command
from neuroclips_cli.settings.load import Settings


@command("report")
def report(settings: Settings, overwrite: bool = False) -> None:
    from neuroclips_cli.stages import report as stage

    stage.run(settings, overwrite=overwrite)
