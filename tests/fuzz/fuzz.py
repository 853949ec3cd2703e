"""Mutate sound files and feed them to every reader, in children with little memory.

``python tests/fuzz/fuzz.py [READER ...] [--count 10000] [--seed 0] [--keep FOLDER]``

A reader may take a file or refuse it with a ``UserError`` of one line. Anything else is a find:
another exception, a killed process, more than 1 GB beyond the libraries, 20 s without an end; and,
where nibabel or numpy read the same file, another result than theirs: "silently wrong".
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from readers import ANSWERS, READERS, write_seeds

MEMORY = 10**9
"""Bytes of address space that a reader may take beyond what the libraries have."""
SECONDS = 20
BATCH = 250
"""Files for one child; a child that dies is one find, and the next one continues behind it."""

TRICKS = (
    *(b"", b"\x00", b"\xff" * 8, b"\x00" * 64, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"),
    *(b"nan", b"inf", b"1e999", b"-1", b"true", b'"', b"\r", b"\n", b",", b"9" * 5000),
    *(b"[" * 3000, b"{" * 3000, b'{"a":' * 2000, b"../../../etc/passwd", b"\x1b[2J"),
    *(b"<script>alert(1)</script>", b"\x80\x04\x95", b"cos\nsystem\n(S'x'\ntR.", b"PK\x03\x04"),
    *(b"\xef\xbb\xbf", b"\xe2\x80\xae", b"<!ENTITY x SYSTEM 'file:///etc/passwd'>"),
)


def mutate(content: bytes, draw: random.Random, others: list[bytes]) -> bytes:
    """Change a file as a bad disk, a bad program or a bad person would."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 3, 6))):
        # Headers decide what a reader does: half of all changes fall there.
        size = len(data)
        reach = min(size, 600) if draw.random() < 0.5 else size
        place = draw.randrange(reach) if reach else 0
        kind = draw.randrange(9)
        if kind == 0 and size:
            data[place] ^= 1 << draw.randrange(8)
        elif kind == 1 and size:
            data[place] = draw.randrange(256)
        elif kind == 2:
            del data[place:]
        elif kind == 3:
            del data[place : place + draw.randrange(1, 40)]
        elif kind == 4:
            data[place:place] = draw.choice(TRICKS)
        elif kind == 5:
            trick = draw.choice(TRICKS)
            data[place : place + len(trick)] = trick
        elif kind == 6 and size:
            data[place:place] = data[place : place + draw.randrange(1, 200)] * draw.choice((1, 5))
        elif kind == 7:
            other = draw.choice(others)
            data[place:] = other[draw.randrange(len(other)) :]
        elif kind == 8 and size >= 4:
            width = draw.choice((2, 4, 8))
            number = draw.choice((0, 1, 2**15 - 1, 2**31 - 1, 2**63 - 1, draw.getrandbits(31)))
            data[place : place + width] = (number % 2 ** (8 * width)).to_bytes(width, "little")
    return bytes(data)


def _address_space() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmSize:"):
            return int(line.split()[1]) * 1024
    return 0


def _one(reader: str, seeds: list[Path], number: int, seed: int, folder: Path) -> str:
    """Feed one mutated file to a reader; return what went wrong, or nothing."""
    from neuroclips_cli.errors import UserError

    draw = random.Random(f"{seed}/{reader}/{number}")
    source = draw.choice(seeds)
    contents = [path.read_bytes() for path in seeds]
    path = folder / source.name
    path.write_bytes(mutate(source.read_bytes(), draw, contents))
    try:
        found = READERS[reader](path)
        if found is not None and reader in ANSWERS:
            return _compared(found, ANSWERS[reader], path)
    except UserError as error:
        if "\n" in str(error):
            return f"more than one line: {error!r}"
    except BaseException as error:
        import traceback

        frames = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
        return f"{type(error).__name__}: {str(error)[:150]} ({where})"
    return ""


def _compared(found: Any, answer: Callable[[Path], Any], path: Path) -> str:
    """Compare what was read with an independent answer; return what is wrong, or nothing."""
    try:
        expected = answer(path)
    except Exception as error:
        return f"silently wrong: taken, but {type(error).__name__}: {str(error)[:150]}"
    if expected is None:
        return ""
    same = np.shape(found) == np.shape(expected) and np.array_equal(
        found, expected, equal_nan=np.asarray(expected).dtype.kind == "f"
    )
    return "" if same else f"silently wrong: {found!r:.100} instead of {expected!r:.100}"


def _batch(reader: str, seeds: list[Path], numbers: range, seed: int, note: Path) -> None:
    """Run a child's share; the note says which file it is at and what it found."""
    import signal

    def too_long(*_: object) -> None:
        raise TimeoutError(f"no end after {SECONDS} s")

    signal.signal(signal.SIGALRM, too_long)
    limit = _address_space() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    folder = note.parent / "files"
    folder.mkdir(exist_ok=True)
    with open(note, "w") as stream:
        for number in numbers:
            stream.write(f"{number}\t")
            stream.flush()
            signal.alarm(SECONDS)
            stream.write(repr(_one(reader, seeds, number, seed, folder)) + "\n")
            signal.alarm(0)


def fuzz(reader: str, count: int, seed: int = 0) -> list[str]:
    """Feed ``count`` mutated files to a reader; return the finds, each with its number."""
    finds = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        root = Path(name)
        seeds = _sound(root, reader)
        note, first = root / "note.txt", 0
        while first < count:
            last = min(first + BATCH, count)
            child = os.fork()
            if not child:
                code = 1
                try:
                    _batch(reader, seeds, range(first, last), seed, note)
                    code = 0
                finally:
                    os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            lines = note.read_text("utf-8", "replace").splitlines()
            for line in lines:
                number, _, said = line.partition("\t")
                if said not in ("", "''"):
                    finds.append(f"{reader} {number}: {said}")
            if code and (not lines or not lines[-1].partition("\t")[2]):
                number = lines[-1].partition("\t")[0] if lines else str(first)
                finds.append(f"{reader} {number}: the process died with {code}")
            first += max(len(lines), 1)
            shutil.rmtree(root / "files", ignore_errors=True)
    return finds


def _sound(root: Path, reader: str) -> list[Path]:
    """Write the sound files in a child and try the reader on them, so that libraries are loaded."""
    seeds = write_seeds(root / "sound")[reader]
    from neuroclips_cli.errors import UserError

    (root / "try").mkdir()
    for path in seeds:
        copy = Path(shutil.copy(path, root / "try"))
        try:
            READERS[reader](copy)
        except UserError:
            if "pickled" not in path.name and path.suffix != ".npy":
                raise
    return seeds


def main() -> int:
    """Fuzz the chosen readers; print what was found and how fast it went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", default=list(READERS))
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    bad = 0
    for reader in options.readers:
        began = time.monotonic()
        finds = fuzz(reader, options.count, options.seed)
        bad += len(finds)
        for find in finds[:40]:
            print(find)
        spent = time.monotonic() - began
        print(f"{reader}: {options.count} files, {len(finds)} finds, {spent:.0f} s", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
