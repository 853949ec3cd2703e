"""Structures of the brain as CIFTI files call them, chosen by name: cortex, hippocampus, all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.parse import nearest

PREFIX = "CIFTI_STRUCTURE_"
CORTEX_ALONE = ("cortex",)
"""What is read where the user chose nothing (paper 4.1)."""
ALL, BELOW = "all", "subcortex"
_SIDES = ("left", "right")


class MissingStructure(UserError):
    """A file, whose header is whole, has no structure of some name."""


def chosen_columns(path: Path, names: NDArray[np.str_], wanted: Sequence[str]) -> NDArray[np.int64]:
    """Return which grayordinates of a file belong to some structures.

    Parameters
    ----------
    path
        The file, for messages.
    names
        str (grayordinates,): every one's structure, such as ``CIFTI_STRUCTURE_THALAMUS_LEFT``.
    wanted
        Structures as CIFTI calls them, whatever their signs and capitals, with or without
        ``CIFTI_STRUCTURE_``; without a side, both of them. Or ``all``, or ``subcortex``: all
        but the cortex.

    Returns
    -------
    int64 (chosen,)
        In the order of the file.

    Raises
    ------
    MissingStructure
        If the file lacks one; the message names those that it has.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from neuroclips_cli.data.structures import chosen_columns
    >>> names = np.array(["CORTEX_LEFT", "CORTEX_RIGHT", "BRAIN_STEM", "PUTAMEN_RIGHT"])
    >>> names = np.char.add("CIFTI_STRUCTURE_", names)
    >>> chosen_columns(Path("run.dtseries.nii"), names, ["cortex", "Putamen"]).tolist()
    [0, 1, 3]
    """
    there, where = np.unique(names, return_inverse=True)
    plain = {name: _plain(name) for name in there.tolist()}
    keep: set[str] = set()
    for word in wanted:
        found = {name for name, known in plain.items() if _is_meant(_plain(word), known)}
        if not found:
            has = sorted({without_side(name) for name in plain})
            raise MissingStructure(
                f"{path} has no structure {word!r}{nearest(word.lower(), has)}: it has "
                f"{', '.join(has)}; name some of these, all or subcortex with data.structures, or "
                "give another file"
            )
        keep |= found
    if not keep:
        raise UserError("data.structures names no structure: write cortex, all, or structures")
    return np.flatnonzero(np.isin(there, list(keep))[where])


def _is_meant(word: str, structure: str) -> bool:
    if word == ALL:
        return True
    if word == BELOW:
        return not structure.startswith("cortex")
    return structure == word or structure.removeprefix(word) in _SIDES


def _plain(name: str) -> str:
    """Return a structure's letters: ``CIFTI_STRUCTURE_CORTEX_LEFT`` -> ``cortexleft``."""
    return "".join(filter(str.isalnum, name.upper().removeprefix(PREFIX))).lower()


def without_prefix(name: str) -> str:
    """Return a structure's own name: ``CIFTI_STRUCTURE_THALAMUS_LEFT`` -> ``THALAMUS_LEFT``."""
    return name.removeprefix(PREFIX)


def without_side(name: str) -> str:
    """Return a structure as users write it: ``CIFTI_STRUCTURE_CORTEX_LEFT`` -> ``cortex``."""
    return without_prefix(name).lower().removesuffix("_left").removesuffix("_right")
