"""Rebuild a trained model from its stage folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic
from neuroclips_cli.io.safetensors import load_state_dict_checked, read_tensors
from neuroclips_cli.models.perception import Perception, make_perception
from neuroclips_cli.models.semantics import Semantics
from neuroclips_cli.settings.schema import PerceptionSettings, SemanticsSettings

WEIGHTS = "model.safetensors"


def load_perception(folder: Path) -> Perception:
    """Load the Perception Reconstructor of a finished ``train-pr`` folder, in evaluation mode.

    Parameters
    ----------
    folder : pathlib.Path
        A finished stage folder: ``manifest.json`` and ``model.safetensors``.

    Returns
    -------
    Perception

    Raises
    ------
    UserError
        If the folder holds no weights, or weights of another shape than its manifest says.

    See Also
    --------
    load_semantics : The other reconstructor.
    """
    sizes, settings = _recorded(folder, "perception")
    model = make_perception(
        sizes["voxels"],
        sizes["frames"],
        PerceptionSettings(**settings),
        tuple(sizes["latent_shape"]),
    )
    return _with_weights(model, folder)


def load_semantics(folder: Path) -> Semantics:
    """Load the Semantics Reconstructor of a finished ``train-sr`` folder, in evaluation mode.

    Parameters
    ----------
    folder : pathlib.Path
        A finished stage folder: ``manifest.json`` and ``model.safetensors``.

    Returns
    -------
    Semantics

    Raises
    ------
    UserError
        If the folder holds no weights, or weights of another shape than its manifest says.

    See Also
    --------
    load_perception : The other reconstructor.
    """
    sizes, settings = _recorded(folder, "semantics")
    model = Semantics(
        sizes["voxels"], SemanticsSettings(**settings), sizes["tokens"], sizes["token_dim"]
    )
    return _with_weights(model, folder)


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


def _with_weights(model: Any, folder: Path) -> Any:
    load_state_dict_checked(model, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    return model.eval()
