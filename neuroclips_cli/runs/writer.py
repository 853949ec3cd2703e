"""The files of a folder, whole or not at all, in every form that stages write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroclips_cli.io import atomic, npy
from neuroclips_cli.io.csv import write_csv

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import DTypeLike


class FolderWriter:
    """Writes the files of a folder.

    Parameters
    ----------
    folder : pathlib.Path
        Where the files go.
    writes : bool
        Whether anything is written. Of several processes one writes; in the others every method
        leaves the file to it, and returns where it will lie.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self.folder = folder
        self.writes = writes

    def _put(self, name: str, write: Callable[[Path], object]) -> Path:
        path = self.folder / name
        if self.writes:
            write(path)
        return path

    def _require_writing(self, name: str) -> None:
        if not self.writes:
            raise RuntimeError(f"{self.folder / name} is written by the first process only")

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file."""
        return self._put(name, lambda path: atomic.write_text(path, text))

    def write_json(self, name: str, content: Any) -> Path:
        """Write a JSON file; NaN is refused."""
        return self._put(name, lambda path: atomic.write_json(path, content))

    def write_csv(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
        """Write a table with a header line."""
        return self._put(name, lambda path: write_csv(path, header, rows))

    def write_array(self, name: str, array: np.ndarray) -> Path:
        """Write a ``.npy`` file."""
        return self._put(name, lambda path: npy.write_array(path, array))

    def write_safetensors(
        self,
        name: str,
        tensors: Mapping[str, torch.Tensor],
        metadata: Mapping[str, str] | None = None,
    ) -> Path:
        """Write tensors by name; they are made contiguous and moved to the CPU."""
        from safetensors.torch import save_file

        def write(path: Path) -> None:
            ready = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
            with atomic.atomic_path(path) as temporary:
                save_file(ready, temporary, metadata=dict(metadata or {}) or None)

        return self._put(name, write)

    @contextmanager
    def atomic(self, name: str) -> Iterator[Path]:
        """Yield a temporary path beside ``name`` with the same suffix; it gets its name at the end.

        Works for a folder too: make it at the path that is handed out. Only for the process that
        writes.
        """
        self._require_writing(name)
        with atomic.atomic_path(self.folder / name) as temporary:
            yield temporary

    @contextmanager
    def open_array(
        self, name: str, shape: Sequence[int], dtype: DTypeLike
    ) -> Iterator[np.memmap[Any, Any]]:
        """Open a new ``.npy`` file as a writable memory map, for results that come in pieces.

        It gets its name at the end of the block. Only for the process that writes. See
        :func:`resumable.map_rows` for results that an interrupted run continues with.

        Raises
        ------
        UserError
            If the disk cannot hold the whole array; known at once, not half way.
        """
        import numpy as np

        self._require_writing(name)
        file = npy.PartialArray(self.folder / name)
        array = file.create(tuple(shape), np.dtype(dtype))
        yield array
        array.flush()
        file.complete()
