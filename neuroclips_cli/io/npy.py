"""``.npy`` files: reserving, filling and memory-mapping them."""

from __future__ import annotations

import io
import math
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


def write_array(path: Path, array: np.ndarray) -> Path:
    """Write a ``.npy`` file, whole or not at all."""
    import numpy as np

    with (
        atomic.explain_full_disk(path, array.nbytes),
        atomic.atomic_path(path) as temporary,
        open(temporary, "wb") as stream,
    ):
        np.save(stream, array, allow_pickle=False)
    return path


class PartialArray:
    """An array that grows in a hidden ``.part`` file, and gets its name when it is complete.

    Parameters
    ----------
    path : pathlib.Path
        The ``.npy`` file that it becomes; its folder is made where it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(f".{path.name}.part")

    def create(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.memmap[Any, Any]:
        """Reserve the whole array and map it for writing.

        Raises
        ------
        UserError
            If the disk cannot hold the whole array.
        """
        import numpy as np

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.part.unlink(missing_ok=True)
        with atomic.explain_full_disk(self.path, size(shape, dtype)):
            _reserve(self.part, shape, dtype)
        return np.load(self.part, mmap_mode="r+", allow_pickle=False)

    def reopen(self) -> np.memmap[Any, Any] | None:
        """Map what an interrupted run left, for writing; None where that is not a whole array."""
        import numpy as np

        try:
            array = np.load(self.part, mmap_mode="r+", allow_pickle=False)
        except Exception:  # whatever is wrong with it, it is not that array
            return None
        return array if isinstance(array, np.memmap) else None

    def complete(self) -> None:
        """Give the array its name."""
        self.part.replace(self.path)
        atomic.flush_folder(self.path.parent)


def size(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the bytes of an array's content.

    Examples
    --------
    >>> import numpy as np
    >>> size((3, 2), np.dtype("float16"))
    12
    """
    return math.prod(shape) * dtype.itemsize


def _reserve(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Make a ``.npy`` file of zeros whose blocks exist on the disk."""
    import numpy as np

    header = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
    np.lib.format.write_array_header_2_0(header, {**description, "shape": shape})
    temporary = path.with_name(path.name + ".new")
    try:
        atomic.reserve(temporary, len(header.getvalue()) + size(shape, dtype))
        with open(temporary, "r+b") as stream:
            stream.write(header.getvalue())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def release_pages(array: np.ndarray) -> None:
    """Take the pages of a writable memory map out of this process's memory; they stay written.

    They remain in the system's cache until it has written them. Nothing happens to arrays that are
    none, and on systems without ``madvise``.
    """
    import mmap

    mapped = getattr(array, "_mmap", None)
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


class AppendedArray:
    """A ``.npy`` file to which rows are added one by one; it gets its name when it is complete.

    Parameters
    ----------
    path : pathlib.Path
        The file that it becomes.

    Notes
    -----
    numpy leaves room in a header for the number of rows to grow.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(f".{path.name}.part")
        self.rows = 0
        self._row: tuple[tuple[int, ...], np.dtype[Any]] | None = None
        self.part.unlink(missing_ok=True)

    def append(self, row: np.ndarray) -> None:
        """Add a row of the shape and type of the first one."""
        if self._row is None:
            self._row = (row.shape, row.dtype)
            self.part.write_bytes(self._header())
        if self._row != (row.shape, row.dtype):
            raise ValueError(f"{self.path} has rows of {self._row}, not {(row.shape, row.dtype)}")
        with open(self.part, "ab") as stream:
            stream.write(row.tobytes())
        self.rows += 1

    def complete(self) -> None:
        """Give the array its name; where no row was added there is no file."""
        if self._row is None:
            return
        with open(self.part, "r+b") as stream:
            stream.write(self._header())
        self.part.replace(self.path)
        atomic.flush_folder(self.path.parent)

    def _header(self) -> bytes:
        import numpy as np

        shape, dtype = self._row or ((), np.dtype(np.uint8))
        header = io.BytesIO()
        description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
        np.lib.format.write_array_header_2_0(header, {**description, "shape": (self.rows, *shape)})
        return header.getvalue()
