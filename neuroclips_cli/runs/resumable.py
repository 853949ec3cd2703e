"""Results that come batch by batch: an interruption loses one batch at most."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from neuroclips_cli import console
from neuroclips_cli.io import atomic, npy
from neuroclips_cli.io.lock import file_lock
from neuroclips_cli.runtime import distributed

Result = TypeVar("Result")
Added = TypeVar("Added", contravariant=True)


def map_rows(
    path: Path,
    load: Callable[[], Callable[[slice], np.ndarray]],
    count: int,
    *,
    batch_size: int,
    dtype: str,
    what: str = "",
    unit: str = "clip",
    shared: bool = False,
    announce: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Compute the rows of an array in batches, continuing where an interrupted run stopped.

    The array grows in a hidden file beside ``path`` with a note of the rows done, and gets its
    name when it is complete; a complete one is taken as it is, and nothing is loaded.

    Parameters
    ----------
    path : pathlib.Path
        The ``.npy`` file.
    load : callable
        Loads what the computation needs, and returns the function from a slice of rows to an
        array of those rows. Called once, and only where rows are missing.
    count : int
        Rows, at least 1.
    batch_size : int
        Rows at a time, 0 for as many as memory allows. Results do not depend on it, except for
        how floating-point sums round.
    dtype : str
        numpy type that the rows are stored in.
    what : str
        For the progress bar; without it there is none.
    unit : str
        What the progress bar counts.
    shared : bool
        Whether several commands may want the file, whose name then has to change whenever the
        content would: one of them makes it, the others wait. Otherwise the processes of one
        command divide the rows among them, and the first one writes.
    announce : callable, optional
        Called with the size of the whole array in bytes before any of it is written.

    Returns
    -------
    numpy.ndarray
        ``(count, ...)``, memory-mapped, read-only.

    Raises
    ------
    UserError
        If the disk cannot hold the whole array; known after the first batch, not half way.
    """
    rows = _Rows(path, count, dtype, announce)
    _make(rows, load, _Work(count, batch_size, what, unit, shared))
    return npy.read_array(path)


def map_texts(
    path: Path,
    load: Callable[[], Callable[[slice], list[str]]],
    count: int,
    *,
    batch_size: int,
    what: str = "",
    unit: str = "clip",
    shared: bool = False,
) -> list[str]:
    """Compute texts in batches, as :func:`map_rows` does; they are kept as a list in JSON."""
    _make(_Texts(path), load, _Work(count, batch_size, what, unit, shared))
    return list(atomic.read_json(path))


@dataclass(frozen=True)
class _Work:
    """The parameters of these names of :func:`map_rows`."""

    count: int
    batch_size: int
    what: str
    unit: str
    shared: bool


class _Results(Protocol[Added]):
    """Results on disk: ``path`` holds them once they are complete."""

    path: Path

    def resume(self) -> int:
        """Open what an interrupted run left; return how many results that are."""
        ...

    def add(self, piece: slice, results: Added) -> None:
        """Append results, and make sure that they last."""
        ...

    def complete(self) -> None:
        """Give the file its name."""
        ...


class _Rows:
    """Rows of an array in a hidden file, and beside it a note of how many are filled."""

    def __init__(
        self, path: Path, count: int, dtype: str, announce: Callable[[int], None] | None
    ) -> None:
        self.path, self.count, self.announce = path, count, announce
        self.dtype = np.dtype(dtype)
        self.file = npy.PartialArray(path)
        self.note = path.with_name(f".{path.name}.rows.json")
        self.array: np.memmap[Any, Any] | None = None

    def resume(self) -> int:
        array = self.file.reopen() if self.note.exists() else None
        if array is None or len(array) != self.count or array.dtype != self.dtype:
            return 0
        self.array = array
        return int(atomic.read_json(self.note))

    def add(self, piece: slice, results: np.ndarray) -> None:
        if self.array is None:
            shape = (self.count, *results.shape[1:])
            if self.announce is not None:
                self.announce(npy.size(shape, self.dtype))
            self.array = self.file.create(shape, self.dtype)
        self.array[piece] = results
        self.array.flush()
        atomic.write_json(self.note, piece.stop)

    def complete(self) -> None:
        self.array = None
        self.file.complete()
        self.note.unlink(missing_ok=True)


class _Texts:
    """A list of texts, in a hidden file until it is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(f".{path.name.removeprefix('.')}.part")
        self.texts: list[str] = []

    def resume(self) -> int:
        if self.part.exists():
            self.texts = atomic.read_json(self.part)
        return len(self.texts)

    def add(self, piece: slice, results: list[str]) -> None:
        self.texts += results
        atomic.write_json(self.part, self.texts)

    def complete(self) -> None:
        self.part.replace(self.path)
        atomic.flush_folder(self.path.parent)


def _make(
    results: _Results[Result], load: Callable[[], Callable[[slice], Result]], work: _Work
) -> None:
    """Complete results in one process, or, where they are not shared, in all of a launcher's."""
    if work.shared:
        if not results.path.exists():
            # Two subjects who saw the same films share their targets: the second one waits.
            with file_lock(results.path):
                if not results.path.exists():
                    _fill(results, load, work, first=results.resume())
                    results.complete()
        return
    if distributed.broadcast_object(results.path.exists()):
        return
    writes = distributed.is_main_process()
    done = distributed.broadcast_object(results.resume() if writes else 0)
    _fill(results, load, work, first=done)
    if writes:
        results.complete()
    distributed.barrier()


def _fill(
    results: _Results[Result],
    load: Callable[[], Callable[[slice], Result]],
    work: _Work,
    first: int,
) -> None:
    """Compute the results from number ``first`` on."""
    bar = console.progress(work.what, work.count, work.unit) if work.what else nullcontext()
    with bar as advance:
        if advance:
            advance(first)
        if first == work.count:
            return
        for piece, made in _dealt(work, first, load()):
            results.add(piece, made)
            if advance:
                advance(piece.stop - piece.start)


def _dealt(
    work: _Work, first: int, compute: Callable[[slice], Result]
) -> Iterator[tuple[slice, Result]]:
    """Yield ``(piece, compute(piece))`` in order; of several processes, in the first one only.

    Each process computes the same number of items in a round; an interruption loses one round.
    """
    from neuroclips_cli.runtime.auto_batch import MOST, ON_CPU, AutoBatcher, on_gpu

    batch, count = AutoBatcher(work.batch_size), work.count
    if work.shared or distributed.world_size() == 1:
        yield from batch.map(first, count, compute)
        return
    each = work.batch_size or (MOST if on_gpu() else ON_CPU)
    for start in range(first, count, each * distributed.world_size()):
        own = min(start + each * distributed.get_rank(), count)
        made = list(batch.map(own, min(own + each, count), compute))
        for part in distributed.gather_objects(made):
            yield from part
