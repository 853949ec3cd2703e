"""models convert: published files to folders that every backbone loader takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from neuroclips_cli import console
from neuroclips_cli.backbones.conversion.kinds import convert, guess
from neuroclips_cli.backbones.conversion.parts import ConvertedNetwork
from neuroclips_cli.backbones.loading import quiet_libraries
from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic
from neuroclips_cli.stages._released_weights import find_trained

FOLDERS = {
    "unclip": "unclip",
    "scene": "scene",
    "vae": "vae",
    "motion": "motion_adapter",
    "adapter": "domain_adapter",
    "lora": "distilled_lora",
    "sparsectrl": "sparsectrl",
    "projector": "projector",
    "git-tokens": "git_tokens",
}
"""Kind -> where it goes below ``models/`` unless told otherwise, as the profiles name it."""

BARE = ("adapter", "lora", "projector", "git-tokens")
"""Kinds that are not networks of diffusers or transformers: those are not imported for them."""


def run(
    path: Path,
    *,
    out: Path | None = None,
    kind: str = "",
    config: Path | None = None,
    entry: str = "",
    source: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Convert one published file; return the folder that was written.

    Parameters
    ----------
    path : Path
        ``.ckpt``, ``.pth``, ``.pt`` or ``.safetensors``; read without running code.
    out : Path, optional
        Folder to write; ``models/<kind>`` by default.
    kind : str
        A key of :data:`FOLDERS`; recognized from the file where empty.
    config : Path, optional
        JSON that overrides what the shapes say about the network (``config.json`` of diffusers).
    entry : str
        Keys that lead to the weights, joined by dots, where the file's wrapping is unknown.
    source : mapping, optional
        Repository, commit and file that it is from, kept as ``source.json`` in the folder.
    overwrite : bool
        Replace a folder that is there.
    """
    if kind and kind not in FOLDERS:
        raise UserError(f"--kind '{kind}' is unknown: choose one of {', '.join(FOLDERS)}")
    if path.is_dir():
        raise UserError(f"{path} is a folder, which needs no conversion: name it in [backbones]")
    weights = find_trained(path, entry).weights
    kind = kind or guess(weights, str(path))
    if kind not in BARE:
        quiet_libraries()
    folder = out or Path("models") / FOLDERS[kind]
    if folder.exists() and not overwrite:
        raise UserError(f"{folder} exists already: add --overwrite, or choose another with --out")
    parts = convert(weights, kind, _overrides(config), str(path))
    with atomic.atomic_path(folder) as temporary:
        for name, part in parts.items():
            _write(part, temporary / name)
        if source:
            atomic.write_json(temporary / "source.json", dict(source))
    tensors = sum(len(part.weights) for part in parts.values())
    console.info(f"{path.name} is a file of kind {kind}: {tensors} tensors written to {folder}")
    return folder


def _overrides(config: Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    if not config.is_file():
        raise UserError(f"there is no configuration {config}: correct --config")
    content = atomic.read_json(config)
    if not isinstance(content, dict):
        raise UserError(f"{config} is not a table of settings: give the network's config.json")
    return {key: value for key, value in content.items() if not key.startswith("_")}


def _write(part: ConvertedNetwork, folder: Path) -> None:

    folder.mkdir(parents=True, exist_ok=True)
    for name, text in part.texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    save_file(_apart(part.weights), folder / part.weights_name, metadata={"format": "pt"})


def _apart(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors, none of which shares memory with another, as the format asks."""
    seen: set[int] = set()
    apart = {}
    for name, value in weights.items():
        place = value.untyped_storage().data_ptr()
        apart[name] = value.clone() if place in seen else value.contiguous()
        seen.add(place)
    return apart
