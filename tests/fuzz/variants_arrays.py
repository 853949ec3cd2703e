"""Whole arrays (kind 4): released frames and scans, and `.npy` clips, of any type and range.

What is right is the uint8 frames, or the scans, that an array was made from.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from variants import Refusal, Variant

FILMS, LENGTH, REPETITIONS = {"train": 18, "test": 5}, 2, {"train": 2, "test": 10}
VOXELS, SIZE, FRAMES = 7, 8, 6
Array = NDArray[Any]


def _pictures(clips: int, dark: int = 0, seed: int = 0) -> Array:
    """Return uint8 frames; the first ``dark`` clips are nearly black."""
    draw = np.random.default_rng(seed)
    frames = draw.integers(0, 256, (clips, FRAMES, SIZE, SIZE, 3)).astype(np.uint8)
    frames[:dark] = frames[:dark] % 2
    frames[dark, 0, 0, 0] = 0
    frames[dark, 0, 0, 1] = 255
    return frames


RANGES: dict[str, tuple[Callable[[Array], Array], tuple[str, ...]]] = {
    "0..255": (
        lambda x: x,
        ("uint8", "int16", "int32", "int64", "float16", "float32", "float64", ">f4", ">i2"),
    ),
    "0..1": (lambda x: x / 255, ("float16", "float32", "float64", ">f4")),
    "-1..1": (lambda x: x / 127.5 - 1, ("float32", "float64")),
    "0..1, resized beyond": (
        lambda x: np.where(x == 255, 1.06, np.where(x == 0, -0.06, x / 255)),
        ("float32", "float64"),
    ),
    "-1..1, resized beyond": (
        lambda x: np.where(x == 255, 1.1, np.where(x == 0, -1.1, x / 127.5 - 1)),
        ("float32",),
    ),
    "0..255, resized beyond": (
        lambda x: np.where(x == 255, 263.0, np.where(x == 0, -9.0, x)),
        ("float32",),
    ),
}
"""How frames are stored, and in which types."""


def _near(found: Array, expected: Array) -> bool:
    """Half precision rounds by less than a step; everything else is exact."""
    apart = np.abs(found.astype(int) - expected.astype(int)).max()
    return found.dtype == np.uint8 and found.shape == expected.shape and int(apart) <= 0


def _npy(frames: Array, folder: Path) -> Path:
    np.save(folder / "clips.npy", frames)
    return folder / "clips.npy"


def _read_npy(path: Path) -> Array:
    from neuroclips_cli.data.clips import list_clips, open_clips

    names = list_clips(path, "--pred")
    opened = open_clips(path, names, "--pred", clip_s=2.0, target_fps=3.0, size=SIZE)
    # Earlier checkouts hand out all frames of the clips and take no number of them.
    frames = (FRAMES,) if "frames" in inspect.signature(opened.read).parameters else ()
    return opened.read(np.arange(len(names)), *frames)


def _stored(shape: Callable[[Array], Array], kind: str, dark: int) -> tuple[Array, Array]:
    frames = _pictures(24, dark)
    return frames, shape(frames.astype(np.float64)).astype(kind)


def _clips() -> Iterator[Variant]:
    for (name, (shape, kinds)), dark in itertools.product(RANGES.items(), (0, 1, 9, 20, 23)):
        for kind in kinds:
            frames, stored = _stored(shape, kind, dark)
            label = f"npy {name} as {kind}, {dark} dark clips first"
            make = partial(_npy, stored)
            yield Variant(label, make, _read_npy, frames, same=_near)
    for value, clip, kind in itertools.product(
        (np.nan, np.inf, -np.inf), (0, 11, 23), ("float16", "float32", "float64")
    ):
        stored = (_pictures(24) / 255).astype(kind)
        stored[clip, 3, 2, 2, 1] = value
        refusal = Refusal(("clips.npy", f"frame 3 of clip {clip}"))
        label = f"npy {value} in clip {clip}, {kind}"
        yield Variant(label, partial(_npy, stored), _read_npy, refusal)
    for name, stored in {
        "standardized": np.random.default_rng(0).normal(size=(4, 6, SIZE, SIZE, 3)),
        "0..4095": np.random.default_rng(0).integers(0, 4096, (4, 6, SIZE, SIZE, 3)),
        "wrapped bytes": _pictures(4).astype(np.int8),
        "0 and 1 as bytes": _pictures(4) % 2,
    }.items():
        refusal = Refusal(("clips.npy", "values from"))
        yield Variant(f"npy {name}", partial(_npy, stored), _read_npy, refusal)


def _scans(split: str) -> Array:
    draw = np.random.default_rng(len(split))
    clips = FILMS[split] * LENGTH
    signal = draw.normal(size=(clips, 1, VOXELS))
    noise = draw.normal(size=(clips, REPETITIONS[split], VOXELS))
    return (signal + 0.2 * noise).astype(np.float32)


def _release(folder: Path, change: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """Write the authors' tensors in small, changed."""
    tensors: dict[str, Any] = {}
    for split, films in FILMS.items():
        frames = _pictures(films * LENGTH, seed=films)
        tensors[f"GT_{split}_3fps"] = torch.from_numpy(frames.transpose(0, 1, 4, 2, 3).copy())
        tensors[f"subj01_{split}_fmri"] = torch.from_numpy(_scans(split))
    if change:
        change(tensors)
    for name, tensor in tensors.items():
        torch.save(tensor, folder / f"{name}.pt")
    return folder


def _read_release(folder: Path) -> dict[str, Array]:
    from neuroclips_cli import console
    from neuroclips_cli.settings.load import load_settings
    from neuroclips_cli.stages import preprocess_released

    console.configure(quiet=True)
    flags = {"run.profile": "tiny", "run.workdir": str(folder / "runs"), "data.frame_size": SIZE}
    with mock.patch("os.fsync"):  # a power cut in the middle of a test would lose nothing
        done = preprocess_released.run(load_settings(flags, folder=folder, environ={}), folder)
    names = ("fmri_train", "fmri_test", "frames_train", "frames_test")
    return {name: np.load(done / f"{name}.npy") for name in names}


def _expected(lost: int | None = None) -> dict[str, Array]:
    """Return what the release holds, without one voxel."""
    keep = [voxel for voxel in range(VOXELS) if voxel != lost]
    return {
        "fmri_train": _scans("train")[..., keep],
        "fmri_test": _scans("test")[..., keep].mean(axis=1),
        "frames_train": _pictures(FILMS["train"] * LENGTH, seed=FILMS["train"]),
        "frames_test": _pictures(FILMS["test"] * LENGTH, seed=FILMS["test"]),
    }


def _tensors() -> Iterator[Variant]:
    kinds = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
    kinds |= {"uint8": torch.uint8, "int16": torch.int16, "int32": torch.int32}
    for (name, (shape, types)), last in itertools.product(RANGES.items(), (False, True)):
        for kind in (kind for kind in types if kind in kinds):

            def change(tensors: dict[str, Any], shape=shape, kind=kind, last=last) -> None:
                for split in FILMS:
                    frames = tensors[f"GT_{split}_3fps"].numpy().astype(np.float64)
                    stored = torch.from_numpy(shape(frames)).to(kinds[kind])
                    stored = stored.permute(0, 1, 3, 4, 2).contiguous() if last else stored
                    tensors[f"GT_{split}_3fps"] = stored

            label = f"released frames {name} as {kind}, channels {'last' if last else 'first'}"
            make = partial(_release, change=change)
            yield Variant(label, make, _read_release, _expected())
    for split, value, clip, voxel in itertools.product(
        ("train",), (np.nan, np.inf), (0, 3, 35), (0, 5, 6)
    ):

        def hole(tensors: dict[str, Any], value=value, clip=clip, voxel=voxel) -> None:
            tensors["subj01_train_fmri"][clip, 1, voxel] = value

        label = f"released scans {split}: {value} in clip {clip}, voxel {voxel}"
        yield Variant(label, partial(_release, change=hole), _read_release, _expected(voxel))
    for value, clip, repetition in itertools.product((np.nan, -np.inf), (0, 9), (0, 4, 9)):

        def test_hole(
            tensors: dict[str, Any], value=value, clip=clip, repetition=repetition
        ) -> None:
            tensors["subj01_test_fmri"][clip, repetition, 2] = value

        answer = _expected()
        scans = _scans("test")
        film = clip // LENGTH * LENGTH
        there = [r for r in range(10) if r != repetition]
        answer["fmri_test"][film : film + LENGTH, 2] = scans[film : film + LENGTH, there, 2].mean(
            axis=1
        )
        label = f"released test scans: {value} in clip {clip}, repetition {repetition}"
        yield Variant(label, partial(_release, change=test_hole), _read_release, answer)
    for split, clip in itertools.product(FILMS, (0, 9)):

        def bad_frame(tensors: dict[str, Any], split=split, clip=clip) -> None:
            frames = tensors[f"GT_{split}_3fps"].float() / 255
            frames[clip, 2, 0, 0, 0] = np.nan
            tensors[f"GT_{split}_3fps"] = frames

        refusal = Refusal((f"GT_{split}_3fps.pt", f"frame 2 of clip {clip}"))
        label = f"released frames of {split} with NaN in clip {clip}"
        yield Variant(label, partial(_release, change=bad_frame), _read_release, refusal)

    def swapped(tensors: dict[str, Any]) -> None:
        raw = tensors["subj01_train_fmri"].numpy()
        tensors["subj01_train_fmri"] = torch.from_numpy(raw.byteswap())

    refusal = Refusal(("subj01_train_fmri.pt",))
    make = partial(_release, change=swapped)
    yield Variant("released scans of swapped bytes", make, _read_release, refusal)


def _pickled() -> Iterator[Variant]:
    """Captions as the authors pickled them: numpy arrays of text, by old and new numpy."""
    texts = [f"a bee number {n} on a flöwer" for n in range(36)]
    stored: dict[str, Any] = {
        "an array of text": np.hstack([np.array([text]) for text in texts]),
        "an array of objects": np.array(texts, object),
        "a list": texts,
        "a list of numpy's text": [np.str_(text) for text in texts],
        "a column": np.array(texts)[:, None],
    }
    for (name, content), old in itertools.product(stored.items(), (False, True)):

        def make(folder: Path, content=content, old=old) -> Path:
            path = folder / "GT_train_caption.pt"
            torch.save(content, path)
            if old:  # numpy 1 called its module otherwise
                _rename(path)
            return folder

        def read(folder: Path) -> Any:
            import importlib

            released = importlib.import_module("neuroclips_cli.data.released_captions")
            path = released.caption_file(folder, "train")
            return released.read_caption_list(path, 36)

        label = f"captions as {name}, {'old' if old else 'new'} numpy"
        yield Variant(label, make, read, texts)

    def evil(folder: Path) -> Path:
        torch.save(np.array([_Call()], object), folder / "GT_train_caption.pt")
        return folder

    yield Variant("captions that would run something", evil, read, Refusal(("nothing in it was",)))


class _Call:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this must not be printed",))


def _rename(path: Path) -> None:
    """Give a pickle the module's name of numpy 1: rewrite the archive's pickle."""
    import zipfile

    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            for size in (
                lambda n: bytes([0x8C, n]),
                lambda n: bytes([0x58]) + n.to_bytes(4, "little"),
            ):
                content = content.replace(size(len(new)) + new, size(len(old)) + old)
            archive.writestr(name, content.replace(b"c" + new + b"\n", b"c" + old + b"\n"))


def variants(root: Path) -> list[Variant]:
    """Return all variants; they share nothing."""
    return [*_clips(), *_tensors(), *_pickled()]
