"""A subject of a few voxels in every format, and what numpy makes of its runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

CLIPS, LEADING, TRAILING, DELAY = 8, 1, 4, 2
VOLUMES = CLIPS + LEADING + TRAILING
RUNS = {"seg1": 2, "seg2": 2, "seg3": 2, "seg4": 2, "test1": 1}
"""Repetitions by film."""
SHAPE = (6, 5, 4)
"""Voxels of volumetric runs."""
MESH, PRESENT = 80, 60
"""Vertices of a hemisphere's mesh, and those that are grayordinates."""
ORDER = 1
"""Degree of the polynomial that profile tiny removes."""


def film(path: Path) -> Path:
    """Write a film of 8 clips of 2 s at 6 pictures per second, and ``other.mp4`` beside it."""
    _write_film(path.with_name("other.mp4"), 100)
    return _write_film(path, 0)


def _write_film(path: Path, first: int) -> Path:
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=6)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(CLIPS * 12):
            picture = np.full((32, 32, 3), first + number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@cache
def series(name: str, repetition: int, voxels: int) -> NDArray[np.float32]:
    """Return a run, (volumes, voxels): a film's own signal in each repetition, and some noise."""
    seed = int.from_bytes(name.encode(), "little") % 2**32
    signal = np.random.default_rng(seed).normal(0, 100, (VOLUMES, voxels))
    noise = np.random.default_rng([seed, repetition]).normal(0, 1, (VOLUMES, voxels))
    return (10_000 + signal + noise).astype(np.float32)


def standardized(run: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the responses to the clips as numpy makes them: detrended, of unit deviation."""
    window = run[LEADING + DELAY : LEADING + DELAY + CLIPS].astype(np.float64)
    times = np.arange(CLIPS)
    fit = np.polynomial.polynomial.polyfit(times, window, ORDER)
    left = window - np.polynomial.polynomial.polyval(times, fit).T
    return np.asarray(left / left.std(axis=0, ddof=1))


@cache
def models() -> Any:
    """Return brain models: two hemispheres, and some voxels below the cortex."""
    from nibabel.cifti2 import BrainModelAxis

    vertices = np.arange(MESH)[:: MESH // PRESENT][:PRESENT]
    left, right = (
        BrainModelAxis.from_surface(vertices, MESH, f"Cortex{side}") for side in ("Left", "Right")
    )
    inside = np.zeros(SHAPE, bool)
    inside[2:4, 1:3, 1] = True
    return left + right + BrainModelAxis.from_mask(inside, "ThalamusLeft", AFFINES["RAS"])


AFFINES = {
    "RAS": np.array([[2.0, 0, 0, -5], [0, 2, 0, -6], [0, 0, 3, -7], [0, 0, 0, 1]]),
    "LAS": np.array([[-2.0, 0, 0, 5], [0, 2, 0, -6], [0, 0, 3, -7], [0, 0, 0, 1]]),
    "PSR": np.array([[0.0, 0, 3, -5], [-2, 0, 0, 6], [0, 2, 0, -7], [0, 0, 0, 1]]),
}


def oblique() -> NDArray[np.float64]:
    """Return an affine that is turned by 20 degrees about two axes."""
    a = np.deg2rad(20)
    one = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    other = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    affine = np.eye(4)
    affine[:3, :3] = one @ other @ np.diag([2.0, 2.0, 3.0])
    affine[:3, 3] = 3, -4, 5
    return affine


AFFINES["oblique"] = oblique()


@dataclass(frozen=True)
class Subject:
    """How a subject's runs are written.

    Attributes
    ----------
    affine
        Of volumes; None for CIFTI.
    step
        What the headers say of the time between volumes.
    unit
        Of the step: NIfTI's or CIFTI's word.
    change
        Changes a run's data, ``(name, repetition, data)``.
    affine_of
        Returns one run's affine, ``(name, repetition)``.
    header
        Changes a volume's header, ``(name, repetition, header)``.
    """

    affine: NDArray[np.float64] | None = None
    step: float = 2.0
    unit: str | None = None
    change: Callable[[str, int, NDArray[np.float32]], NDArray[np.float32]] | None = None
    affine_of: Callable[[str, int], NDArray[np.float64]] | None = None
    header: Callable[[str, int, Any], None] | None = None
    step_of: Mapping[tuple[str, int], float] = field(default_factory=dict)

    @property
    def voxels(self) -> int:
        """Number of voxels of the runs."""
        return len(models()) if self.affine is None else int(np.prod(SHAPE))

    def data(self, name: str, repetition: int) -> NDArray[np.float32]:
        """Return a run's data, (volumes, voxels)."""
        data = series(name, repetition, self.voxels)
        return self.change(name, repetition, data.copy()) if self.change else data

    def write(self, root: Path, shared: Path) -> Path:
        """Write all runs; films are links to a shared one, of test films to another."""
        for name, repetitions in RUNS.items():
            path = root / "stimuli" / f"{name}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(shared / ("other.mp4" if name.startswith("test") else "film.mp4"), path)
            for repetition in range(1, repetitions + 1):
                self._run(root / "subject1", name, repetition)
        return root

    def _run(self, folder: Path, name: str, repetition: int) -> None:
        import nibabel as nib

        folder.mkdir(exist_ok=True)
        data = self.data(name, repetition)
        step = self.step_of.get((name, repetition), self.step)
        if self.affine is None:
            axis = nib.cifti2.SeriesAxis(0, step, len(data), self.unit or "SECOND")
            image = nib.cifti2.Cifti2Image(data, header=(axis, models()))
            image.to_filename(folder / f"{name}_{repetition}_Atlas.dtseries.nii")
            return
        affine = self.affine_of(name, repetition) if self.affine_of else self.affine
        volume = np.ascontiguousarray(data.T.reshape(*SHAPE, -1))
        image = nib.Nifti1Image(volume, affine)
        image.header.set_xyzt_units("mm", self.unit or "sec")
        image.header["pixdim"][4] = step
        if self.header:
            self.header(name, repetition, image.header)
        image.to_filename(folder / f"{name}_{repetition}_mni.nii")


def preprocess(root: Path, **settings: object) -> Path:
    """Run ``preprocess`` on a subject; keys with two underscores for a dot."""
    from neuroclips_cli import console
    from neuroclips_cli.settings.load import load_settings
    from neuroclips_cli.stages import preprocess as stage

    console.configure(quiet=True)
    flags = {"run.profile": "tiny", "run.dataset": str(root), "run.workdir": str(root / "runs")}
    flags |= {"data.frame_size": 32, "data.selection_p": 1.0}
    flags |= {"data.window": 1, "data.detrend_order": ORDER}
    flags |= {key.replace("__", "."): value for key, value in settings.items()}
    with mock.patch("os.fsync"):  # a power cut in the middle of a test would lose nothing
        return stage.run(load_settings(flags, folder=root, environ={}))


def selected(folder: Path) -> NDArray[np.int64]:
    """Return which columns preprocess selected."""
    with np.load(folder / "selection.npz", allow_pickle=False) as selection:
        return np.asarray(selection["index"])


def training(subject: Subject, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the training responses as numpy makes them, (clips, 2, voxels)."""

    def of(repetition: int) -> Iterator[NDArray[np.float64]]:
        for name, count in RUNS.items():
            if count > 1:
                yield standardized(subject.data(name, repetition)[:, columns])

    return np.stack([np.concatenate(list(of(repetition))) for repetition in (1, 2)], axis=1)
