"""Where a subject's first layers are in a decoder that several subjects share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic

RIDGE = ("ridge", "ridge1")
"""The ridge layer of our reconstructors, and of the released perception network, whose weights
have the published names; networks have it as ``ridge``."""
FIRST_LAYERS = ("fmri.", *(f"{name}." for name in RIDGE))
"""How the names of what belongs to one subject begin; all other layers are shared."""
AVERAGE = "average"
"""In place of a subject's place: the first layers of the average subject."""


def recorded_place(folder: Path, subject: int) -> int | str | None:
    """Return a subject's place in the decoder of a training's folder; see :func:`place_of`."""
    facts = atomic.read_json(folder / "manifest.json")["facts"]
    return place_of(facts.get("model", {}), subject, folder)


def place_of(sizes: Mapping[str, Any], subject: int | None, folder: Path) -> int | str | None:
    """Return where a subject's first layers are among those of a decoder.

    Parameters
    ----------
    sizes : mapping
        ``facts.model`` of the training's manifest.
    subject : int or None
        The subject to decode.
    folder : pathlib.Path
        For messages.

    Returns
    -------
    int, str or None
        Its place; :data:`AVERAGE` for a subject that the decoder was not trained on, where there
        is an average subject; None for a decoder of one subject.

    Raises
    ------
    UserError
        If the decoder has no first layers for the subject.
    """
    subjects = sizes.get("subjects")
    if subjects is None:
        return None
    if subject in subjects:
        return subjects.index(subject) if len(subjects) > 1 else None
    names = ", ".join(map(str, subjects))
    if subject is None:
        if len(subjects) == 1:
            return None
        raise UserError(f"{folder} decodes subjects {names}: say which one with --subject")
    if sizes.get("average"):
        return AVERAGE
    raise UserError(
        f"{folder} was trained on subjects {names} and has no first layer for subject {subject}: "
        f"adapt it with `neuroclips adapt --subject {subject} --from {folder.parent.name}`"
    )


def voxels_at(sizes: Mapping[str, Any], place: int | str | None) -> int:
    """Return the length of the scans that the first layers at a place take."""
    voxels = sizes["voxels"]
    if isinstance(voxels, int):
        return voxels
    return int(voxels[place if isinstance(place, int) else 0])
