"""``neuroclips models``: backbones of a profile, and checkpoints of trained reconstructors."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from neuroclips_cli.cli.commands import COMMANDS
from neuroclips_cli.cli.options import command
from neuroclips_cli.settings.load import Settings

Names = Annotated[
    list[str] | None,
    typer.Argument(help="Backbones, as `models list` names them; all by default.", metavar="NAME"),
]

Entry = Annotated[str, typer.Option("--entry", help="Which entry of the file holds the weights.")]


class Stage(str, Enum):
    """Stages that are exchanged with checkpoints of the authors' code."""

    perception = "train-pr"
    semantics = "train-sr"


Trained = Annotated[Stage, typer.Argument(help="Which reconstructor.", metavar="STAGE")]


def register(app: typer.Typer) -> None:
    """Add the group of commands to the application."""
    models = typer.Typer(name="models", help=COMMANDS["models"].help)
    app.add_typer(models, no_args_is_help=True)

    @command(models, "list")
    def list_(settings: Settings, names: Names = None) -> None:
        """List the backbones: size, license, where they lie, whether they are complete."""
        from neuroclips_cli.stages import models as stage

        stage.list_models(settings, names or ())

    @command(models, "pull")
    def pull(
        settings: Settings,
        names: Names = None,
        update: Annotated[
            bool, typer.Option("--update", help="Take the newest revision of what has moved.")
        ] = False,
    ) -> None:
        """Fetch what is missing from the Hugging Face Hub; an interrupted download goes on."""
        from neuroclips_cli.stages import models as stage

        stage.pull(settings, names or (), update=update)

    @command(models, "import", like="train-sr")
    def import_(
        settings: Settings,
        stage: Trained,
        file: Annotated[Path, typer.Argument(help="A trained checkpoint, such as last.pth.")],
        entry: Entry = "",
        overwrite: bool = False,
    ) -> None:
        """Take a trained reconstructor as the run's own, instead of training."""
        from neuroclips_cli.stages import _released_weights

        _released_weights.import_run(settings, stage.value, file, entry=entry, overwrite=overwrite)

    @command(models, "export", like="reconstruct")
    def export(
        settings: Settings,
        stage: Trained,
        file: Annotated[Path, typer.Argument(help="The file to write, such as last.pth.")],
        overwrite: bool = False,
    ) -> None:
        """Write a trained reconstructor under the published names."""
        from neuroclips_cli.stages import _released_weights

        _released_weights.export_run(settings, stage.value, file, overwrite=overwrite)

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
        entry: Entry = "",
        overwrite: bool = False,
    ) -> None:
        """Convert a published file to safetensors; nothing in it is run."""
        from neuroclips_cli.stages import convert as stage

        stage.run(file, out=out, kind=kind, config=network, entry=entry, overwrite=overwrite)
