"""``neuroclips models``: which backbones a profile needs, fetching and converting them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuroclips_cli.cli.options import command
from neuroclips_cli.cli.registry import COMMANDS
from neuroclips_cli.config import Settings

Names = Annotated[
    list[str] | None,
    typer.Argument(help="Backbones, as `models list` names them; all by default.", metavar="NAME"),
]


def register(app: typer.Typer) -> None:
    """Add the group of commands to the application."""
    models = typer.Typer(name="models", help=COMMANDS["models"].help)
    app.add_typer(models, no_args_is_help=True)

    @command(models, "list")
    def list_(settings: Settings, names: Names = None) -> None:
        """List the backbones: size, licence, where they lie, whether they are complete."""
        from neuroclips_cli.stages import models as stage

        stage.list_models(settings, names or ())

    @command(models, "pull")
    def pull(settings: Settings, names: Names = None) -> None:
        """Fetch what is missing from the Hugging Face Hub; an interrupted download goes on."""
        from neuroclips_cli.stages import models as stage

        stage.pull(settings, names or ())

    @command(models, "convert")
    def convert(
        settings: Settings,
        file: Annotated[Path, typer.Argument(help="A published .ckpt, .pth or .safetensors.")],
        out: Annotated[
            Path | None, typer.Option("--out", help="Folder to write; models/<kind> by default.")
        ] = None,
        kind: Annotated[
            str, typer.Option("--kind", help="What the file is; told from its content by default.")
        ] = "",
        network: Annotated[
            Path | None, typer.Option("--config", help="JSON with the network's configuration.")
        ] = None,
        entry: Annotated[
            str,
            typer.Option("--entry", help="Which entry of the file holds the weights."),
        ] = "",
        overwrite: bool = False,
    ) -> None:
        """Convert a published file to safetensors; nothing in it is run."""
        from neuroclips_cli.stages import convert as stage

        stage.run(file, out=out, kind=kind, config=network, entry=entry, overwrite=overwrite)
