"""Weights in diffusers' and transformers' folders, written whole or not at all."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from torch import nn


def save_half(model: nn.Module, folder: Path) -> None:
    """Write a model's folder with float16 weights; the model stays as it is."""
    replace(folder, lambda part: copy.deepcopy(model).half().save_pretrained(part))


def replace(folder: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a folder beside ``folder`` and move its files there, one by one."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    write(part)
    _forget_origin(part / "config.json")
    folder.mkdir(parents=True, exist_ok=True)
    for file in part.iterdir():
        file.replace(folder / file.name)
    part.rmdir()


def _forget_origin(config: Path) -> None:
    """Take out the folder that a network was loaded from: it is a place on this machine."""
    if config.exists():
        entries = json.loads(config.read_text())
        entries.pop("_name_or_path", None)
        config.write_text(json.dumps(entries, indent=2) + "\n")
