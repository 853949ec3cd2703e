"""Readers of layouts: each recognizes a data set by its names and lists its runs in a run table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from neuroclips_cli.data.readers.algonauts import Algonauts
from neuroclips_cli.data.readers.bold_moments import BoldMoments
from neuroclips_cli.data.readers.cc2017 import Cc2017
from neuroclips_cli.data.readers.cinebrain import CineBrain
from neuroclips_cli.data.readers.fmriprep import Fmriprep
from neuroclips_cli.data.readers.hcp7t import Hcp7t
from neuroclips_cli.data.readers.options import ReaderOptions
from neuroclips_cli.data.run_table import RunRow
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.folders import Tree

__all__ = ["READERS", "Found", "Reader", "ReaderOptions", "recognize"]


class Reader(Protocol):
    """One layout.

    Attributes
    ----------
    name : str
        As ``--layout`` takes it.
    """

    @property
    def name(self) -> str:
        """Return the layout's name."""
        ...

    def recognizes(self, tree: Tree) -> str:
        """Say why a folder has this layout; empty if it has not. No file is opened."""
        ...

    def run_table(self, tree: Tree, subject: str, options: ReaderOptions) -> list[RunRow]:
        """List the runs of a subject in the order in which its clips are numbered.

        Parameters
        ----------
        tree
            Everything below the data set's folder.
        subject
            The number as text; labels ``1``, ``01`` and ``0001`` are the same
            (:func:`neuroclips_cli.data.run_table.is_subject`).
        options
            What the user chose.

        Raises
        ------
        UserError
            If runs or films are missing.
        """
        ...


READERS: tuple[Reader, ...] = (
    *(Cc2017(), CineBrain(), BoldMoments()),
    *(Fmriprep(), Hcp7t(), Algonauts()),
)
"""In the order in which they are asked; the first that recognizes a folder is taken."""


@dataclass(frozen=True)
class Found:
    """The reader that is taken, why, and the names of others that would have recognized it."""

    reader: Reader
    reason: str
    others: tuple[str, ...]


def recognize(tree: Tree, layout: str = "auto") -> Found:
    """Choose the reader of a folder.

    Parameters
    ----------
    tree
        Everything below the folder.
    layout
        Name of the reader to take, or ``auto``.

    Raises
    ------
    UserError
        If none recognizes the folder; the message says what each looks for.
    """
    if layout != "auto":
        chosen = next((reader for reader in READERS if reader.name == layout), None)
        if chosen is None:
            names = ", ".join(reader.name for reader in READERS)
            raise UserError(f"the layout {layout!r} is unknown: choose one of {names}")
        return Found(chosen, "as you said", ())
    reasons = {reader.name: reader.recognizes(tree) for reader in READERS}
    found = [reader for reader in READERS if reasons[reader.name]]
    if not found:
        raise UserError(
            f"the layout of {tree.root} matches none of {', '.join(reasons)}: check --dataset, "
            "name the layout with --layout, or list the runs in a table and give it with --runs "
            "(docs/reference/run-table.md)"
        )
    first = found[0]
    return Found(first, reasons[first.name], tuple(reader.name for reader in found[1:]))


def tree_of(root: Path) -> Tree:
    """Walk a data set's folder.

    Raises
    ------
    UserError
        If there is no such folder.
    """
    from neuroclips_cli.io.folders import walk

    if not str(root) or not root.is_dir():
        raise UserError(
            f"no dataset folder at '{root}': give --dataset DIR, or write one with "
            "`neuroclips simulate DIR`"
        )
    return walk(root)
