"""Read a published weight file without running anything that it may contain."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroclips_cli.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

BLOCKED = re.compile(r"(?:GLOBAL|class|function) ([A-Za-z_][\w.]*\.\w+)")
"""How torch's unpickler names what it refuses to look up."""
WRAPPERS = ("state_dict", "model_state_dict", "controlnet")
"""Under which names trainers keep the weights beside their own records."""


def read_torch(path: Path) -> Any:
    """Open a file of ``torch.save``: tensors are memory-mapped, code is refused.

    Parameters
    ----------
    path : Path
        ``.pt``, ``.pth``, ``.ckpt`` or ``.bin``.

    Returns
    -------
    object
        What was saved, on the CPU.

    Raises
    ------
    UserError
        If the file is missing or truncated, or wants more than tensors and plain containers.
    """
    import torch

    if not path.is_file():
        raise UserError(f"there is no file {path}: correct its name")
    try:
        # Files of before torch 1.6 are no zip archives; they load, but cannot be memory-mapped.
        mapped = _begins_as_zip(path) or zipfile.is_zipfile(path)
        return torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    except pickle.UnpicklingError as problem:
        raise UserError(_refusal(path, problem)) from problem
    except Exception as problem:  # a damaged pickle fails in many ways before it is refused
        raise UserError(truncated(path, problem)) from problem


def _begins_as_zip(path: Path) -> bool:
    with open(path, "rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def _refusal(path: Path, problem: Exception) -> str:
    """Say what an unpickler did not want to read."""
    wanted = BLOCKED.search(str(problem))
    if not wanted:
        return truncated(path, problem)
    return (
        f"{path} is refused, nothing in it was run: beside tensors it wants to call "
        f"'{wanted[1]}'; take a file of plain tensors or safetensors from its publisher"
    )


def truncated(path: Path, problem: Exception) -> str:
    """Say that a file is not whole."""
    lines = [line for line in str(problem).split("\n") if line.strip()] or [""]
    first = lines[1] if lines[0].startswith("Weights only") and len(lines) > 1 else lines[0]
    return (
        f"{path} ({path.stat().st_size} bytes) is no whole weight file ({first[:120]}): its "
        "download was cut short or it is of another format, fetch it again"
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors by name.

    Parameters
    ----------
    path : Path
        ``.safetensors``, or a file of ``torch.save``.

    Returns
    -------
    dict
        Name -> tensor on the CPU, memory-mapped where the format allows it; wrappers such as
        ``state_dict`` and the prefix ``module.`` are taken off.

    Raises
    ------
    UserError
        If the file is missing, truncated, refused, or holds no tensors.
    """
    is_safe = path.suffix == ".safetensors"
    state = plain_state(_read_safetensors(path) if is_safe else read_torch(path))
    if not state:
        raise UserError(f"{path} holds no tensors by name: it is no checkpoint of a network")
    return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise UserError(f"there is no file {path}: correct its name")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as problem:
        raise UserError(truncated(path, problem)) from problem


def plain_state(content: Any) -> dict[str, Tensor]:
    """Return the tensors by name out of what a trainer saved."""
    import torch

    if not isinstance(content, Mapping):
        return {}
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    state = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state
