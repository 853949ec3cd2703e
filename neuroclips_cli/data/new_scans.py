"""Scans that a trained run has not seen: on which voxels they have to lie, and opening them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.brain_maps import Geometry, read_geometry
from neuroclips_cli.data.input_checks import open_parcel_means
from neuroclips_cli.data.region_files import read_region_file, region_paths
from neuroclips_cli.data.run_table import RunRow
from neuroclips_cli.data.runs import Run, VolumeMask, is_volumetric, open_row
from neuroclips_cli.data.structures import CORTEX_ALONE, MissingStructure, without_prefix
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.npy import read_array
from neuroclips_cli.settings.schema import DataSettings
from neuroclips_cli.signal.clip_times import response_positions
from neuroclips_cli.signal.training_statistics import TrainingStatistics

MOST_LOST = 0.1
"""Share of the selected voxels that may be without a signal in a new run; they count as 0 then."""


@dataclass(frozen=True)
class FilmTiming:
    """When the film ran, in a new run.

    Attributes
    ----------
    start_s : float
        When it began, in s after the scan did.
    duration_s : float or None
        How long it lasted; None: until the run is over.
    tr_s : float or None
        Time between volumes that the user stated, in s.
    """

    start_s: float = 0.0
    duration_s: float | None = None
    tr_s: float | None = None

    def positions(
        self, clips: int, data: DataSettings, tr_s: float, first_s: float, *, after: int = 0
    ) -> NDArray[np.float64]:
        """Return where in the run the responses to the film's clips lie.

        Parameters
        ----------
        clips : int
            Number of clips.
        data : DataSettings
            Clip length, delay and window.
        tr_s, first_s : float
            Time between volumes, and when the first is measured after the scan began, in s.
        after : int
            Clips of the film before the first of these.

        Returns
        -------
        numpy.ndarray
            As of :func:`neuroclips_cli.signal.clip_times.response_positions`.
        """
        return response_positions(
            clips,
            start_s=self.start_s + after * data.clip_s - first_s,
            clip_s=data.clip_s,
            delay_s=data.delay_s,
            tr_s=tr_s,
            window=data.window,
        )


WHOLE_RUN = FilmTiming()


@dataclass(frozen=True)
class TrainedVoxels:
    """The voxels that a run was trained on.

    Attributes
    ----------
    columns : numpy.ndarray
        int64 (voxels,), where the voxels of the training runs lie in their files.
    selected : numpy.ndarray
        bool (voxels,), which of them are decoded from.
    geometry : Geometry or None
        Where they lie in the brain; None for scans released without it.
    """

    columns: NDArray[np.int64]
    selected: NDArray[np.bool_]
    geometry: Geometry | None

    @property
    def count(self) -> int:
        """Number of selected voxels."""
        return int(self.selected.sum())

    @property
    def structures(self) -> tuple[str, ...]:
        """The structures of CIFTI runs, as the files call them; empty where none are known."""
        models: Any = self.geometry.models if self.geometry else None
        return () if models is None else tuple(dict.fromkeys(models.name.tolist()))

    @property
    def grid(self) -> VolumeMask | None:
        """The voxels of volumetric runs; None for runs on the surface, or of unknown geometry."""
        geometry = self.geometry
        if geometry is None or geometry.mask is None or geometry.affine is None:
            return None
        return VolumeMask(geometry.mask, geometry.affine)


def read_trained_voxels(preprocess: Path) -> TrainedVoxels:
    """Read them from a finished ``preprocess`` stage.

    Parameters
    ----------
    preprocess : pathlib.Path
        Its folder.

    Returns
    -------
    TrainedVoxels
    """
    with np.load(preprocess / "selection.npz", allow_pickle=False) as file:
        columns, selected = file["columns"], file["selected"]
    found = next(iter(sorted(preprocess.glob("selection*.nii"))), None)
    geometry = None if found is None else read_geometry(found, columns)
    return TrainedVoxels(columns, selected, geometry)


def read_training_statistics(preprocess: Path, what_for: str) -> TrainingStatistics:
    """Read what ``preprocess`` noted of the training runs.

    Parameters
    ----------
    preprocess : pathlib.Path
        Its folder.
    what_for : str
        What needs it, for the message.

    Raises
    ------
    UserError
        If an older version made it, without; or the subject has no training runs.
    """
    path = preprocess / "training_statistics.npz"
    if not path.is_file():
        raise UserError(
            f"{what_for}, and {preprocess} holds no training_statistics.npz: run `neuroclips "
            "preprocess --overwrite`, or, if the subject has test runs alone, decode finished runs"
        )
    with np.load(path, allow_pickle=False) as file:
        known = {key: file[key] for key in file}
    single: dict[str, Any] = {key: known[key].item() for key in known if not known[key].ndim}
    return TrainingStatistics(**{**known, **single})


def open_new_run(row: RunRow, voxels: TrainedVoxels, data: DataSettings) -> Run:
    """Open a run and make sure that its voxels are the trained ones.

    Parameters
    ----------
    row : RunRow
        A run of the kind of the training runs: CIFTI, a pair of GIFTI hemispheres, volumes, or
        parcels.
    voxels : TrainedVoxels
        What it has to hold.
    data : DataSettings
        Of the training runs: their atlas, where parcels stood for voxels.

    Returns
    -------
    Run

    Raises
    ------
    UserError
        If it cannot be read, lies on another mesh or grid, or lacks a structure.
    """
    if voxels.geometry is None:
        raise UserError(
            f"{row.run_name} cannot be decoded: the run was trained on the authors' tensors, which "
            "do not say where in the brain their voxels lie; give a .npy of scans preprocessed as "
            "theirs"
        )
    if data.parcels:
        regions = read_region_file(region_paths(data.mask)) if data.mask else None
        means = open_parcel_means(row, regions, data)
        if not has_trained_voxels(means, voxels):
            raise UserError(
                f"the atlas {data.parcels} has other parcels than that of the training runs: name "
                "the same with --set data.parcels="
            )
        return means
    grid = voxels.grid
    if is_volumetric(row) != (grid is not None):
        theirs, ours = ("surface or parcels", "volumes") if grid else ("volumes", "another kind")
        raise UserError(
            f"{row.run_name} holds {theirs}, and the training runs were {ours}: give the copy of "
            "the run that is of their kind"
        )
    cifti = row.files[0].name.lower().endswith(".dtseries.nii")
    try:
        run = open_row(row, grid, structures=voxels.structures if cifti else CORTEX_ALONE)
    except MissingStructure as error:
        raise UserError(
            f"{row.run_name} is of another geometry than the training runs, which were read in "
            f"{', '.join(map(without_prefix, voxels.structures))}: give a run of all of these"
        ) from error
    if grid is None and not has_trained_voxels(run, voxels):
        raise UserError(
            f"{row.run_name} holds {len(run.columns)} voxels of another geometry than the "
            f"{len(voxels.columns)} of the training runs: bring it to their space first"
        )
    return run


def has_trained_voxels(run: Run, voxels: TrainedVoxels) -> bool:
    """Tell whether a run has the trained vertices and voxels in the same columns."""
    theirs: Any = getattr(run, "models", None)
    ours: Any = voxels.geometry.models if voxels.geometry else None
    return (
        theirs is not None and np.array_equal(run.columns, voxels.columns) and bool(theirs == ours)
    )


def read_standardized(path: Path, voxels: int, window: int = 1) -> NDArray[np.float32]:
    """Read scans that are preprocessed already.

    Parameters
    ----------
    path : pathlib.Path
        ``.npy`` of numbers, (clips, voxels) or (clips, repetitions, voxels), standardized; with
        several volumes per clip the window stands before the voxels.
    voxels : int
        Selected voxels of the run.
    window : int
        Volumes per clip.

    Returns
    -------
    numpy.ndarray
        float32 (clips, repetitions, voxels), or (clips, repetitions, window, voxels).

    Raises
    ------
    UserError
        If the file is something else, or a value is not finite.
    """
    array = read_array(path)
    one = (window, voxels) if window > 1 else (voxels,)
    shape, depth = array.shape, len(one)
    fits = len(shape) in (depth + 1, depth + 2) and shape[-depth:] == one and 0 not in shape
    if array.dtype.kind not in "uif" or not fits:
        inner = ", ".join(map(str, one))
        raise UserError(
            f"{path} holds {array.dtype} {shape}: this run decodes numbers (clips, {inner}) or "
            f"(clips, repetitions, {inner}), standardized responses of its selected voxels"
        )
    scans = np.asarray(array, np.float32).reshape(shape[0], -1, *one)
    if not np.isfinite(scans).all():
        clip = int(np.argwhere(~np.isfinite(scans))[0][0])
        raise UserError(f"{path} holds NaN or infinity in clip {clip}: leave it out, or repair it")
    return scans
