"""A subject of a few vertices with any timing, written by nibabel and PyAV alone."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from unittest import mock

import numpy as np

VERTICES = 40
"""Of each hemisphere."""
VOXELS = 2 * VERTICES
RATE = 6
"""Pictures of a film per second; picture n of film f is gray of value ``10 f + n`` modulo 250."""


@cache
def _films() -> Path:
    return Path(mkdtemp(prefix="neuroclips-films-"))


def write_film(path: Path, number: int, seconds: float, rate: int = RATE) -> Path:
    """Write a film whose pictures tell their time; films of the same number are made once."""
    import av

    made = _films() / f"{number}-{seconds:g}-{rate}.mp4"
    if not made.exists():
        with av.open(str(made), "w") as container:
            stream = container.add_stream("mpeg4", rate=rate)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            stream.bit_rate = 8_000_000
            for picture in range(round(seconds * rate)):
                gray = np.full((32, 32, 3), (10 * number + picture) % 250, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(gray, format="rgb24")))
            container.mux(stream.encode(None))
    path.parent.mkdir(parents=True, exist_ok=True)
    os.link(made, path)
    return path


def film_signal(film: int, times_s: np.ndarray) -> np.ndarray:
    """Return what a film evokes at times of it, (times, voxels): sums of slow waves."""
    rng = np.random.default_rng(film)
    periods, phases = rng.uniform(8, 40, (5, VOXELS)), rng.uniform(0, 6.3, (5, VOXELS))
    waves = np.sin(2 * np.pi * times_s[:, None, None] / periods + phases)
    return np.asarray(waves.sum(axis=1))


@dataclass
class WrittenRun:
    """One run: stretches ``(film, film_start_s, scan_start_s, duration_s)`` and what it measured.

    The response to a film comes ``lag_s`` later.
    """

    name: str
    volumes: int
    tr_s: float
    stretches: list[tuple[int, float, float, float]]
    seed: int
    lag_s: float = 4.0
    header_s: float | None = None
    data: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng([7, self.seed])
        times_s = np.arange(self.volumes) * self.tr_s
        series = rng.normal(0, 0.2, (self.volumes, VOXELS))
        for film, film_start_s, scan_start_s, duration_s in self.stretches:
            moment = times_s - self.lag_s - scan_start_s
            inside = (moment >= -self.lag_s) & (moment <= duration_s)
            series[inside] += film_signal(film, film_start_s + moment[inside])
        drift = np.linspace(0, 1, self.volumes)[:, None] * rng.normal(0, 3, VOXELS)
        self.data = (1000 + 10 * (series + drift)).astype(np.float32)

    def write(self, folder: Path) -> Path:
        """Write the run as CIFTI."""
        import nibabel as nib
        from nibabel.cifti2 import BrainModelAxis, SeriesAxis

        sides = [
            BrainModelAxis.from_surface(np.arange(VERTICES), VERTICES, f"Cortex{side}")
            for side in ("Left", "Right")
        ]
        step = self.tr_s if self.header_s is None else self.header_s
        axis = SeriesAxis(0, step, self.volumes, "SECOND")
        path = folder / f"{self.name}.dtseries.nii"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.cifti2.Cifti2Image(self.data, header=(axis, sides[0] + sides[1]))
        image.to_filename(path)
        return path


HEADER = (
    *("subject", "session", "file", "film", "film_start_s", "scan_start_s", "duration_s", "tr_s"),
    *("split", "repetition", "mask", "confounds", "first_volume_s"),
)


def row(run: WrittenRun, place: int, split: str, repetition: int, **more: object) -> dict:
    """Return a row of the run table for one of a run's stretches."""
    film, film_start_s, scan_start_s, duration_s = run.stretches[place]
    given: dict[str, object] = dict.fromkeys(HEADER, "n/a")
    given |= {
        "subject": "1",
        "file": f"scans/{run.name}.dtseries.nii",
        "film": f"films/film{film}.mp4",
        "film_start_s": film_start_s,
        "scan_start_s": scan_start_s,
        "duration_s": duration_s,
        "split": split,
        "repetition": repetition,
    }
    return given | more


def write_table(folder: Path, rows: list[dict]) -> Path:
    """Write ``runs.tsv`` by hand."""
    lines = ["\t".join(HEADER)]
    lines += ["\t".join(str(line[name]) for name in HEADER) for line in rows]
    path = folder / "runs.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def preprocess(table: Path, workdir: Path, **more: object) -> Path:
    """Run ``preprocess`` on a run table; keys with two underscores for a dot."""
    from neuroclips_cli.stages import preprocess as stage

    with mock.patch("os.fsync"):  # a power cut in the middle of a test would lose nothing
        return stage.run(settings(table, workdir, **more))


def settings(table: Path, workdir: Path, **more: object):
    """Return the settings for a run table."""
    from neuroclips_cli.settings.load import load_settings

    flags: dict[str, object] = {
        "run.profile": "tiny",
        "data.window": 1,
        "run.workdir": str(workdir),
        "data.runs": str(table),
        "data.frame_size": 32,
        "data.selection_p": 1.0,
    }
    flags |= {key.replace("__", "."): value for key, value in more.items()}
    return load_settings(flags, folder=workdir, environ={})


def facts(folder: Path) -> dict:
    """Return what the manifest knows."""
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["facts"]
