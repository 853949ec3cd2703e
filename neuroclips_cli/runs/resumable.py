"""Results that come batch by batch: an interruption loses one batch at most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TypeVar

import numpy as np

from neuroclips_cli import console
from neuroclips_cli.runs.stage import Stage, read_array, read_json
from neuroclips_cli.runtime import distributed

Result = TypeVar("Result")


def finished(stage: Stage, name: str) -> np.ndarray | None:
    """Return an array that an interrupted run had finished, None where it has to be made."""
    path = stage.folder / name
    return read_array(path) if distributed.broadcast_object(path.exists()) else None


def _dealt(
    batch_size: int, first: int, count: int, compute: Callable[[slice], Result]
) -> Iterator[tuple[slice, Result]]:
    """Yield ``(piece, compute(piece))`` in order; of several processes, in the first one only.

    Each process computes the same number of items in a round; an interruption loses one round.
    """
    from neuroclips_cli.runtime.auto_batch import MOST, ON_CPU, AutoBatcher, on_gpu

    batch = AutoBatcher(batch_size)
    if distributed.world_size() == 1:
        yield from batch.map(first, count, compute)
        return
    each = batch_size or (MOST if on_gpu() else ON_CPU)
    for start in range(first, count, each * distributed.world_size()):
        own = min(start + each * distributed.get_rank(), count)
        made = list(batch.map(own, min(own + each, count), compute))
        for part in distributed.gather_objects(made):
            yield from part


def fill_rows(
    stage: Stage,
    name: str,
    shape: Sequence[int],
    dtype: str,
    batch_size: int,
    compute: Callable[[slice], np.ndarray],
    description: str,
) -> np.ndarray:
    """Compute the rows of an array in batches, going on where an interrupted run stopped.

    Parameters
    ----------
    stage : Stage
        Open stage folder.
    name : str
        File name; a finished file is taken as it is.
    shape : sequence of int
        Of the whole array; the first number counts the rows.
    dtype : str
        numpy type.
    batch_size : int
        Rows at a time, 0 for as many as memory allows. Results do not depend on it, except for
        how floating-point sums round.
    compute : callable
        Slice of rows -> array of those rows.
    description : str
        For the progress bar.

    Returns
    -------
    numpy.ndarray
        Memory-mapped, read-only.
    """
    there = finished(stage, name)
    if there is not None:
        return there
    path = stage.folder / name
    # which rows are filled stands beside the half-filled array, which open_array keeps hidden
    marker = path.with_name(f".{name}.rows.json")
    partial = path.with_name(f".{name}.part").exists()
    first = distributed.broadcast_object(
        int(read_json(marker)) if partial and marker.exists() else 0
    )
    with ExitStack() as stack:
        advance = stack.enter_context(console.progress(description, total=shape[0]))
        advance(first)
        if distributed.is_main_process():
            array = stack.enter_context(stage.open_array(name, shape, dtype, resume=first > 0))
        for piece, rows in _dealt(batch_size, first, shape[0], compute):
            array[piece] = rows
            array.flush()
            stage.write_json(marker.name, piece.stop)
            advance(piece.stop - piece.start)
    if distributed.is_main_process():
        marker.unlink(missing_ok=True)
    distributed.barrier()
    return read_array(path)


def fill_texts(
    stage: Stage,
    name: str,
    count: int,
    batch_size: int,
    compute: Callable[[slice], list[str]],
    description: str,
) -> list[str]:
    """Compute texts in batches, like :func:`fill_rows`; they are kept in a hidden file.

    Parameters
    ----------
    stage, batch_size, description
        As in :func:`fill_rows`.
    name : str
        Name of the hidden file, beginning with a dot.
    count : int
        Texts wanted.
    compute : callable
        Slice -> its texts.

    Returns
    -------
    list of str
        ``count`` texts.
    """
    path = stage.folder / name
    texts: list[str] = distributed.broadcast_object(read_json(path) if path.exists() else [])
    if len(texts) == count:
        return texts
    with console.progress(description, total=count) as advance:
        advance(len(texts))
        for piece, more in _dealt(batch_size, len(texts), count, compute):
            texts += more
            stage.write_json(name, texts)
            advance(piece.stop - piece.start)
    return distributed.broadcast_object(texts)
