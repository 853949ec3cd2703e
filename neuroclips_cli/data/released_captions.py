"""Captions beside the authors' tensors: their pickled numpy texts, JSON lists, HDF5."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import read_json
from neuroclips_cli.io.folders import is_leftover
from neuroclips_cli.io.placeholders import require_content

OWN, RELEASED = (".json", ".h5", ".hdf5"), (".pt", ".pth")
"""Endings: captions that users wrote come before the authors'."""


def caption_file(folder: Path, split: str) -> Path | None:
    """Return the captions of a split, if there are any.

    A ``.json`` or ``.h5`` whose name says ``caption`` and the split is the user's own and wins
    over the authors' ``GT_train_caption.pt``. Their ``GT_train_caption_emb.pt`` holds CLIP
    embeddings and no texts.
    """
    found = [
        path
        for path in sorted(folder.iterdir())
        if not is_leftover(path.name)
        and path.suffix.lower() in OWN + RELEASED
        and "caption" in path.stem.lower()
        and not path.stem.lower().endswith("_emb")
        and split in path.stem.lower()
    ]
    for path in (*_with(found, OWN), *_with(found, RELEASED)):
        require_content(path)
        return path
    return None


def _with(paths: list[Path], endings: tuple[str, ...]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() in endings]


def read_caption_list(path: Path, clips: int) -> list[str]:
    """Read one caption per clip.

    Parameters
    ----------
    path : Path
        JSON list of text, HDF5 with one data set of text (``cc2017_train_captions.h5``), or what
        ``torch.save`` made of a numpy array or list of text.
    clips : int
        How many there must be.

    Raises
    ------
    UserError
        If there are more or fewer, it holds something else, or h5py is missing.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        content = read_json(path)
    elif suffix in RELEASED:
        content = _read_pickled(path)
    else:
        content = _read_h5(path)
    if not isinstance(content, list) or not all(isinstance(text, str) for text in content):
        raise UserError(f"{path} is not a list of captions: write one text per clip")
    if len(content) != clips:
        raise UserError(f"{path} holds {len(content)} captions for {clips} clips: correct it")
    return [" ".join(text.split()) for text in content]


def _read_pickled(path: Path) -> Any:
    """Read texts out of a file of ``torch.save``; nothing but numpy's own arrays is made of it."""
    import torch

    try:
        with torch.serialization.safe_globals(_numpy_parts()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        raise UserError(
            f"{path} is refused, nothing in it was run: it wants more than numpy arrays of text; "
            "write the captions as a JSON list"
        ) from problem
    except Exception as problem:  # a damaged pickle fails in many ways
        raise UserError(f"{path} is damaged or cut short: fetch it again") from problem
    if isinstance(content, np.ndarray):
        content = content.ravel().tolist()
    if isinstance(content, (list, tuple)):
        return [str(t, "utf-8") if isinstance(t, bytes) else t for t in content]
    return content


def _numpy_parts() -> list[Any]:
    """Return what a pickled array of text is made with, under numpy's old and new names."""
    from numpy._core import multiarray

    reconstruct, scalar = multiarray._reconstruct, multiarray.scalar  # type: ignore[attr-defined]
    parts: list[Any] = [np.ndarray, np.dtype, np.str_, np.bytes_, reconstruct, scalar]
    parts += [np.dtypes.StrDType, np.dtypes.ObjectDType, np.dtypes.BytesDType]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        parts += [(reconstruct, f"{module}._reconstruct"), (scalar, f"{module}.scalar")]
    return parts


def _read_h5(path: Path) -> Sequence[str] | None:
    try:
        import h5py  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as problem:
        raise UserError(
            f"reading {path} needs h5py: run `pip install 'neuroclips[release]'`, or write the "
            "captions as a JSON list"
        ) from problem
    with h5py.File(path) as file:
        sets = [value for value in file.values() if isinstance(value, h5py.Dataset)]
        if len(sets) != 1 or sets[0].ndim != 1:
            return None
        return [str(text, "utf-8") if isinstance(text, bytes) else text for text in sets[0][:]]
