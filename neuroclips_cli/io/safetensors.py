"""Read safetensors files; a damaged or foreign one is a :class:`UserError` that names it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroclips_cli.errors import UserError

if TYPE_CHECKING:
    import torch


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read all tensors of a safetensors file by name.

    Raises
    ------
    UserError
        If the file is missing, cut short, or something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    # KeyError: a type of numbers that safetensors knows and torch does not
    except (SafetensorError, OSError, ValueError, KeyError, OverflowError) as error:
        raise _damaged(path, error) from error


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a safetensors file, each value being JSON.

    Raises
    ------
    UserError
        If the file is missing or damaged, or a value is not valid JSON.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stream:
            found = stream.metadata() or {}
        return {name: json.loads(text) for name, text in found.items()}
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from error


def load_state_dict_checked(
    model: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path
) -> None:
    """Put tensors read from ``path`` into a model.

    Raises
    ------
    UserError
        If names or shapes are not the model's.
    """
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(
            f"{path} does not fit the model that the settings describe: train again with "
            "--overwrite"
        ) from error


def _damaged(path: Path, error: Exception) -> UserError:
    first = (str(error).splitlines() or [""])[0]
    return UserError(
        f"{path} is not a readable safetensors file ({type(error).__name__}: {first[:120]}): "
        "remove it and run the command that made it again, or copy it again"
    )
