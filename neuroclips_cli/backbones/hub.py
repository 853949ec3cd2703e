"""Fetch files from the Hugging Face Hub and check them against its checksums.

The library continues with what an interrupted download left, and honors HF_HOME, HF_TOKEN,
HF_ENDPOINT and HF_HUB_OFFLINE by itself.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from neuroclips_cli.backbones.catalog import wanted
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import MEBIBYTE, sha256

Result = TypeVar("Result")

PAUSES_S = (1.0, 3.0)
"""Seconds between the tries after a lost connection; in each the library tries some times."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository, as the hub describes it.

    Attributes
    ----------
    path : str
        Inside the repository.
    size : int
        Bytes.
    sha256 : str
        Of large files; empty for small ones.
    blob : str
        Git's SHA-1 of small files.
    """

    path: str
    size: int
    sha256: str
    blob: str


@contextmanager
def explained(repository: str) -> Iterator[None]:
    """Turn what the hub answers into one sentence."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{repository}"
    failures: tuple[type[Exception], ...] = (OSError, *_connection_errors())
    try:
        yield
    except errors.GatedRepoError as problem:
        raise UserError(
            f"the repository '{repository}' is gated: accept its conditions at {page} and set "
            "HF_TOKEN to a token of that account, then run the same command again"
        ) from problem
    except errors.RepositoryNotFoundError as problem:
        raise UserError(
            f"the hub has no repository '{repository}', or it is private: correct it in "
            "[backbones], or set HF_TOKEN if it is yours"
        ) from problem
    except errors.OfflineModeIsEnabled as problem:
        raise UserError(
            f"'{repository}' is not here and HF_HUB_OFFLINE forbids fetching it: unset it, or "
            "copy the folder from another machine and name it in [backbones]"
        ) from problem
    except (errors.RemoteEntryNotFoundError, errors.RevisionNotFoundError) as problem:
        raise UserError(
            f"the repository '{repository}' lacks a file that is needed "
            f"({_first(problem)}): correct it in [backbones]"
        ) from problem
    except failures as problem:
        if isinstance(problem, OSError) and problem.errno is not None:
            raise
        raise UserError(
            f"'{repository}' could not be fetched ({type(problem).__name__}: "
            f"{_first(problem)}): check the network and run the same command again, it continues "
            "where it stopped"
        ) from problem


def _first(problem: Exception) -> str:
    return (str(problem).strip().split("\n") or [""])[0][:120]


def _connection_errors() -> tuple[type[Exception], ...]:
    """Return the base classes of the errors of the library's HTTP client, whichever it is."""
    from huggingface_hub.errors import HfHubHTTPError

    return tuple(
        base for base in HfHubHTTPError.__mro__ if base.__name__ in ("HTTPError", "RequestError")
    )


def newest_revision(repository: str, kind: str = "model") -> str:
    """Ask the hub for the commit that a repository's main branch is at."""
    from huggingface_hub import HfApi

    with explained(repository):
        return str(persistently(lambda: HfApi().repo_info(repository, repo_type=kind).sha))


def remote_files(
    repository: str, subfolder: str, name: str, revision: str = ""
) -> tuple[str, list[RemoteFile]]:
    """Ask the hub which files a backbone needs.

    Parameters
    ----------
    repository, subfolder : str
        Hub id and folder inside it.
    name : str
        The backbone.
    revision : str
        A commit; that of the main branch where empty.

    Returns
    -------
    revision : str
        The commit that the answer holds for.
    files : list of RemoteFile

    Raises
    ------
    UserError
        If the hub cannot be reached, refuses, or has no safetensors there.
    """
    revision, everything = _listing(repository, "model", revision)
    prefix = f"{subfolder}/" if subfolder else ""
    inside = {
        path.removeprefix(prefix): file
        for path, file in everything.items()
        if path.startswith(prefix) and "/" not in path.removeprefix(prefix)
    }
    chosen = wanted(name, list(inside))
    if name != "tokenizer" and not any(file.endswith(".safetensors") for file in chosen):
        raise UserError(
            f"'{repository}{':' + subfolder if subfolder else ''}' holds no safetensors for the "
            f"backbone {name}: convert its published file with `neuroclips models convert` and "
            "name the folder in [backbones]"
        )
    return revision, [inside[file] for file in chosen]


def _listing(repository: str, kind: str, revision: str = "") -> tuple[str, dict[str, RemoteFile]]:
    from huggingface_hub import HfApi

    with explained(repository):
        info: Any = persistently(
            lambda: HfApi().repo_info(
                repository, repo_type=kind, revision=revision or None, files_metadata=True
            )
        )
    return info.sha, {
        item.rfilename: RemoteFile(
            item.rfilename,
            item.size or 0,
            item.lfs.sha256 if item.lfs else "",
            item.blob_id or "",
        )
        for item in info.siblings
    }


def fetch_backbone(
    repository: str,
    revision: str,
    files: list[RemoteFile],
    checked: Callable[[int], None] | None = None,
) -> Path:
    """Fetch files into the hub's cache and check every one.

    Parameters
    ----------
    repository, revision : str
        Hub id and commit.
    files : list of RemoteFile
        From :func:`remote_files`.
    checked : callable, optional
        Called with the bytes of every file that was checked.

    Returns
    -------
    Path
        The snapshot's folder.

    Raises
    ------
    UserError
        If a file stays different from what the hub says after it was fetched again.
    """
    from huggingface_hub import snapshot_download

    with explained(repository):
        paths = [file.path for file in files]
        folder = Path(
            persistently(
                lambda: snapshot_download(repository, revision=revision, allow_patterns=paths)
            )
        )
        for file in files:
            if difference(folder / file.path, file):
                _fetch_again(repository, file.path, revision=revision)
            _require_same(folder / file.path, file, repository)
            if checked is not None:
                checked(file.size)
    return folder


def fetch_file(repository: str, kind: str, path: str, revision: str = "") -> tuple[Path, str]:
    """Fetch one file of a model or dataset repository, check it, and say of which commit it is."""
    from huggingface_hub import hf_hub_download

    revision, files = _listing(repository, kind, revision)
    if path not in files:
        raise UserError(f"the repository '{repository}' lacks {path}: fetch it from elsewhere")
    options: dict[str, Any] = {"repo_type": kind, "revision": revision}
    with explained(repository):
        local = Path(persistently(lambda: hf_hub_download(repository, path, **options)))
        if difference(local, files[path]):
            local = _fetch_again(repository, path, **options)
    _require_same(local, files[path], repository)
    return local, revision


def _fetch_again(repository: str, path: str, **options: Any) -> Path:
    """Fetch a file whose copy here is damaged."""
    from huggingface_hub import hf_hub_download

    return Path(
        persistently(lambda: hf_hub_download(repository, path, force_download=True, **options))
    )


def persistently(fetch: Callable[[], Result]) -> Result:
    """Fetch, and begin again where a lost connection left it, some times.

    The library keeps what has come and asks for the rest only.
    """
    for pause_s in (*PAUSES_S, None):
        try:
            return fetch()
        except _connection_errors() as problem:
            if pause_s is None or getattr(problem, "response", None) is not None:
                raise  # the hub answered: it will not answer otherwise in a moment
            time.sleep(pause_s)
    raise AssertionError("the last try returns or raises")


def _require_same(local: Path, file: RemoteFile, repository: str) -> None:
    found = difference(local, file)
    if found:
        raise UserError(
            f"{file.path} of '{repository}' is damaged after two downloads ({found}): remove "
            f"{local} and run the same command again"
        )


def difference(local: Path, file: RemoteFile) -> str:
    """Say how a local file differs from what the hub describes; empty if it does not."""
    if not local.is_file():
        return "missing"
    size = local.stat().st_size
    if size != file.size:
        return f"{size} bytes instead of {file.size}, truncated"
    if file.sha256:
        return "" if sha256(local) == file.sha256 else "its SHA-256 is another"
    return "" if not file.blob or _git_blob(local, size) == file.blob else "its checksum is another"


def _git_blob(path: Path, size: int) -> str:
    """Return git's SHA-1 of a file, which the hub gives for small ones."""
    digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as stream:
        while block := stream.read(MEBIBYTE):
            digest.update(block)
    return digest.hexdigest()
