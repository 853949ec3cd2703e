"""Read what trainers pickle beside tensors without looking up, importing or calling any of it.

Lightning keeps callbacks and hyper-parameters in its checkpoints, others an
``argparse.Namespace``, an optimizer, or the whole network. torch's ``weights_only`` refuses such a
file. Here every class is replaced by one that keeps what it is given and does nothing; tensors are
built on the file's bytes.
"""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of a file of torch before 1.6."""

PLAIN: dict[str, Any] = {
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.complex": complex,
    "builtins.dict": dict,
    "builtins.list": list,
    "builtins.tuple": tuple,
    "builtins.int": int,
    "builtins.float": float,
    "builtins.bool": bool,
    "builtins.str": str,
    "collections.OrderedDict": OrderedDict,
}
"""What is taken as it is: containers and numbers, which run nothing."""

STANDARD = (
    "argparse.Namespace",
    "builtins.bytearray",
    "builtins.getattr",
    "builtins.object",
    "builtins.range",
    "builtins.slice",
    "copyreg._reconstructor",
    "dataclasses.",
    "collections.",
    "datetime.",
    "decimal.",
    "enum.",
    "fractions.",
    "functools.partial",
    "logging.",
    "pathlib.",
    "random.Random",
    "types.SimpleNamespace",
    "typing.",
    "uuid.UUID",
)
"""Names of the standard library that trainers keep; any other one is refused."""

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}


class Refused(pickle.UnpicklingError):
    """A name that no trainer's record needs; ``args[0]`` is the name."""


class Inert:
    """Stands for an object whose class is not looked up: it keeps what it is given.

    Attributes
    ----------
    origin : str
        Module and name of the class that it stands for.
    state : object
        What the class would have been filled with.
    """

    origin = ""
    state: Any = None

    def __init__(self, *args: Any, **_: Any) -> None:
        self.state = args

    def __call__(self, *args: Any, **_: Any) -> Inert:
        """Stand for what a method or function would have returned."""
        return Inert(*args)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self._table()[key] = value

    def append(self, value: Any) -> None:
        """Keep a list's entry."""
        self._table()[len(self._table())] = value

    def extend(self, values: Any) -> None:
        """Keep a list's entries."""
        for value in values:
            self.append(value)

    def _table(self) -> dict[Any, Any]:
        if not isinstance(self.state, dict):
            self.state = {}
        return self.state

    def modules(self) -> Iterator[tuple[str, Any]]:
        """Yield the weights by name where this stands for a ``torch.nn.Module``."""
        if not isinstance(self.state, Mapping):
            return
        skipped = self.state.get("_non_persistent_buffers_set") or ()
        for table in ("_parameters", "_buffers"):
            for name, value in dict(self.state.get(table) or {}).items():
                if value is not None and not (table == "_buffers" and name in skipped):
                    yield str(name), value
        for name, inner in dict(self.state.get("_modules") or {}).items():
            if isinstance(inner, Inert):
                yield from ((f"{name}.{below}", value) for below, value in inner.modules())


def read_inert(path: Path) -> Any:
    """Open a file of ``torch.save``, whatever it holds; nothing that it names is run.

    It is a zip archive, or before torch 1.6 a row of pickles. Everything but tensors and containers
    comes back as :class:`Inert`.

    Raises
    ------
    Refused
        If it names a function of the standard library that runs something.
    pickle.UnpicklingError, zipfile.BadZipFile, ValueError, KeyError, EOFError
        If it is damaged.
    """
    return _read_archive(path) if zipfile.is_zipfile(path) else _read_legacy(path)


class _Reader(pickle.Unpickler):
    """An unpickler that looks nothing up.

    Parameters
    ----------
    stream : binary stream
        The pickle.
    storage : callable
        (key, dtype, number of elements) to the flat tensor of a storage.
    """

    def __init__(
        self, stream: Any, storage: Callable[[str, torch.dtype, int], torch.Tensor]
    ) -> None:
        super().__init__(stream, encoding="utf-8", errors="replace")
        self.storage = storage

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module.replace('__builtin__', 'builtins')}.{name}"
        if full in PLAIN:
            return PLAIN[full]
        if full == "_codecs.encode":
            return lambda text, _="": text.encode("latin-1")
        if module.split(".")[0] == "torch":
            return self._of_torch(full, name)
        root = module.split(".")[0].replace("__builtin__", "builtins")
        foreign = root not in sys.stdlib_module_names and root not in ("posix", "nt", "__builtin__")
        if foreign or full.startswith(STANDARD):
            return type(name.rpartition(".")[2], (Inert,), {"origin": full})
        raise Refused(full)

    def _of_torch(self, full: str, name: str) -> Any:
        """Tensors are built here; everything else of torch is inert as well."""
        if name in DTYPES:
            return DTYPES[name]
        if full in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
            return lambda *args: _tensor(*args)  # a function of its own, which no file can alter
        if full in (
            "torch._utils._rebuild_parameter",
            "torch._utils._rebuild_parameter_with_state",
        ):
            return lambda data, *_: data
        if full == "torch._tensor._rebuild_from_type_v2":
            # A tensor with attributes of its own, such as a parameter that a trainer marked.
            return lambda build, _kind, args, _state: build(*args) if callable(build) else None
        if full in ("torch.Size", "torch.nn.parameter.Parameter"):
            return tuple if full == "torch.Size" else (lambda data=None, *_: data)
        if isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return type(name.rpartition(".")[2], (Inert,), {"origin": full})

    def persistent_load(self, pid: Any) -> Any:
        kind, *rest = pid
        if kind == "module":
            return rest[0]
        dtype, key, _place, count = rest[:4]
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"an entry of an unknown kind, {kind}")
        return self.storage(str(key), dtype, int(count))


def _tensor(storage: torch.Tensor, offset: int, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    """Build a tensor on its storage; one that would reach beyond it is an error."""
    return storage.as_strided(tuple(size), tuple(stride), offset)


def _read_archive(path: Path) -> Any:
    content = np.memmap(path, np.uint8, mode="c")  # private: nothing reaches the file
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise pickle.UnpicklingError("the archive holds no pickle of torch")
        folder = pickles[0].rpartition("/")[0]
        known: dict[str, torch.Tensor] = {}

        def storage(key: str, dtype: torch.dtype, count: int) -> torch.Tensor:
            if key not in known:
                known[key] = _record(content, archive, entries[f"{folder}/data/{key}"])
            return known[key][: count * dtype.itemsize].view(dtype)

        return _Reader(io.BytesIO(archive.read(pickles[0])), storage).load()


def _record(content: np.ndarray, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> torch.Tensor:
    """Return the bytes of one file of the archive, on the mapped file where it is not packed."""
    if entry.compress_type != zipfile.ZIP_STORED:
        return torch.frombuffer(bytearray(archive.read(entry)), dtype=torch.uint8)
    head = content[entry.header_offset : entry.header_offset + 30].tobytes()
    lengths = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    start = entry.header_offset + 30 + lengths
    if start + entry.file_size > len(content):
        raise pickle.UnpicklingError(f"{entry.filename} ends beyond the file")
    piece = content[start : start + entry.file_size]
    aligned = piece.ctypes.data % 16 == 0
    return torch.from_numpy(piece if aligned else piece.copy())


def _read_legacy(path: Path) -> Any:
    """Read magic number, version, byte order, content, the storages' keys, and the storages."""
    largest = path.stat().st_size
    known: dict[str, torch.Tensor] = {}

    def storage(key: str, dtype: torch.dtype, count: int) -> torch.Tensor:
        if count * dtype.itemsize > largest:
            raise pickle.UnpicklingError("a tensor is larger than the file")
        if key not in known:
            known[key] = torch.zeros(count * dtype.itemsize, dtype=torch.uint8)
        return known[key].view(dtype)

    with open(path, "rb") as stream:

        def load() -> Any:
            return _Reader(stream, storage).load()

        if load() != LEGACY_MAGIC:
            raise pickle.UnpicklingError("the file does not begin as one of torch does")
        load()
        load()
        content = load()
        for key in load():
            count = int.from_bytes(stream.read(8), "little")
            target = known[str(key)]
            data = stream.read(len(target))
            if len(data) != len(target) or (count and len(target) % count):
                raise EOFError("the file ends within a tensor")
            if data:
                target.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    return content
