"""Read a published weight file without running anything that it may contain."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroclips_cli.backbones.conversion.identify import SAFETENSORS, format_of
from neuroclips_cli.backbones.conversion.unwrap import Found, unwrap
from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic

if TYPE_CHECKING:
    from torch import Tensor

BLOCKED = re.compile(r"(?:GLOBAL|class|function) ([A-Za-z_][\w.]*\.\w+)")
"""How torch's unpickler names what it refuses to look up."""


def read_torch(path: Path, *, stand_ins: bool = False) -> Any:
    """Open a file of ``torch.save`` on the CPU: tensors are memory-mapped, code is refused.

    With ``stand_ins`` a trainer's own objects beside the tensors come back as :class:`inert.Inert`
    instead of being refused; nothing of them is looked up or run either way.
    """
    import torch

    format_of(path)  # refuses what is known not to be of torch
    if path.suffix == ".safetensors" and stand_ins:
        return _read_inert(path)  # torch.load goes by that ending, not by the content
    try:
        # Files of before torch 1.6 are not zip archives; they load, but cannot be memory-mapped.
        mapped = _begins_as_zip(path) or zipfile.is_zipfile(path)
        with warnings.catch_warnings():
            # A pickle protocol that torch does not write is read all the same, or refused below.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    except pickle.UnpicklingError as problem:
        if not stand_ins:
            raise UserError(_refusal(path, problem)) from problem
        return _read_inert(path)
    except Exception as problem:  # a damaged pickle fails in many ways before it is refused
        raise UserError(truncated(path, problem)) from problem


def _read_inert(path: Path) -> Any:
    """Read a file that holds more than tensors and plain containers."""
    from neuroclips_cli.backbones.conversion import inert

    try:
        return inert.read_inert(path)
    except inert.Refused as problem:
        raise UserError(_refused(path, str(problem))) from problem
    except Exception as problem:  # a damaged pickle fails in many ways
        raise UserError(truncated(path, problem)) from problem


def _begins_as_zip(path: Path) -> bool:
    with open(path, "rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def _refusal(path: Path, problem: Exception) -> str:
    """Say what an unpickler did not want to read."""
    wanted = BLOCKED.search(str(problem))
    return _refused(path, wanted[1]) if wanted else truncated(path, problem)


def _refused(path: Path, name: str) -> str:
    return (
        f"{path} is refused, nothing in it was run: beside tensors it wants to call "
        f"'{name}'; take a file of plain tensors or safetensors from its publisher"
    )


def truncated(path: Path, problem: Exception) -> str:
    """Say that a file is not whole."""
    lines = [line for line in str(problem).split("\n") if line.strip()] or [""]
    first = lines[1] if lines[0].startswith("Weights only") and len(lines) > 1 else lines[0]
    return (
        f"{path} ({path.stat().st_size} bytes) is not a whole weight file ({first[:120]}): its "
        "download was cut short or it is of another format, fetch it again"
    )


def read_weights(path: Path, entry: str = "") -> dict[str, Tensor]:
    """Read tensors by name; :func:`find_weights` without where they were."""
    return find_weights(path, entry).weights


def find_weights(path: Path, entry: str = "") -> Found:
    """Read tensors by name on the CPU, and say where in the file they were.

    What a trainer put around the weights and in front of their names is taken off (:mod:`unwrap`).

    Parameters
    ----------
    path : Path
        safetensors or a file of ``torch.save``, recognized by its content; or the index
        (``*.safetensors.index.json``, ``*.bin.index.json``) of a network in several files.
    entry : str
        Keys that lead to the weights, joined by dots, where the file's wrapping is unknown.
    """
    if path.name.endswith(".index.json"):
        return Found(_read_shards(path))
    return unwrap(_read_any(path), str(path), entry)


def _read_any(path: Path) -> Any:
    if format_of(path) == SAFETENSORS:
        return _read_safetensors(path)
    return read_torch(path, stand_ins=True)


def _read_shards(path: Path) -> dict[str, Tensor]:
    """Read every file that an index names."""
    index = atomic.read_json(path)
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names:
        raise UserError(f"{path} is not an index of weight files: name the weight file itself")
    weights: dict[str, Tensor] = {}
    for file in dict.fromkeys(map(str, names.values())):
        if Path(file).name != file:
            raise UserError(f"{path} names {file}, which is not beside it: correct the index")
        weights |= unwrap(_read_any(path.with_name(file)), file).weights
    return weights


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as problem:
        raise UserError(truncated(path, problem)) from problem
