"""Places (kind 7): file systems that refuse locks, and text files in other encodings.

Whether a lock is held is known from who took it; what a settings file says, from Python's codecs.
"""

from __future__ import annotations

import codecs
import csv
import errno
import io
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from variants import Refusal, Variant

NO_LOCKS = {
    "ENOLCK": errno.ENOLCK,
    "EOPNOTSUPP": errno.EOPNOTSUPP,
    "ENOSYS": errno.ENOSYS,
    "ENOTSUPP of the kernel": 524,
    "EINVAL": errno.EINVAL,
    "EBADF": errno.EBADF,
    "EIO": errno.EIO,
    "ENOTTY": errno.ENOTTY,
    "EREMOTEIO": errno.EREMOTEIO,
    "ETIMEDOUT": errno.ETIMEDOUT,
    "ENOTCONN": errno.ENOTCONN,
    "EPROTONOSUPPORT": errno.EPROTONOSUPPORT,
    "ESTALE": errno.ESTALE,
    "EOVERFLOW": errno.EOVERFLOW,
    "ENXIO": errno.ENXIO,
}
ENCODINGS: dict[str, tuple[str, bytes, bool]] = {
    "UTF-8": ("utf-8", b"", True),
    "UTF-8 with a mark": ("utf-8", codecs.BOM_UTF8, True),
    "UTF-16 LE with a mark": ("utf-16-le", codecs.BOM_UTF16_LE, True),
    "UTF-16 BE with a mark": ("utf-16-be", codecs.BOM_UTF16_BE, True),
    "UTF-32 LE with a mark": ("utf-32-le", codecs.BOM_UTF32_LE, True),
    "UTF-32 BE with a mark": ("utf-32-be", codecs.BOM_UTF32_BE, True),
    "Latin-1": ("latin-1", b"", False),
}
"""Encoding, byte order mark, and whether it can be told from others."""


def _without_locks(number: int) -> Any:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return mock.patch("fcntl.flock", flock)


def _folder(folder: Path) -> Path:
    return folder


def _alone(number: int) -> Callable[[Path], list[str]]:
    """One writer, twice in turn: each gets the lock and gives it back."""

    def read(folder: Path) -> list[str]:
        from neuroclips_cli.io.lock import lock_holder, stage_lock

        seen = []
        with _without_locks(number):
            for _ in range(2):
                with stage_lock(folder, "preprocess"):
                    (folder / "written").touch()
                seen.append(lock_holder(folder, "preprocess"))
        return seen

    return read


def _two(number: int) -> Callable[[Path], None]:
    """A second writer while the first one writes."""

    def read(folder: Path) -> None:
        from neuroclips_cli.io.lock import stage_lock

        with (
            _without_locks(number),
            mock.patch("neuroclips_cli.io.lock.LOCK_TIMEOUT_S", 0.02),
            stage_lock(folder, "preprocess"),
            stage_lock(folder, "preprocess"),
        ):
            pass

    return read


def _asked(number: int) -> Callable[[Path], bool]:
    """Who only asks learns that somebody writes."""

    def read(folder: Path) -> bool:
        from neuroclips_cli.io.lock import lock_holder, stage_lock

        with _without_locks(number), stage_lock(folder, "preprocess"):
            return f"process {os.getpid()} " in lock_holder(folder, "preprocess")

    return read


def _in_order(number: int) -> Callable[[Path], int]:
    """Three processes' turns at one file, one after the other."""

    def read(folder: Path) -> int:
        from neuroclips_cli.io.lock import file_lock

        target = folder / "cache" / "latents.npy"
        target.parent.mkdir()
        for turn in range(3):
            with _without_locks(number), file_lock(target):
                target.write_text(str(turn))
        return int(target.read_text())

    return read


def _killed(number: int) -> Callable[[Path], list[str]]:
    """The writer before was killed on this machine: the next one is not blocked."""
    script = (
        "import os, sys; from unittest import mock; from pathlib import Path\n"
        "def flock(*_): raise OSError({number}, 'no locks')\n"
        "mock.patch('fcntl.flock', flock).start()\n"
        "from neuroclips_cli.io.lock import stage_lock\n"
        "lock = stage_lock(Path(sys.argv[1]), 'preprocess'); lock.__enter__(); os._exit(9)"
    )

    def read(folder: Path) -> list[str]:
        path = os.pathsep.join(sys.path)
        words = [sys.executable, "-c", script.format(number=number), str(folder)]
        subprocess.run(words, check=False, env={**os.environ, "PYTHONPATH": path})
        return _alone(number)(folder)

    return read


def _locks() -> Iterator[Variant]:
    for name, number in NO_LOCKS.items():
        yield Variant(f"{name}: one writer", _folder, _alone(number), ["", ""])
        refusal = Refusal(("is being written by process", str(os.getpid())))
        yield Variant(f"{name}: two writers", _folder, _two(number), refusal)
        yield Variant(f"{name}: asked who writes", _folder, _asked(number), True)
        yield Variant(f"{name}: in turn", _folder, _in_order(number), 2)
    for name in ("ENOLCK", "ENOSYS", "EOPNOTSUPP"):
        yield Variant(f"{name}: a killed writer", _folder, _killed(NO_LOCKS[name]), ["", ""])

    def nowhere(folder: Path) -> None:
        from neuroclips_cli.io.lock import stage_lock

        real = os.open

        def opened(path: Any, flags: int, *more: Any, **named: Any) -> int:
            if str(path).endswith(".lease"):
                raise OSError(errno.EIO, "Input/output error")
            return real(path, flags, *more, **named)

        with ExitStack() as stack:
            stack.enter_context(_without_locks(errno.ENOLCK))
            stack.enter_context(mock.patch("os.open", opened))
            stack.enter_context(stage_lock(folder, "preprocess"))

    yield Variant("neither locks nor leases", _folder, nowhere, Refusal(("choose a folder",)))


def _encoded(text: str, encoding: str, mark: bytes) -> bytes:
    return mark + text.encode(encoding)


SETTINGS: dict[str, tuple[str, str, Any]] = {
    "a number": ("[train_pr]\nepochs = 3\n", "train_pr.epochs", 3),
    "a path with accents": ('[run]\ndataset = "/Données/größe"\n', "run.dataset", "/Données/größe"),
    "a comment with accents": ("# für später\nsubject = 2\n", "run.subject", 2),
    "a list": ('[data]\nregions = ["V1", "é"]\n', "data.regions", ("V1", "é")),
}
"""Text, key, and its value."""


def _settings() -> Iterator[Variant]:
    for (how, (encoding, mark, known)), (what, (text, key, value)), end in itertools.product(
        ENCODINGS.items(), SETTINGS.items(), ("\n", "\r\n")
    ):
        content = _encoded(text.replace("\n", end), encoding, mark)

        def make(folder: Path, content=content) -> Path:
            (folder / "neuroclips.toml").write_bytes(content)
            return folder

        def read(folder: Path, key=key) -> Any:
            from neuroclips_cli.settings.load import load_settings

            return load_settings({"run.profile": "tiny"}, folder=folder, environ={}).value(key)

        refused = not known and not text.isascii()
        answer = Refusal(("neuroclips.toml", "UTF-8")) if refused else value
        yield Variant(f"settings in {how}, {what}, {end!r}", make, read, answer)


ROWS = [("split", "clip", "caption"), ("train", "0", "größer, Café"), ("test", "1", "zwei\nZeilen")]


def _tables() -> Iterator[Variant]:
    """Captions as tables and as JSON lists."""
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows(ROWS)
    table = stream.getvalue()
    scenes = "film,scene,start_s,end_s\nseg1,Süd,0,4\n"
    texts = ["größer", "Café au lait"]

    def captions(path: Path) -> Any:
        from neuroclips_cli.data.clip_table import read_captions

        return {f"{s}{n}": " ".join(text.split()) for (s, n), text in read_captions(path).items()}

    def cuts(path: Path) -> Any:
        from neuroclips_cli.data.clip_table import read_scenes

        return read_scenes(path).of_clip("seg1", 0, 2)

    def words(path: Path) -> Any:
        from neuroclips_cli.io.atomic import read_json

        return read_json(path)

    kinds: dict[str, tuple[str, Callable[[Path], Any], Any]] = {
        "captions.csv": (table, captions, {"train0": "größer, Café", "test1": "zwei Zeilen"}),
        "scenes.csv": (scenes, cuts, ("0", "Süd")),
        "captions.json": (json.dumps(texts, ensure_ascii=False), words, texts),
    }
    for (how, (encoding, mark, known)), (
        name,
        (text, read, answer),
    ), end, last in itertools.product(
        ENCODINGS.items(), kinds.items(), ("\n", "\r\n"), (False, True)
    ):
        whole = (text.rstrip("\n") if last else text).replace("\n", end)
        content = _encoded(whole, encoding, mark)

        def make(folder: Path, content=content, name=name) -> Path:
            (folder / name).write_bytes(content)
            return folder / name

        expected = answer if known else Refusal((name,))
        label = f"{name} in {how}, {end!r}, {'no ' if last else ''}line end at the end"
        yield Variant(label, make, read, expected)


def variants(root: Path) -> list[Variant]:
    """Return all variants; they share nothing."""
    return [*_locks(), *_settings(), *_tables()]
