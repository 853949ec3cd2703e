"""``.npy`` files: reserving, recognizing and memory-mapping them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic

if TYPE_CHECKING:
    import numpy as np


def read_array(path: Path | str) -> np.ndarray:
    """Open a ``.npy`` file, memory-mapped and read-only."""
    import numpy as np

    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # numpy evaluates the header as Python, which fails in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise UserError(
            f"{path} is not a readable .npy array ({reason}): run the command that made it again"
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise UserError(f"{path} is an archive and no .npy array: write it with numpy.save")
    return array


def reserve(path: Path, shape: tuple[int, ...], kind: np.dtype[Any]) -> None:
    """Make a ``.npy`` file of zeros whose blocks exist on the disk."""
    import numpy as np

    header = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False}
    np.lib.format.write_array_header_2_0(header, {**description, "shape": shape})
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    temporary = path.with_name(path.name + ".new")
    try:
        atomic.reserve(temporary, len(header.getvalue()) + size)
        with open(temporary, "r+b") as stream:
            stream.write(header.getvalue())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def holds(path: Path, shape: tuple[int, ...], kind: np.dtype[Any]) -> bool:
    """Tell whether a file is an array of that shape and type."""
    import numpy as np

    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # whatever is wrong with it, it is not that array
        return False
    return isinstance(array, np.ndarray) and array.shape == shape and array.dtype == kind
