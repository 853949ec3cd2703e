"""Write data sets as fMRIPrep leaves them, with nothing but nibabel, numpy and json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.cifti2 import BrainModelAxis, Cifti2Image, SeriesAxis
from numpy.typing import NDArray

from neuroclips_cli.data.readers.fmriprep import Fmriprep
from neuroclips_cli.data.readers.options import ReaderOptions
from neuroclips_cli.data.run_table import RunRow
from neuroclips_cli.io.folders import walk

CIFTI, GIFTI, NIFTI = "bold.dtseries.nii", "bold.func.gii", "desc-preproc_bold.nii.gz"
ANNEX = "../../../.git/annex/objects/Xx/Yy/MD5E-s99--0/MD5E-s99--0"


class BidsTree:
    """A derivative ``fmriprep/`` inside its raw data set."""

    def __init__(self, folder: Path) -> None:
        self.raw = folder
        self.root = folder / "derivatives" / "fmriprep"
        self.root.mkdir(parents=True)
        self.sidecar(folder / "dataset_description.json", Name="made by hand", BIDSVersion="1.9.0")

    def func(self, stem: str, *, raw: bool = False) -> Path:
        """Return the folder of a run whose entities begin with ``sub-`` and perhaps ``ses-``."""
        parts = [part for part in stem.split("_") if part.startswith(("sub-", "ses-"))]
        folder = (self.raw if raw else self.root).joinpath(*parts, "func")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def empty(self, *names: str) -> list[Path]:
        """Make empty files in the derivative: the reader goes by names."""
        paths = [self.func(name) / name for name in names]
        for path in paths:
            path.write_text("{}" if path.suffix == ".json" else "", "utf-8")
        return paths

    def absent(self, *names: str) -> list[Path]:
        """Make links of git-annex whose content was not fetched."""
        paths = [self.func(name) / name for name in names]
        for path in paths:
            path.symlink_to(ANNEX)
        return paths

    def sidecar(self, path: Path, **values: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), "utf-8")
        return path

    def events(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write ``events.tsv`` in the raw tree; at its top, where the name has no subject."""
        folder = self.func(name, raw=True) if name.startswith("sub-") else self.raw
        lines = [list(rows[0]), *(row.values() for row in rows)]
        path = folder / name
        path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines), "utf-8")
        return path

    def films(self, *names: str) -> None:
        for name in names:
            path = self.raw / "stimuli" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())

    def table(self, subject: str = "1", **options: Any) -> list[RunRow]:
        """Return the reader's run table."""
        return self.told(subject, **options)[0]

    def told(self, subject: str = "1", **options: Any) -> tuple[list[RunRow], str]:
        """Return the reader's run table, and everything that it said."""
        said: list[str] = []
        dataset = options.pop("dataset", self.root)
        rows = Fmriprep().run_table(
            walk(dataset), subject, ReaderOptions(say=said.append, **options)
        )
        return rows, "\n".join(said)


def write_cifti(
    path: Path,
    series: NDArray[Any],
    step_s: float,
    medial: int = 0,
    models: BrainModelAxis | None = None,
) -> Path:
    """Write (volumes, 2 n) as n vertices of either hemisphere; ``medial`` more are in no column."""
    count = series.shape[1] // 2
    left, right = (
        BrainModelAxis.from_surface(np.arange(count) + medial, count + medial, name=name)
        for name in ("CortexLeft", "CortexRight")
    )
    axes = (SeriesAxis(0, step_s, len(series)), left + right if models is None else models)
    path.parent.mkdir(parents=True, exist_ok=True)
    Cifti2Image(np.asarray(series, np.float32), header=axes).to_filename(path)
    return path


def write_hemisphere(
    path: Path, series: NDArray[Any], *, structure: str = "", single: bool = False
) -> Path:
    """Write (volumes, vertices) with one array per volume, or one of two dimensions."""
    data = np.asarray(series, np.float32)
    arrays = [np.ascontiguousarray(data.T)] if single else list(data)
    meta = {"AnatomicalStructurePrimary": structure} if structure else {}
    image = nib.GiftiImage(
        meta=nib.gifti.GiftiMetaData(meta),
        darrays=[
            nib.gifti.GiftiDataArray(
                array, intent="NIFTI_INTENT_TIME_SERIES", datatype="NIFTI_TYPE_FLOAT32"
            )
            for array in arrays
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def write_volumes(path: Path, series: NDArray[Any], mask: NDArray[np.bool_], step_s: float) -> Path:
    """Write (volumes, voxels) inside a mask as a 4-D file on a grid of 2 mm."""
    data = np.zeros((*mask.shape, len(series)), np.float32)
    data[mask] = np.asarray(series).T
    image = nib.Nifti1Image(data, np.diag([2.0, 2.0, 2.0, 1.0]))
    image.header.set_zooms((2.0, 2.0, 2.0, step_s))
    image.header.set_xyzt_units("mm", "sec")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def film_rows(*shown: tuple[float, float, str]) -> list[dict[str, Any]]:
    """Return rows of events from (onset, duration, film)."""
    return [{"onset": o, "duration": d, "stim_file": film} for o, d, film in shown]


def stretches(rows: Iterable[RunRow]) -> list[tuple[str, str, int, float, float | None]]:
    """Return film, split, repetition, and when it was shown for how long."""
    return [
        (row.film.name, row.split, row.repetition, row.scan_start_s or 0.0, row.duration_s)
        for row in rows
    ]
