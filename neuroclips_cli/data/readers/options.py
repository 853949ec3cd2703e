"""What the user chose among the runs of a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def _nobody(sentence: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class ReaderOptions:
    """Choices that readers take into account; empty or None where the user made none.

    Attributes
    ----------
    raw : Path or None
        The raw BIDS tree, with the events, beside its derivatives.
    films : Path or None
        Folder of the films, where they lie outside the data set.
    space : str
        Which copies of the runs to take, such as ``fsLR``, ``MNI152NLin2009cAsym`` or ``raw``.
    task, session : str
        Labels of the runs to take, separated by commas.
    test_films : tuple of str
        Patterns of films' names or tasks that are for testing, such as ``*s06*``.
    confounds : str
        Strategy of the confound regression; empty: none is regressed.
    tr_s : float or None
        Time between two volumes in s that the user stated.
    test_only : bool
        A subject without training runs will do: its voxels are those that others have in common.
    volumetric : bool
        Volumes are wanted: the region mask is of voxels.
    say : callable
        Is told, in whole sentences, what a reader decided where the user did not.
    """

    raw: Path | None = None
    films: Path | None = None
    space: str = ""
    task: str = ""
    session: str = ""
    confounds: str = ""
    tr_s: float | None = None
    test_only: bool = False
    volumetric: bool = False
    test_films: tuple[str, ...] = ()
    say: Callable[[str], None] = _nobody
