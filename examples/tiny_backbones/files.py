"""Weights in diffusers' and transformers' folders, written whole or not at all."""

from __future__ import annotations

import copy
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
    folder.mkdir(parents=True, exist_ok=True)
    for file in part.iterdir():
        file.replace(folder / file.name)
    part.rmdir()
