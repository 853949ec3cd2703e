"""Open HDF5 files, and list the tables of numbers that they hold; h5py is an extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neuroclips_cli.errors import UserError
from neuroclips_cli.io.placeholders import require_content


def import_h5py(task: str) -> Any:
    """Import h5py, or say in one sentence that `task` needs it."""
    try:
        import h5py  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise UserError(f"{task} needs h5py: run `pip install 'neuroclips[release]'`") from error
    return h5py


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open a file for reading.

    Yields
    ------
    h5py.File

    Raises
    ------
    UserError
        If h5py is missing, or the file was not fetched or is damaged.
    """
    h5py = import_h5py(f"reading {path}")
    require_content(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(
            f"{path} is not an HDF5 file ({error}): copy or download it again"
        ) from error
    with file:
        yield file


def tables(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every data set by its name inside the file, groups with ``/``."""
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str, item: Any) -> None:
        if hasattr(item, "shape"):
            found[name] = tuple(map(int, item.shape))

    with open_hdf5(path) as file:
        file.visititems(note)
    return found
