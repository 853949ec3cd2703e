"""``neuroclips models``: backbones of a profile, and checkpoints of trained reconstructors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from neuroclips_cli import console
from neuroclips_cli.backbones import hub, hub_cache, local_files
from neuroclips_cli.backbones.catalog import FILES, RELEASED_SOURCES, REPOSITORIES, ReleasedSource
from neuroclips_cli.backbones.references import ASSETS, hub_parts
from neuroclips_cli.cli.commands import COMMANDS, IMPORTED
from neuroclips_cli.cli.help_pages import PlainGroup
from neuroclips_cli.cli.options import command
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import human_size
from neuroclips_cli.protocols.evaluation_config import EvaluationConfig, evaluation_config
from neuroclips_cli.protocols.evaluators import PULLED_AS
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.settings.parse import nearest
from neuroclips_cli.simulation.provenance import is_synthetic

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


models = typer.Typer(name="models", cls=PlainGroup, help=COMMANDS["models"].help)
IMPORTED.add_typer(models, no_args_is_help=True)


@command("list", app=models)
def list_(settings: Settings, names: Names = None) -> None:
    """List the backbones: size, license, where they lie, whether they are complete."""
    list_models(settings, names or ())


@command("pull", app=models)
def pull(
    settings: Settings,
    names: Names = None,
    update: Annotated[
        bool, typer.Option("--update", help="Take the newest revision of what has moved.")
    ] = False,
) -> None:
    """Fetch what is missing from the Hugging Face Hub; an interrupted download continues."""
    pull_models(settings, names or (), update=update)


@command("import", like="train-sr", app=models)
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


@command("export", like="reconstruct", app=models)
def export(
    settings: Settings,
    stage: Trained,
    file: Annotated[Path, typer.Argument(help="The file to write, such as last.pth.")],
    overwrite: bool = False,
) -> None:
    """Write a trained reconstructor under the published names."""
    from neuroclips_cli.stages import _released_weights

    _released_weights.export_run(settings, stage.value, file, overwrite=overwrite)


@command("show", app=models)
def show(
    settings: Settings,
    path: Annotated[
        Path,
        typer.Argument(
            help="A decoder's folder such as runs/pool-01-02-03, a training's, or a file in it."
        ),
    ],
) -> None:
    """Show the card of trained weights: whose scans, which films, minutes, parent, settings."""
    from neuroclips_cli.cli import models_show

    models_show.run(path)


@command("convert", app=models)
def convert(
    settings: Settings,
    file: Annotated[Path, typer.Argument(help="A published .ckpt, .pth or .safetensors.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write; models/<kind> by default.")
    ] = None,
    kind: Annotated[
        str, typer.Option("--kind", help="What the file is; recognized by its content by default.")
    ] = "",
    network: Annotated[
        Path | None, typer.Option("--config", help="JSON with the network's configuration.")
    ] = None,
    entry: Entry = "",
    overwrite: bool = False,
) -> None:
    """Convert a published file to safetensors; nothing in it is run."""
    from neuroclips_cli.cli import models_convert as stage

    stage.run(file, out=out, kind=kind, config=network, entry=entry, overwrite=overwrite)


@dataclass(frozen=True)
class Backbone:
    """One backbone of the settings in force, and what of it is on this machine.

    Attributes
    ----------
    name, reference : str
        Key and value in ``[backbones]``, or an evaluator of the protocol.
    folder : Path or None
        Where its files lie.
    problem : str
        What is missing; empty if it is complete.
    """

    name: str
    reference: str
    folder: Path | None
    problem: str

    @property
    def from_hub(self) -> bool:
        """Whether the reference is a hub id."""
        return not self.reference.startswith(ASSETS) and not _is_local(self.reference)


def list_models(settings: Settings, names: Sequence[str] = ()) -> None:
    """Print what the settings need: size, license, where it lies, whether it is complete."""
    found = list(find_backbones(settings, names))
    rows = [
        (
            one.name,
            one.reference,
            _size(one),
            _license(one.reference, one.name),
            str(one.folder or ""),
            one.problem or "complete",
        )
        for one in found
    ]
    header = ("backbone", "named", "size", "license", "folder", "state")
    console.table(f"Backbones of profile {settings.run.profile}", header, rows)
    missing = [one.name for one in found if one.problem]
    if missing:
        console.info(f"fetch what is missing with `neuroclips models pull {' '.join(missing)}`")


def pull_models(settings: Settings, names: Sequence[str] = (), *, update: bool = False) -> None:
    """Fetch and check every backbone that is named; all of the profile by default.

    What cannot be fetched does not stop the others; it is listed at the end. A complete one is
    checked again where it is named; ``update`` takes the newest revision of what has moved.
    """
    problems: dict[str, str] = {}
    origins: dict[str, str] = {}
    count = 0
    for one in find_backbones(settings, names):
        if one.reference.startswith(ASSETS):
            continue
        count += 1
        try:
            if _is_local(one.reference):
                _pull_origin(one, origins, update)
            elif one.problem or names or update:
                _pull_from_hub(one, update)
            else:
                console.detail(f"{one.name}: {one.reference} is complete")
        except UserError as problem:
            problems[one.name] = str(problem)
            console.warn(f"{one.name}: {problem}")
    if problems:
        raise UserError(_summary(problems, count))


def _summary(problems: dict[str, str], count: int) -> str:
    """List in one sentence what is missing after all others were fetched."""
    if count == 1:
        return next(iter(problems.values()))
    listed = "; ".join(f"{name} ({problem})" for name, problem in problems.items())
    return (
        f"{len(problems)} of {count} backbones could not be fetched, all others are complete: "
        f"{listed}"
    )


def _pull_from_hub(one: Backbone, update: bool) -> None:
    """Fetch one backbone at its pinned commit, or at the newest where none is pinned."""
    repository, wanted, subfolder = hub_parts(one.reference)
    settled = "" if update else hub_cache.pinned(repository)
    newest = "" if wanted else hub.newest_revision(repository)
    revision, files = hub.remote_files(repository, subfolder, one.name, wanted or settled or newest)
    total = sum(file.size for file in files)
    console.info(f"{one.name}: {one.reference}, {len(files)} files, {human_size(total)}")
    folder = hub.fetch_backbone(repository, revision, files)
    if not wanted:
        hub_cache.pin(repository, revision)
    where = f"{folder / subfolder} (commit {revision[:12]})"
    console.info(f"{one.name}: complete and checked in {where}")
    if newest and settled and newest != settled:
        raise UserError(_moved(repository, settled, newest))


def _moved(repository: str, settled: str, newest: str) -> str:
    return (
        f"the repository '{repository}' has moved from commit {settled[:12]} to {newest[:12]} "
        "since it was pulled; what is here stays in use: run `neuroclips models pull --update` "
        f"to take the new one, or name @{settled[:12]} behind it in [backbones]"
    )


def _pull_origin(one: Backbone, origins: dict[str, str], update: bool) -> None:
    """Make a local folder from the authors' published file, where it is known.

    ``origins`` keeps, by folder, what became of files that hold several backbones: empty where
    the file was converted.
    """
    from neuroclips_cli.cli import models_convert

    if not one.problem:
        return
    origin = RELEASED_SOURCES.get(one.name)
    if origin is None:
        raise UserError(
            f"the folder {one.reference} of {one.name} {one.problem}: correct it in [backbones]"
        )
    out = Path(one.reference).expanduser()
    for _ in range(origin.levels_up):
        out = out.parent
    known = origins.get(str(out))
    if known is None:
        origins[str(out)] = "its file could not be fetched or converted either, see above"
        console.info(f"{one.name}: {origin.file} of {origin.repository}")
        where = (origin.repository, origin.kind_of_repository)
        settled = "" if update else hub_cache.pinned(*where)
        file, revision = hub.fetch_file(*where, origin.file, settled)
        hub_cache.pin(origin.repository, revision, origin.kind_of_repository)
        models_convert.run(
            file,
            out=out,
            kind=origin.kind,
            source={"repository": origin.repository, "revision": revision, "file": origin.file},
        )
        origins[str(out)] = ""
    elif known:
        raise UserError(known)
    folder = local_files.folder_of(one.reference, "")
    problem = local_files.problem_of(one.name, folder) if folder else "missing"
    if problem:
        raise UserError(
            f"{origin.file} was converted to {out}, which does not make {one.reference} complete "
            f"({problem}): correct {one.name} in [backbones]"
        )


def find_backbones(settings: Settings, names: Sequence[str] = ()) -> Iterator[Backbone]:
    """Yield the backbones of the settings and the protocol's evaluators: those named or all."""
    for name in names:
        if name not in FILES:
            raise UserError(f"there is no backbone {name!r}{nearest(name, FILES)}")
    evaluators = {
        PULLED_AS[evaluator]: ref
        for evaluator, ref in _evaluators(settings).evaluator_names.items()
    }
    for name in names or FILES:
        reference = evaluators[name] if name in evaluators else getattr(settings.backbones, name)
        if reference:
            yield Backbone(name, reference, *local_files.find(name, reference))


def _evaluators(settings: Settings) -> EvaluationConfig:
    """Return how the films of the settings' data set would be evaluated."""
    synthetic = is_synthetic(settings.run.dataset)
    return evaluation_config(settings, synthetic=synthetic, scans=True)


def _is_local(reference: str) -> bool:
    return reference.startswith((".", "/", "~")) or Path(reference).expanduser().is_dir()


def _origin(reference: str, name: str) -> ReleasedSource | None:
    return RELEASED_SOURCES.get(name) if _is_local(reference) else None


def _repository(reference: str, name: str) -> str:
    origin = _origin(reference, name)
    return origin.repository if origin else hub_parts(reference)[0]


def _size(one: Backbone) -> str:
    """Size on disk, else what is known of the download."""
    if one.folder and not one.problem:
        return human_size(local_files.size_of(one.name, one.folder))
    if one.name == "tokenizer":
        return "about 2 MB"
    known = REPOSITORIES.get(_repository(one.reference, one.name))
    return f"about {human_size(known.size)}" if known and known.size else "unknown"


def _license(reference: str, name: str) -> str:
    if reference.startswith(ASSETS):
        return "Apache-2.0, with neuroclips"
    known = REPOSITORIES.get(_repository(reference, name))
    return known.license if known else "unknown"
