"""Checkpoints in the wrappings of many trainers, each with the weights that are in it.

    python tests/fuzz/checkpoint_wrappings.py [--count 400] [--seed 1]

prints how many of them are read wrong: other weights than were put in, a refusal of what can be
read, or no refusal (or one of more than a sentence) of what holds no weights. The answer is what
the generator put in; nothing of the package makes it.
"""

from __future__ import annotations

import argparse
import gzip
import io
import sys
import tarfile
import types
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

PARTS = (
    *("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"),
    "_forward_module",
)
ENTRIES = ("state_dict", "model_state_dict", "model", "module", "network", "net", "weights")
AVERAGES = ("ema", "model_ema", "state_dict_ema", "ema_state_dict", "params_ema", "swa_model")
ENDINGS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".tar", ".model", "")
MODULES = (
    "pytorch_lightning.callbacks.timer",
    "omegaconf.dictconfig",
    "vicreg.distributed",
)


@dataclass
class Case:
    """One file: what it is, what it holds, or which words its refusal must have."""

    name: str
    path: Path
    weights: dict[str, torch.Tensor] | None = None
    averaged: bool = False
    refusal: tuple[str, ...] = field(default_factory=tuple)


class _Foreign:
    """A trainer's own object; its module exists only while the file is written."""

    def __init__(self, **content: Any) -> None:
        self.__dict__.update(content)


@contextmanager
def foreign_classes() -> Iterator[Callable[[], Any]]:
    """Give classes that pickle under names which nobody can import afterwards."""
    made, before = {}, dict(sys.modules)
    for name in MODULES:
        parts = name.split(".")
        for end in range(1, len(parts)):  # pickle imports the packages above, too
            parent = ".".join(parts[:end])
            sys.modules.setdefault(parent, types.ModuleType(parent))
        module = types.ModuleType(name)
        kind = type("Record", (_Foreign,), {"__module__": name, "__qualname__": "Record"})
        module.Record = kind  # type: ignore[attr-defined]
        sys.modules[name] = module
        made[name] = kind
    order = iter(range(10**9))
    try:
        yield lambda: made[MODULES[next(order) % len(MODULES)]](patience=3, best=torch.ones(3))
    finally:
        for name in sys.modules.keys() - before.keys():
            del sys.modules[name]


def network(rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """A projector, or a map of tokens, with numbers of its own."""

    def numbers(*shape: int) -> torch.Tensor:
        kind = (torch.float32, torch.float16, torch.float64)[int(rng.integers(3))]
        return torch.from_numpy(rng.standard_normal(shape)).to(kind)

    if rng.random() < 0.5:
        return {"proj": numbers(6, 4)}
    inner, outer = numbers(5, 6), numbers(3, 8)
    return {
        "linear1.weight": inner,
        "linear1.bias": numbers(5),
        "linear2.weight": outer,
        "linear2.bias": numbers(3),
    }


def prefixed(weights: dict[str, torch.Tensor], rng: np.random.Generator) -> dict[str, Any]:
    """Put wrappers' parts in front of the names, and into them, in any order."""
    front = [str(p) for p in rng.choice(PARTS, int(rng.integers(0, 4)), replace=True)]
    inner = [str(p) for p in rng.choice(PARTS, int(rng.integers(0, 3)), replace=True)]
    attribute = [["clipproj"], ["model", "net"], []][int(rng.choice(3, p=[0.15, 0.1, 0.75]))]
    renamed = {}
    for name, value in weights.items():
        head, _, last = name.rpartition(".")
        middle = [head, *inner] if head else inner
        renamed[".".join([*front, *attribute, *middle, last])] = value
    return renamed


def records(rng: np.random.Generator, foreign: Callable[[], Any] | None) -> dict[str, Any]:
    """What trainers keep beside weights."""
    all_of_them: dict[str, Any] = {
        "epoch": int(rng.integers(99)),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(6, 4)}}, "param_groups": [{"lr": 1e-3}]},
        "lr_schedulers": [{"last_epoch": 3}],
        "rng_state": torch.zeros(16, dtype=torch.uint8),
        "best": torch.tensor(0.25),
        "ds_version": "0.15",
        "config": OrderedDict(name="run", sizes=[1, 2]),
    }
    if foreign is not None:
        all_of_them |= {
            "args": argparse.Namespace(lr=0.1, device="cuda"),
            "hyper_parameters": foreign(),
            "callbacks": {type(foreign()): {"best": foreign()}},
            "numbers": np.float64(0.5),
            "array": np.arange(3),
        }
    names = [name for name in all_of_them if rng.random() < 0.4]
    return {name: all_of_them[name] for name in names}


def whole_module(weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    """The network itself, as ``torch.save(model)`` keeps it."""
    if "proj" in weights:
        module = torch.nn.Module()
        module.register_parameter("proj", torch.nn.Parameter(weights["proj"]))
        return module
    module = torch.nn.Module()
    for layer in ("linear1", "linear2"):
        matrix = weights[f"{layer}.weight"]
        linear = torch.nn.Linear(*matrix.shape[::-1])
        linear.weight = torch.nn.Parameter(matrix)
        linear.bias = torch.nn.Parameter(weights[f"{layer}.bias"])
        setattr(module, layer, linear)
    return module


def wrapped(rng: np.random.Generator, folder: Path, number: int) -> Case:
    """Write one checkpoint that can be read."""
    weights = network(rng)
    content: Any = prefixed(weights, rng)
    name, averaged = "plain", False
    path = folder / f"{number:04d}{ENDINGS[int(rng.integers(len(ENDINGS)))]}"
    if rng.random() < 0.12:
        save_file({k: v.contiguous() for k, v in content.items()}, path)
        return Case("safetensors", path, weights)
    with foreign_classes() as foreign:
        depth = int(rng.integers(0, 4))
        beside = foreign if rng.random() < 0.4 else None
        if rng.random() < 0.08:
            content, depth, name = whole_module(weights), max(depth, 1), "whole module"
        elif rng.random() < 0.3:
            raw = {key: value + 1 for key, value in content.items()}
            average = str(rng.choice(AVERAGES))
            inner = {str(rng.choice(ENTRIES)): content} if rng.random() < 0.3 else content
            content = {str(rng.choice(ENTRIES)): raw, average: inner}
            name, averaged, depth = "averaged", True, min(depth, 1)
        for _ in range(depth):
            content = {str(rng.choice(ENTRIES)): content}
            name = "nested" if name == "plain" else name
        if depth or averaged:
            content = {**records(rng, beside), **content}
            name += " with records" if beside else ""
        options: dict[str, Any] = [
            {},
            {"_use_new_zipfile_serialization": False},
            {"pickle_protocol": 4},
        ][int(rng.choice(3, p=[0.6, 0.25, 0.15]))]
        torch.save(content, path, **options)
    return Case(name, path, weights, averaged)


def refused(rng: np.random.Generator, folder: Path, number: int) -> Case:
    """Write one file that holds no weights, or none that can be told apart."""
    weights = network(rng)
    path = folder / f"{number:04d}{ENDINGS[int(rng.integers(len(ENDINGS)))]}"
    saved = io.BytesIO()
    torch.save(weights, saved)
    mark = "\ufeff" if rng.random() < 0.3 else ""
    lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 8910000000\n"
    texts = {
        "LFS pointer": (lfs, ("Git LFS", "8910000000")),
        "annex pointer": ("/annex/objects/MD5E-s12--ab.pth\n", ("git-annex", "annex get")),
        "annex link text": ("../.git/annex/objects/aa/bb/x.pth", ("git-annex",)),
        "web page": (f"{mark}<!DOCTYPE html><title>Sign in</title>", ("web page", "Sign in")),
        "page": (f"\n  <html><body>{'x' * 5000}</body></html>", ("web page",)),
        "S3 error": ('<?xml version="1.0"?><Error><Message>No</Message></Error>', ("web page",)),
        "hub message": ("Entry not found", ("text", "Entry not found")),
        "JSON error": ('{"error": "Invalid credentials"}', ("text", "Invalid credentials")),
    }
    inner = {f"module.{k}": v for k, v in weights.items()}
    contents: dict[str, tuple[Any, tuple[str, ...]]] = {
        "unknown entry": ({"student": inner, "epoch": 3}, ("'student'", "'epoch'", "--entry")),
        "two networks": (
            {"model": weights, "state_dict": {k: v + 1 for k, v in weights.items()}},
            ("more than one", "'model'", "'state_dict'"),
        ),
        "optimizer only": ({"optimizer_state": {"a": torch.ones(3)}}, ("'optimizer_state'",)),
        "no tensors": ({"model": {}, "epoch": 3}, ("'epoch'",)),
        "a list": ([1, 2], ("list",)),
        "empty shards": ({"module": {k: torch.empty(0) for k in weights}}, ("zero_to_fp32",)),
        "a piece": ({"_fsdp_wrapped_module._flat_param": torch.ones(9)}, ("shard",)),
        "one name twice": (
            {**weights, **{k: v + 1 for k, v in inner.items()}},
            ("twice",),
        ),
    }
    kind = str(rng.choice([*texts, *contents, "gzip", "tar", "zip", "cut", "empty"]))
    if kind in texts:
        path.write_text(texts[kind][0], encoding="utf-8")
        return Case(kind, path, refusal=texts[kind][1])
    if kind in contents:
        torch.save(contents[kind][0], path)
        return Case(kind, path, refusal=contents[kind][1])
    words: tuple[str, ...] = ("fetch it again",)
    if kind == "gzip":
        path.write_bytes(gzip.compress(saved.getvalue()))
        words = ("gzip", "unpack")
    elif kind == "tar":
        with tarfile.open(path, "w") as archive:
            archive.addfile(tarfile.TarInfo("weights.pth"))
        words = ("tar archive",)
    elif kind == "zip":
        import zipfile

        with zipfile.ZipFile(path, "w") as archive_:
            archive_.writestr("models/weights.pth", b"x")
        words = ("models/weights.pth", "unpack")
    elif kind == "cut":
        path.write_bytes(saved.getvalue()[: int(len(saved.getvalue()) * rng.uniform(0.1, 0.9))])
    else:
        path.write_bytes(b"")
    return Case(kind, path, refusal=words)


def cases(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Yield files in turn, a quarter of them such as must be refused."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        make = refused if rng.random() < 0.25 else wrapped
        yield make(rng, folder, number)


def read(path: Path) -> dict[str, torch.Tensor]:
    """Convert a file as ``models convert`` does, and return the weights under the first names."""
    from neuroclips_cli.backbones.conversion.files import read_weights
    from neuroclips_cli.backbones.conversion.kinds import convert

    found = convert(read_weights(path), "", {}, str(path))[""].weights
    return {"proj" if name == "weight" else name: value for name, value in found.items()}


def wrong(case: Case) -> str:
    """Say what is wrong with how a file is read; empty if nothing is."""
    from neuroclips_cli.errors import UserError

    try:
        found = read(case.path)
    except UserError as problem:
        said = str(problem)
        if case.weights is not None:
            return f"refused: {said}"
        missing = [word for word in case.refusal if word not in said]
        return f"its refusal lacks {missing}: {said}" if missing or "\n" in said else ""
    except Exception as problem:  # any other exception is a find
        return f"{type(problem).__name__}: {problem}"
    if case.weights is None:
        return "silently read"
    same = found.keys() == case.weights.keys() and all(
        found[k].dtype == v.dtype and torch.equal(found[k], v) for k, v in case.weights.items()
    )
    return "" if same else "silently wrong"


def main() -> None:
    """Count and list what is read wrong."""
    import tempfile

    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    finds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(chosen.count, chosen.seed, Path(folder)):
            found = wrong(case)
            if found:
                finds[case.name] += 1
                print(f"{case.name}: {found[:200]}")
    print(f"{chosen.count} files, {sum(finds.values())} wrong: {dict(finds)}")


if __name__ == "__main__":
    main()
