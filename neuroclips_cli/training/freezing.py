"""Which parts of a reconstructor learn when it is fitted to a new subject."""

from __future__ import annotations

from torch import nn

from neuroclips_cli.models.subject_place import FIRST_LAYERS

TRUNK = ("backbone.blocks.", "backbone.mixer_blocks1.", "backbone.mixer_blocks2.")
LEARNING: dict[str, tuple[str, ...]] = {
    "ridge": FIRST_LAYERS,
    "closed-form": FIRST_LAYERS,
    "embedder": (*FIRST_LAYERS, *TRUNK),
}
"""Mode -> beginnings of the names of what learns; in any other mode everything does."""


def freeze(model: nn.Module, mode: str) -> None:
    """Freeze what a mode does not train; what is frozen already stays so.

    Parameters
    ----------
    model : nn.Module
        A reconstructor.
    mode : str
        ``ridge``, ``closed-form``: the first layers learn; ``embedder``: the residual blocks, too;
        any other: everything.
    """
    learning = LEARNING.get(mode, ("",))
    for name, parameter in model.named_parameters():
        if not name.startswith(learning):
            parameter.requires_grad_(False)


def parts(model: nn.Module, mode: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the parts of a network that a mode trains, and those that it freezes.

    Parameters
    ----------
    model : nn.Module
        A reconstructor.
    mode : str
        As for :func:`freeze`.

    Returns
    -------
    trained, frozen : tuple of str
        Names of modules two levels down at most, such as ``backbone.blocks``.

    Examples
    --------
    >>> parts(nn.ModuleDict({"ridge": nn.Linear(2, 1), "head": nn.Linear(1, 1)}), "ridge")
    (('ridge',), ('head',))
    """
    learning = LEARNING.get(mode, ("",))
    found: dict[str, bool] = {}
    for name, _ in model.named_parameters():
        words = name.split(".")[:-1]
        part = ".".join(words[: 2 if words[0] == "backbone" else 1]) or name
        found[part] = name.startswith(learning)
    return (
        tuple(part for part, learns in found.items() if learns),
        tuple(part for part, learns in found.items() if not learns),
    )
