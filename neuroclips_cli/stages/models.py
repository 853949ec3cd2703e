"""models list and pull: which backbones the profile in force needs, and fetching them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuroclips_cli import console
from neuroclips_cli.backbones import hub, local
from neuroclips_cli.backbones.loading import ASSETS, locate
from neuroclips_cli.backbones.needs import FILES, ORIGINS, REPOSITORIES, Origin
from neuroclips_cli.config import Settings
from neuroclips_cli.disk import human_size
from neuroclips_cli.errors import UserError
from neuroclips_cli.protocols.evaluation_config import EvaluationConfig, evaluation_config
from neuroclips_cli.simulation.provenance import is_practice_world
from neuroclips_cli.stages.judging import PULLED_AS
from neuroclips_cli.values import nearest


@dataclass(frozen=True)
class Backbone:
    """One backbone of the settings in force, and what of it is on this machine.

    Attributes
    ----------
    name, reference : str
        Key and value in ``[backbones]``, or a judge of the protocol.
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
    """Print what the settings need: size, licence, where it lies, whether it is complete."""
    found = list(find_backbones(settings, names))
    rows = [
        (
            one.name,
            one.reference,
            _size(one),
            _licence(one.reference, one.name),
            str(one.folder or ""),
            one.problem or "complete",
        )
        for one in found
    ]
    header = ("backbone", "named", "size", "licence", "folder", "state")
    console.table(f"Backbones of profile {settings.run.profile}", header, rows)
    missing = [one.name for one in found if one.problem]
    if missing:
        console.info(f"fetch what is missing with `neuroclips models pull {' '.join(missing)}`")


def pull(settings: Settings, names: Sequence[str] = ()) -> None:
    """Fetch and check every backbone that is named; all of the profile by default.

    Raises
    ------
    UserError
        If a repository is gated or missing, the hub cannot be reached, or a file is damaged.
    """
    done: set[str] = set()
    for one in find_backbones(settings, names):
        if one.reference.startswith(ASSETS):
            continue
        if _is_local(one.reference):
            _pull_origin(one, done)
            continue
        source, subfolder = locate(one.reference)
        if not one.problem and not names:
            console.detail(f"{one.name}: {one.reference} is complete")
            continue
        revision, files = hub.remote_files(source, subfolder, one.name)
        total = sum(file.size for file in files)
        console.info(f"{one.name}: {one.reference}, {len(files)} files, {human_size(total)}")
        folder = hub.fetch_backbone(source, revision, files)
        console.info(f"{one.name}: complete and checked in {folder / subfolder}")


def _pull_origin(one: Backbone, done: set[str]) -> None:
    """Make a local folder from the authors' published file, where it is known."""
    from neuroclips_cli.stages import convert

    if not one.problem:
        return
    origin = ORIGINS.get(one.name)
    if one.name == "projector":
        raise UserError(
            f"the projector {one.reference} is not on the hub: make it with `neuroclips "
            "train-projector`, or convert coco_tokens_avg_proj.pth with `neuroclips models convert`"
        )
    if origin is None:
        raise UserError(
            f"the folder {one.reference} of {one.name} {one.problem}: correct it in [backbones]"
        )
    out = Path(one.reference).expanduser()
    for _ in range(origin.levels_up):
        out = out.parent
    if str(out) in done:
        return
    console.info(f"{one.name}: {origin.file} of {origin.repository}")
    file = hub.fetch_file(origin.repository, origin.kind_of_repository, origin.file)
    convert.run(file, out=out, kind=origin.kind)
    done.add(str(out))


def find_backbones(settings: Settings, names: Sequence[str] = ()) -> Iterator[Backbone]:
    """Yield the backbones of the settings and the judges of the protocol: those named or all."""
    for name in names:
        if name not in FILES:
            raise UserError(f"there is no backbone {name!r}{nearest(name, FILES)}")
    judges = {PULLED_AS[judge]: ref for judge, ref in _judges(settings).judge_names.items()}
    for name in names or FILES:
        reference = judges[name] if name in judges else getattr(settings.backbones, name)
        if reference:
            yield Backbone(name, reference, *local.find(name, reference))


def _judges(settings: Settings) -> EvaluationConfig:
    """Return how the films of the settings' data set would be evaluated."""
    practice_world = is_practice_world(settings.run.dataset)
    return evaluation_config(settings, practice_world=practice_world, scans=True)


def _is_local(reference: str) -> bool:
    return reference.startswith((".", "/", "~")) or Path(reference).expanduser().is_dir()


def _origin(reference: str, name: str) -> Origin | None:
    return ORIGINS.get(name) if _is_local(reference) else None


def _repository(reference: str, name: str) -> str:
    origin = _origin(reference, name)
    return origin.repository if origin else reference.partition(":")[0]


def _size(one: Backbone) -> str:
    """Size on disk, else what is known of the download."""
    if one.folder and not one.problem:
        return human_size(local.size_of(one.name, one.folder))
    if one.name == "tokenizer":
        return "about 2 MB"
    known = REPOSITORIES.get(_repository(one.reference, one.name))
    return f"about {human_size(known.size)}" if known and known.size else "unknown"


def _licence(reference: str, name: str) -> str:
    if reference.startswith(ASSETS):
        return "Apache-2.0, with neuroclips"
    known = REPOSITORIES.get(_repository(reference, name))
    return known.licence if known else "unknown"
