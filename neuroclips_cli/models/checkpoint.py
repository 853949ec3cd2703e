"""Rebuild a trained model, or one subject's part of it, from its stage folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic
from neuroclips_cli.io.safetensors import load_state_dict_checked, read_tensors
from neuroclips_cli.models.perception import Perception, make_perception
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.models.subject_place import FIRST_LAYERS, place_of, voxels_at
from neuroclips_cli.settings.schema import PerceptionSettings, SemanticsSettings

WEIGHTS = "model.safetensors"
_OWN = re.compile(
    r"^(?P<part>ridge1?\.|fmri\.)(?:linears\.|subjects\.)?(?P<place>\d+|average)\.(?P<rest>.+)$"
)


def load_perception(folder: Path, subject: int | None = None) -> Perception:
    """Load the Perception Reconstructor of a finished ``train-pr`` folder, in evaluation mode.

    Parameters
    ----------
    folder : pathlib.Path
        A finished stage folder: ``manifest.json`` and ``model.safetensors``.
    subject : int, optional
        Whose scans it is to decode; of a decoder of several subjects that subject's first layers
        are taken. None: those of the only subject.

    Returns
    -------
    Perception
        Of one subject.

    Raises
    ------
    UserError
        If the folder holds no weights, weights of another shape than its manifest says, or no
        first layers for the subject.

    See Also
    --------
    load_semantics : The other reconstructor.
    """
    sizes, settings = _recorded(folder, "perception")
    place = place_of(sizes, subject, folder)
    model = make_perception(
        voxels_at(sizes, place),
        sizes["frames"],
        PerceptionSettings(**settings),
        tuple(sizes["latent_shape"]),
        window=sizes.get("window", 1),
    )
    return _with_weights(model, folder, place)


def load_semantics(folder: Path, subject: int | None = None) -> Semantics:
    """Load the Semantics Reconstructor of a finished ``train-sr`` folder, in evaluation mode.

    Parameters
    ----------
    folder : pathlib.Path
        A finished stage folder: ``manifest.json`` and ``model.safetensors``.
    subject : int, optional
        Whose scans it is to decode; of a decoder of several subjects that subject's first layer
        is taken. None: that of the only subject.

    Returns
    -------
    Semantics
        Of one subject.

    Raises
    ------
    UserError
        If the folder holds no weights, weights of another shape than its manifest says, or no
        first layer for the subject.

    See Also
    --------
    load_perception : The other reconstructor.
    """
    sizes, settings = _recorded(folder, "semantics")
    place = place_of(sizes, subject, folder)
    model = Semantics(
        voxels_at(sizes, place),
        SemanticsSettings(**settings),
        sizes["tokens"],
        sizes["token_dim"],
        window=sizes.get("window", 1),
    )
    return _with_weights(model, folder, place)


def subject_weights(weights: Mapping[str, Tensor], place: int | str) -> dict[str, Tensor]:
    """Return what one subject needs of a decoder of several, under the names of a decoder of one.

    Parameters
    ----------
    weights : mapping
        Name to tensor: ``ridge.linears.N.`` and ``fmri.subjects.N.`` are subject N's.
    place : int or str
        The subject's place, or :data:`subject_place.AVERAGE`.

    Returns
    -------
    dict
        ``ridge.linears.0.`` and ``fmri.`` of that subject, and everything shared as it is.
    """
    taken = {}
    for name, tensor in weights.items():
        found = _OWN.match(name)
        if found is None:
            taken[name] = tensor
        elif found["place"] == str(place):
            inner = "" if found["part"] == "fmri." else "linears.0."
            taken[found["part"] + inner + found["rest"]] = tensor
    return taken


def is_shared(name: str) -> bool:
    """Tell whether an entry of a decoder's weights belongs to all subjects, not to one."""
    return not name.startswith(FIRST_LAYERS)


def _recorded(folder: Path, section: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sizes and setting section in the folder's manifest."""
    if not (folder / "manifest.json").is_file() or not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} holds no trained model: run the training command first")
    manifest = atomic.read_json(folder / "manifest.json")
    settings = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in manifest["settings"][section].items()
    }
    return manifest["facts"]["model"], settings


def _with_weights(model: Any, folder: Path, place: int | str | None) -> Any:
    weights = read_tensors(folder / WEIGHTS)
    if place is not None:
        weights = subject_weights(weights, place)
    load_state_dict_checked(model, weights, folder / WEIGHTS)
    return model.eval()
