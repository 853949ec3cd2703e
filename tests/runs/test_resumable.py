"""Rows and texts that come in batches: interrupted, resumed, and wanted by several at once."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neuroclips_cli.errors import UserError
from neuroclips_cli.io.npy import PartialArray
from neuroclips_cli.runs.resumable import map_rows, map_texts

VALUES = np.arange(140, dtype=np.float64).reshape(70, 2) / 2


class Computation:
    """Rows or texts by number; interrupted before the batch that contains ``stop``."""

    def __init__(self, of: Callable[[slice], object], stop: int | None = None) -> None:
        self.of, self.stop = of, stop
        self.loads, self.pieces = 0, []

    def load(self) -> Callable[[slice], object]:
        self.loads += 1
        return self.compute

    def compute(self, piece: slice) -> object:
        if self.stop is not None and piece.start <= self.stop < piece.stop:
            raise KeyboardInterrupt
        self.pieces.append((piece.start, piece.stop))
        return self.of(piece)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("stop", [0, 31, 32, 69])
def test_rows_go_on_after_an_interruption_and_nothing_is_loaded_for_whole_ones(
    tmp_path, shared, stop
):
    path = tmp_path / "targets" / "latents-x.npy"
    told: list[int] = []
    options = {"batch_size": 32, "dtype": "float16", "shared": shared, "announce": told.append}
    broken = Computation(VALUES.__getitem__, stop)
    with pytest.raises(KeyboardInterrupt):
        map_rows(path, broken.load, 70, **options)
    assert not path.exists()
    whole = Computation(VALUES.__getitem__)
    rows = map_rows(path, whole.load, 70, **options)
    assert rows.dtype == np.float16
    np.testing.assert_array_equal(rows, VALUES)
    assert broken.pieces + whole.pieces == [(0, 32), (32, 64), (64, 70)]
    assert told == [70 * 2 * 2]
    map_rows(path, whole.load, 70, **options)
    assert whole.loads == 1
    assert [p.name for p in path.parent.iterdir()] == ["latents-x.npy"]


def test_rows_that_were_complete_but_had_no_name_yet_need_nothing_loaded(tmp_path, monkeypatch):
    path, rows = tmp_path / "a.npy", Computation(VALUES.__getitem__)
    with monkeypatch.context() as killed:
        killed.setattr(PartialArray, "complete", _killed)
        with pytest.raises(KeyboardInterrupt):
            map_rows(path, rows.load, 70, batch_size=0, dtype="float32")
    found = map_rows(path, rows.load, 70, batch_size=0, dtype="float32")
    np.testing.assert_array_equal(found, VALUES)
    assert rows.loads == 1


@pytest.mark.parametrize(("count", "dtype"), [(60, "float32"), (70, "float16")])
def test_the_rest_of_an_array_of_another_kind_is_not_resumed(tmp_path, count, dtype):
    path = tmp_path / "a.npy"
    with pytest.raises(KeyboardInterrupt):
        map_rows(path, Computation(VALUES.__getitem__, 50).load, count, batch_size=20, dtype=dtype)
    other = Computation((VALUES + 1).__getitem__)
    found = map_rows(path, other.load, 70, batch_size=20, dtype="float32")
    assert other.pieces[0] == (0, 20)
    np.testing.assert_array_equal(found, VALUES + 1)


def test_what_no_disk_holds_is_refused_after_the_first_batch(tmp_path):
    row = np.ones((1, 2**30), np.uint8)
    wide = Computation(lambda piece: row)
    with pytest.raises(UserError, match="no space left on the disk .* free at least .* TB"):
        map_rows(tmp_path / "a.npy", wide.load, 2**15, batch_size=1, dtype="uint8")
    assert len(wide.pieces) == 1


@pytest.mark.parametrize("name", ["captions.json", ".captions.json"])
def test_texts_go_on_after_an_interruption(tmp_path, name):
    def texts(piece: slice) -> list[str]:
        return [f"caption {number}" for number in range(piece.start, piece.stop)]

    path = tmp_path / name
    broken, whole = Computation(texts, 150), Computation(texts)
    with pytest.raises(KeyboardInterrupt):
        map_texts(path, broken.load, 210, batch_size=96)
    assert not path.exists()
    for _ in range(2):
        assert map_texts(path, whole.load, 210, batch_size=96) == texts(slice(0, 210))
    assert broken.pieces + whole.pieces == [(0, 96), (96, 192), (192, 210)]
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_rows_that_several_want_are_computed_once(tmp_path):
    context = multiprocessing.get_context("fork")
    path = tmp_path / "targets" / "latents-x.npy"
    workers = [
        context.Process(target=_targets, args=(path, tmp_path / f"calls-{i}")) for i in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(list(tmp_path.glob("calls-*"))) == 1
    np.testing.assert_array_equal(np.load(path), VALUES)


def _killed(_file: PartialArray) -> None:
    raise KeyboardInterrupt


def _targets(path: Path, note: Path) -> None:
    def compute(piece: slice) -> np.ndarray:
        note.touch()
        time.sleep(0.1)
        return VALUES[piece]

    map_rows(path, lambda: compute, 70, batch_size=32, dtype="float32", shared=True)
