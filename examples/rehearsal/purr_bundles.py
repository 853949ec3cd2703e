"""The four archives of PURR as they unpack: three subjects and the films, side by side.

``raw/`` and ``mni/`` hold volumes beside the surface runs in ``cifti/``; one file of the real data
set is named otherwise than its neighbors, ``test1_9.mni.nii.gz``.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pictures
from miniature import SUBJECTS

BUNDLES = {1: "10_4231_R7X63K3M", 2: "10_4231_R7NS0S1F", 3: "10_4231_R7J101BV"}
STIMULI = "10_4231_R71Z42KK"
FILMS = {"seg": 18, "test": 5}
REPETITIONS = {"seg": 2, "test": 10}
CLIPS, CLIP_S, TRAILING = 4, 2, 4
"""Clips of a film, their duration, and volumes recorded after it; 240 clips in the real films."""
VERTICES, SURFACE = 60, 32492
"""Vertices of a hemisphere that the runs hold, and those of its mesh."""
SUBCORTEX = 10
FPS, SIZE = 30, 64


def save_bundles(root: Path) -> None:
    """Write all archives' contents below ``root``."""
    films = [(split, n + 1) for split, count in FILMS.items() for n in range(count)]
    stimuli = root / STIMULI / "video_fmri_dataset" / "stimuli"
    stimuli.mkdir(parents=True)
    for number, (split, n) in enumerate(films):
        _save_film(stimuli / f"{split}{n}.mp4", number)
    for subject in SUBJECTS:
        # The first was unpacked on Windows, with one more folder of the archive's name.
        inside = (BUNDLES[1], "bundle") if subject == 1 else ()
        parts = (BUNDLES[subject], *inside, "video_fmri_dataset", f"subject{subject}", "fmri")
        brain = _Brain(subject)
        for number, (split, n) in enumerate(films):
            for repetition in range(1, REPETITIONS[split] + 1):
                brain.save_run(root.joinpath(*parts), f"{split}{n}", number, repetition)


def _save_film(path: Path, number: int) -> None:
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(FPS))
        stream.height = stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for clip in range(CLIPS):
            for pixels in pictures.frames(number, clip, CLIP_S * FPS, SIZE):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        out.mux(stream.encode(None))


class _Brain:
    """One subject: which grayordinate answers to what."""

    def __init__(self, subject: int) -> None:
        from nibabel.cifti2 import BrainModelAxis

        self.rng = np.random.default_rng(subject)
        count = 2 * VERTICES + SUBCORTEX
        features = len(pictures.features(0, 0))
        self.weights = self.rng.normal(size=(features, count))
        self.weights[:, VERTICES // 2 : VERTICES] = 0  # vertices that answer to nothing
        self.baseline = self.rng.uniform(8000, 12000, count)
        vertices = np.arange(VERTICES) * (SURFACE // VERTICES)
        left, right = (
            BrainModelAxis.from_surface(vertices, SURFACE, name=f"Cortex{side}")
            for side in ("Left", "Right")
        )
        grid = np.zeros((91, 109, 91), bool)
        grid[45, 54, 40 : 40 + SUBCORTEX] = True
        affine = np.diag([-2.0, 2.0, 2.0, 1.0])
        below = BrainModelAxis.from_mask(grid, name="BrainStem", affine=affine)
        self.models = left + right + below

    def save_run(self, folder: Path, name: str, film: int, repetition: int) -> None:
        """Write one run in all three spaces."""
        import nibabel as nib
        from nibabel.cifti2 import SeriesAxis

        leading = 1 if name.startswith("seg") or name == "test1" else 2
        series = self._series(film, leading)
        places = {space: folder / name / space for space in ("raw", "mni", "cifti")}
        for place in places.values():
            place.mkdir(parents=True, exist_ok=True)
        axis = SeriesAxis(0, float(CLIP_S), len(series))
        image = nib.Cifti2Image(series, (axis, self.models))
        image.to_filename(places["cifti"] / f"{name}_{repetition}_Atlas.dtseries.nii")
        stray = name == "test1" and repetition == 9
        names = {"raw": f"{name}_{repetition}.nii.gz"}
        names["mni"] = f"{name}_{repetition}{'.' if stray else '_'}mni.nii.gz"
        volume = series[:, :64].T.reshape(4, 4, 4, -1)
        for space, file in names.items():
            image = nib.Nifti1Image(volume, np.diag([3.0, 3.0, 3.0, 1.0]))
            image.header.set_zooms((3, 3, 3, CLIP_S))
            image.header.set_xyzt_units("mm", "sec")
            image.to_filename(places[space] / file)

    def _series(self, film: int, leading: int) -> np.ndarray:
        """Make float32 (volumes, grayordinates): answers come two volumes late."""
        volumes = leading + CLIPS + TRAILING
        noise = self.rng.normal(size=(volumes, len(self.baseline)))
        series = self.baseline + 20 * noise
        shown = np.stack([pictures.features(film, clip) for clip in range(CLIPS)])
        start = leading + 2
        series[start : start + CLIPS] += 60 * shown @ self.weights
        return series.astype(np.float32)
