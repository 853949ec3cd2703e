"""Headers that lie (kind 3): times between volumes, units, and affines that differ by rounding.

What is right are the training responses that numpy makes of the runs' values.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from tiny_subject import AFFINES, RUNS, SHAPE, Subject, film, preprocess, selected, training
from variants import Refusal, Variant

TRUE = ("2 s", "2.00000061 s", "2.0004 s", "2000 msec", "2000000 usec", "2 of no unit")
SILENT = ("0 s", "nan s", "2 hz", "2 ppm")
WRONG = ("1 s", "0.72 s", "1.5 s", "2.5 s", "2000 s", "3000 msec", "0.002 s")
"""What a header says: the truth, nothing of use, or another time."""
CIFTI_UNITS = {"s": "SECOND", "hz": "HERTZ"}
NIFTI_UNITS = {"s": "sec", "of no unit": "unknown"}


def _subject(said: str, volumes: bool, **more: Any) -> Subject:
    number, _, unit = said.partition(" ")
    if volumes:
        unit = NIFTI_UNITS.get(unit, unit)
        return Subject(AFFINES["LAS"], float(number), unit, **more)
    return Subject(None, float(number), CIFTI_UNITS.get(unit, "SECOND"), **more)


def _make(subject: Subject, shared: Path, **settings: Any) -> Callable[[Path], dict]:
    def make(folder: Path) -> dict:
        root = subject.write(folder / "d", shared)
        if subject.affine is not None:
            mask = nib.Nifti1Image(np.ones(SHAPE, np.uint8), subject.affine)
            mask.to_filename(folder / "mask.nii")
            settings["data__mask"] = str(folder / "mask.nii")
        return {"root": root, "settings": settings}

    return make


def _read(given: dict) -> dict[str, Any]:
    done = preprocess(given["root"], **given["settings"])
    table = (done / "clips.csv").read_text().splitlines()
    column = table[0].split(",").index("volume")
    return {
        "columns": selected(done),
        "responses": np.load(done / "fmri_train.npy"),
        "volumes": [row.split(",")[column] for row in table[1:9]],
    }


def _right(subject: Subject) -> Callable[[dict], dict[str, Any]]:
    """Return all voxels' responses, which begin with the volume 4 s later."""

    def answer(_: dict) -> dict[str, Any]:
        cortex = subject.voxels if subject.affine is not None else 120
        columns = np.arange(cortex)
        responses = training(subject, columns).astype(np.float32)
        volumes = [str(number) for number in range(2, 10)]
        return {"columns": columns, "responses": responses, "volumes": volumes}

    return answer


def _same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Compare; responses to what single precision leaves of deviations around 10000."""
    same = np.array_equal(found["columns"], expected["columns"])
    same = same and found["volumes"] == expected["volumes"]
    return bool(
        same and np.allclose(found["responses"], expected["responses"], rtol=1e-4, atol=1e-4)
    )


def _variant(name: str, subject: Subject, shared: Path, answer: Any, **settings: Any) -> Variant:
    expected = answer if isinstance(answer, Refusal) else _right(subject)
    return Variant(name, _make(subject, shared, **settings), _read, expected, same=_same)


CONTRADICTION = Refusal(("header", "data.tr_s=2", "delay of 4 s"))


def _every_run(shared: Path) -> Iterator[Variant]:
    """All runs' headers say the same; the user states the step, or does not."""
    for said, volumes in itertools.product((*TRUE, *SILENT, *WRONG), (False, True)):
        number, _, unit = said.partition(" ")
        if not volumes and unit not in CIFTI_UNITS:
            continue
        subject = _subject(said, volumes)
        kind = "volumes" if volumes else "CIFTI"
        if unit == "hz" and not volumes:
            refusal = Refusal(("HERTZ", "seconds"))
            yield _variant(f"{kind}, {said}", subject, shared, refusal)
            continue
        answer = CONTRADICTION if said in WRONG else None
        yield _variant(f"{kind}, {said}", subject, shared, answer)
        yield _variant(f"{kind}, {said}, 2 s stated", subject, shared, None, data__tr_s=2.0)
        for tr_s in (1.0, 1.5, 2.5, 4.0):
            refusal = Refusal((f"data.tr_s = {tr_s:g} s", "data.clip_s = 2 s", "delay"))
            name = f"{kind}, {said}, {tr_s:g} s stated"
            yield _variant(name, subject, shared, refusal, data__tr_s=tr_s)


def _one_run(shared: Path) -> Iterator[Variant]:
    """One run's header differs from the others'."""
    runs = [(name, r) for name, count in RUNS.items() for r in range(1, count + 1)]
    for run, step, volumes in itertools.product(runs[::2], (1.0, 0.0, 2.0003), (False, True)):
        subject = _subject("2 s", volumes, step_of={run: step})
        name = f"{'volumes' if volumes else 'CIFTI'}, {step:g} s in {run[0]}_{run[1]} alone"
        refusal = Refusal((f"{run[0]}_{run[1]}", *CONTRADICTION.words))
        yield _variant(name, subject, shared, refusal if step == 1 else None)


def _near(size: float, row: int, column: int, run: tuple[str, int]) -> Callable[..., NDArray[Any]]:
    def affine(name: str, repetition: int) -> NDArray[Any]:
        base: NDArray[Any] = AFFINES["oblique"].copy()
        if (name, repetition) == run:
            base[row, column] += size
        return base

    return affine


def _affines(shared: Path) -> Iterator[Variant]:
    """One run's affine differs by rounding, or by more."""
    places = itertools.product(range(3), range(4))
    for (row, column), (size, near) in itertools.product(
        places, ((1e-8, True), (1e-7, True), (1e-6, True), (0.5, False))
    ):
        run = ("seg3", 2) if (row + column) % 2 else ("test1", 1)
        subject = Subject(AFFINES["oblique"], affine_of=_near(size, row, column, run))
        name = f"affine of {run[0]}_{run[1]}, row {row}, column {column}, by {size:g}"
        refusal = Refusal((f"{run[0]}_{run[1]}", "affine"))
        yield _variant(name, subject, shared, None if near else refusal)


def _forms(shared: Path) -> Iterator[Variant]:
    """Runs whose place is stated as a quaternion only, in single precision."""

    def quaternion(name: str, repetition: int, header: Any) -> None:
        if repetition == 2:
            affine = header.get_sform()
            header.set_sform(None, 0)
            header.set_qform(affine, 1)

    for name in ("RAS", "LAS", "oblique", "PSR"):
        subject = Subject(AFFINES[name], header=quaternion)
        yield _variant(f"{name}, second repetitions with a qform only", subject, shared, None)


def variants(root: Path) -> list[Variant]:
    """Return all variants; their films are links to one."""
    film(root / "film.mp4")
    parts = (_every_run, _one_run, _affines, _forms)
    return [variant for part in parts for variant in part(root)]
