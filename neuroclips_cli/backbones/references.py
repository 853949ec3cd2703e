"""What a backbone's reference in the settings stands for: a folder, or a hub id and its commit.

Nothing here imports torch: whether a stage is up to date depends on references only.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from neuroclips_cli.backbones.catalog import FILES
from neuroclips_cli.backbones.hub_cache import cached_snapshot
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import tree_digest

if TYPE_CHECKING:
    from neuroclips_cli.settings.schema import BackboneSettings

ASSETS = "assets:"


def resolve(ref: str) -> str:
    """Turn a backbone reference into what a library's loader takes.

    Parameters
    ----------
    ref : str
        ``assets:tiny/vae`` (embedded in this package), a folder, or a hub id, which may name a
        commit: ``owner/name@0123abc``.

    Returns
    -------
    str
        An existing folder: of a hub id the snapshot of the pinned commit in the hub's cache; or
        the hub id as it is where it is not on this machine.

    Raises
    ------
    UserError
        If an embedded backbone or a folder written as a path does not exist.
    """
    if not ref:
        raise UserError(
            "a backbone has no value in [backbones]: name a hub id, a folder or assets:<name>, "
            "or take a profile with 'neuroclips init --profile tiny'."
        )
    if ref.startswith(ASSETS):
        folder = Path(str(files("neuroclips_cli"))) / "assets" / ref[len(ASSETS) :]
        if not folder.is_dir():
            raise UserError(
                f"the embedded backbone '{ref}' is not in this installation ({folder}): "
                "install neuroclips again, or name another model in [backbones]."
            )
        return str(folder)
    folder = Path(ref).expanduser()
    if folder.is_dir():
        return str(folder)
    if folder.is_absolute() or ref.startswith((".", "~")) or ref.count("/") > 1:
        raise UserError(
            f"the backbone folder '{ref}' does not exist: correct it in [backbones] of "
            "neuroclips.toml."
        )
    snapshot = cached_snapshot(*_revision(ref))
    return str(snapshot) if snapshot else ref


def _revision(ref: str) -> tuple[str, str]:
    """Split ``owner/name@commit`` into the repository and the commit, empty where none is named."""
    repository, _, revision = ref.partition("@")
    return repository, revision


def hub_parts(ref: str) -> tuple[str, str, str]:
    """Split ``owner/name@commit:subfolder`` into its three parts, without looking for it."""
    source, _, subfolder = ref.partition(":")
    return *_revision(source), subfolder


def revisions(backbones: BackboneSettings) -> dict[str, str]:
    """Return the commit in use of every backbone that is from the hub."""
    found = {}
    for name in FILES:
        reference = getattr(backbones, name, "")  # evaluators are not backbones of a run
        try:
            digest = tree_digest(Path(resolve(reference.partition(":")[0])))
        except (UserError, FileNotFoundError):
            continue
        if digest.startswith("hub:"):
            found[name] = digest.removeprefix("hub:")
    return found


def locate(ref: str) -> tuple[str, str]:
    """Split ``owner/name:subfolder`` into the hub id and the subfolder inside it.

    Parameters
    ----------
    ref : str
        Any reference that :func:`resolve` takes, or a hub id with ``:subfolder``.

    Returns
    -------
    source, subfolder : str
        ``subfolder`` is empty where none is given.
    """
    if ref.startswith(ASSETS) or Path(ref).expanduser().is_dir() or ":" not in ref:
        return resolve(ref), ""
    source, _, subfolder = ref.partition(":")
    return resolve(source), subfolder


def require_here(source: str, ref: str) -> None:
    """Refuse a hub id that is not on this machine: only ``models pull`` fetches, and checks.

    Raises
    ------
    UserError
        If ``source``, from :func:`resolve`, is not a folder.
    """
    if not Path(source).is_dir():
        raise UserError(
            f"the backbone '{ref}' is not on this machine: fetch it with 'neuroclips models pull' "
            "while online, or name a local folder in [backbones] of neuroclips.toml."
        )
