"""Snapshots of repositories in the Hugging Face Hub's cache, and the commit that is in use."""

from __future__ import annotations

from pathlib import Path

from neuroclips_cli.io import atomic

PIN = "neuroclips"
"""Name of the reference in the hub's cache that keeps the commit in use."""


def cached_snapshot(repository: str, revision: str = "") -> Path | None:
    """Return the folder of the snapshot in the hub's cache that is in use, if any.

    Of a revision the first digits suffice; the pinned one is taken where it is empty.
    """
    home = cache_of(repository)
    wanted_commit = revision or pinned(repository)
    if not wanted_commit:
        return None
    found = sorted((home / "snapshots").glob(f"{wanted_commit}*"))
    return found[0] if len(found) == 1 else None


def pinned(repository: str, kind: str = "model") -> str:
    """Return the commit that ``models pull`` settled on, else what another program fetched.

    A repository that moves on the hub changes nothing here until it is pulled with ``--update``.
    """
    refs = cache_of(repository, kind) / "refs"
    for name in (PIN, "main"):
        if (refs / name).is_file():
            return (refs / name).read_text().strip()
    return ""


def pin(repository: str, revision: str, kind: str = "model") -> None:
    """Settle on a commit."""
    atomic.write_text(cache_of(repository, kind) / "refs" / PIN, revision)


def cache_of(repository: str, kind: str = "model") -> Path:
    """Return where the hub's cache keeps a repository."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / f"{kind}s--{repository.replace('/', '--')}"
