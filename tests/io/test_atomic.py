"""Files whole or not at all; a full disk in one sentence."""

from __future__ import annotations

import errno
import os
import sys

import numpy as np
import pytest

from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic, npy
from neuroclips_cli.runs.resumable import map_rows
from neuroclips_cli.runs.stage import open_stage, read_array


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = atomic.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), atomic.atomic_path(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path):
    for word in ("old", "new"):
        with atomic.atomic_path(tmp_path / "checkpoint") as temporary:
            temporary.mkdir()
            (temporary / word).write_text(word)
    assert [p.name for p in (tmp_path / "checkpoint").iterdir()] == ["new"]


def test_nan_is_refused_in_json(tmp_path):
    with pytest.raises(ValueError):
        atomic.write_json(tmp_path / "a.json", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence_with_disk_file_and_way_on(settings, monkeypatch):
    monkeypatch.setattr(np, "save", lambda *a, **k: (_ for _ in ()).throw(full()))
    with (
        pytest.raises(UserError) as caught,
        open_stage(settings, "preprocess", sections=[], inputs={}) as stage,
    ):
        stage.write_array("a.npy", np.arange(3))
    said = str(caught.value)
    assert "no space left on the disk /" in said
    assert "a.npy" in said
    assert "run the same command again" in said


def test_a_streamed_array_that_cannot_fit_is_refused_before_it_is_filled(settings):
    with (
        pytest.raises(UserError, match="free at least .* TB"),
        open_stage(settings, "preprocess", sections=[], inputs={}) as stage,
        stage.open_array("a.npy", (2**42,), "float64"),
    ):
        pytest.fail("no disk holds 35 TB")


def test_a_full_disk_is_recognized_behind_other_libraries_errors():
    rust = ValueError('I/O error: Os { code: 28, message: "No space left on device" }')
    assert atomic.is_full_disk(rust)
    assert atomic.is_full_disk(OSError("1000000 requested and 129008 written"))  # numpy's tofile
    assert atomic.is_full_disk(RuntimeError("[enforce fail] . unexpected pos 704 vs 598"))  # torch
    try:
        try:
            raise full()
        except OSError as error:
            raise RuntimeError("writing failed") from error
    except RuntimeError as error:
        assert atomic.is_full_disk(error)
    assert not atomic.is_full_disk(OSError(errno.ENOENT, "no such file"))


def test_the_digest_of_a_folder_follows_content_and_names(tmp_path):
    (tmp_path / "a").write_text("x")
    first = atomic.tree_digest(tmp_path)
    (tmp_path / ".hidden").write_text("x")
    assert atomic.tree_digest(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert atomic.tree_digest(tmp_path) != first


def test_a_large_folder_is_digested_by_its_listing(tmp_path):
    with open(tmp_path / "big", "wb") as stream:
        stream.truncate(atomic.SMALL_FOLDER + 1)
    assert atomic.tree_digest(tmp_path).startswith("listing:")


def test_a_reserved_array_is_zeros_that_numpy_reads(tmp_path):
    path = tmp_path / "a.npy"
    file = npy.PartialArray(path)
    file.create((3, 2), np.dtype("uint8"))
    assert not path.exists()
    file.complete()
    np.testing.assert_array_equal(read_array(path), np.zeros((3, 2), "uint8"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


def test_a_pickled_or_torn_array_is_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([{}], dtype=object))
    with pytest.raises(UserError, match="not a readable"):
        read_array(path)
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match="not a readable"):
        read_array(path)


@pytest.mark.parametrize(
    ("size", "text"), [(5, "5 bytes"), (1500, "1.5 kB"), (2e9, "2.0 GB"), (3e13, "30.0 TB")]
)
def test_sizes_read_as_people_write_them(size, text):
    assert atomic.human_size(size) == text


class MetricLogger:
    """What reaches the disk, in order: ``("flush", path)`` and ``("name", path)``."""

    def __init__(self, monkeypatch):
        self.events: list[tuple[str, str]] = []
        fsync, replace, flush = os.fsync, os.replace, np.memmap.flush

        def note_fsync(handle):
            self.events.append(("flush", os.readlink(f"/proc/self/fd/{handle}")))
            fsync(handle)

        def note_replace(source, target, **options):
            self.events.append(("name", str(target)))
            replace(source, target, **options)
            self.sources[str(target)] = str(source)

        def note_flush(array):
            self.events.append(("flush", str(array.filename)))
            flush(array)

        self.sources: dict[str, str] = {}
        monkeypatch.setattr(os, "fsync", note_fsync)
        monkeypatch.setattr(os, "replace", note_replace)
        monkeypatch.setattr(np.memmap, "flush", note_flush)

    def named(self) -> list[str]:
        return [path for kind, path in self.events if kind == "name"]

    def in_order(self, target: str) -> bool:
        """Content flushed, then named, then the folder flushed."""
        place = len(self.events) - 1 - self.events[::-1].index(("name", target))
        before, after = self.events[:place], self.events[place:]
        source = self.sources[target]
        return ("flush", source) in before and ("flush", os.path.dirname(target)) in after


needs_proc = pytest.mark.skipif(
    sys.platform != "linux" or sys.version_info < (3, 11),
    reason="looks at file handles as Linux shows them, and at how Path renames since Python 3.11",
)


@needs_proc
def test_power_loss_finds_a_file_flushed_before_it_has_its_name(tmp_path, monkeypatch):
    journal = MetricLogger(monkeypatch)
    atomic.write_text(tmp_path / "a.txt", "new")
    assert journal.named() == [str(tmp_path / "a.txt")]
    assert journal.in_order(str(tmp_path / "a.txt"))


@needs_proc
def test_power_loss_finds_a_folder_with_every_file_and_entry_flushed(tmp_path, monkeypatch):
    journal = MetricLogger(monkeypatch)
    with atomic.atomic_path(tmp_path / "weights") as temporary:
        (temporary / "unet").mkdir(parents=True)
        (temporary / "unet" / "a.bin").write_bytes(b"a")
    start = str(temporary)
    wanted = {start, f"{start}/unet", f"{start}/unet/a.bin"}
    first_name = journal.events.index(("name", str(tmp_path / "weights")))
    assert wanted <= {path for kind, path in journal.events[:first_name] if kind == "flush"}
    assert journal.in_order(str(tmp_path / "weights"))


@needs_proc
def test_power_loss_never_finds_rows_noted_that_are_not_on_the_disk(settings, monkeypatch):
    journal = MetricLogger(monkeypatch)
    with open_stage(settings, "preprocess", sections=[], inputs={}) as stage:
        ones = np.ones((2, 3))
        path = stage.folder / "a.npy"
        map_rows(path, lambda: lambda piece: ones, 6, batch_size=2, dtype="float32")
    part = str(stage.folder / ".a.npy.part")
    marker = str(stage.folder / ".a.npy.rows.json")
    notes = [i for i, event in enumerate(journal.events) if event == ("name", marker)]
    assert len(notes) == 3
    for earlier, note in zip([0, *notes], notes, strict=False):
        assert ("flush", part) in journal.events[earlier:note]
    assert journal.in_order(str(stage.folder / "a.npy"))
    assert journal.in_order(str(stage.folder / "manifest.json"))
