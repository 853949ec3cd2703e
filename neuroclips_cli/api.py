"""The Python interface: open a run, decode scans with it, evaluate clips, read and write maps.

``import neuroclips_cli`` offers :func:`open_run`, :class:`Run` and :func:`evaluate_clips`; torch is
imported when something is decoded or evaluated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroclips_cli import console
from neuroclips_cli.backbones.captioners import require_captioner
from neuroclips_cli.data.brain_maps import read_geometry, read_maps, write_maps
from neuroclips_cli.data.new_scans import FilmTiming
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import atomic_path
from neuroclips_cli.runs import manifest
from neuroclips_cli.runs.inherit import place_of, settings_for
from neuroclips_cli.runs.pipeline import BY_NAME
from neuroclips_cli.runs.stage import (
    read_array,
    read_csv,
    read_json,
    require_stage,
    require_upstream,
    run_folder,
    stage_state,
)
from neuroclips_cli.settings.load import Settings, load_settings, replace_settings

if TYPE_CHECKING:
    from neuroclips_cli.generation.decoder import Decoded
    from neuroclips_cli.stages._follow import LiveClip, LiveVolume

__all__ = ["Run", "evaluate_clips", "open_run"]

UPSTREAM = ("reconstruct", *BY_NAME["reconstruct"].needs)
"""Stages whose settings a run is opened with; the first that has a setting decides it."""

LEFT_OUT = {"keyframe": ("keyframes", "captions"), "blurry": ("blurry",)}
"""Guidance that is left out -> parts that there are none of."""


def open_run(
    workdir: str | os.PathLike[str] = "runs",
    subject: int = 1,
    settings: Mapping[str, Any] | None = None,
) -> Run:
    """Open the results of one subject.

    Parameters
    ----------
    workdir : path
        Folder of all results.
    subject : int
        Number of the subject.
    settings : mapping, optional
        Dotted keys of settings to change, such as ``{"run.device": "cpu"}``.

    Returns
    -------
    Run

    Raises
    ------
    UserError
        If there is no such folder, or a setting is unknown or out of range.

    See Also
    --------
    Run : the same by the folder.
    """
    return Run(Path(workdir) / f"sub-{subject:02d}", settings)


class Run:
    """The results of one subject, read from its folder; nothing in it is changed.

    Settings are put together as the commands do it: ``settings`` of the call, the environment,
    ``neuroclips.toml`` of the current folder, and then what the run was made with, its seed and
    precision included.

    Parameters
    ----------
    folder : path
        The subject's folder, such as ``runs/sub-01``.
    settings : mapping, optional
        Dotted keys of settings to change, such as ``{"run.device": "cpu"}``.

    Attributes
    ----------
    folder : pathlib.Path
        The subject's folder.
    settings : Settings
        What the run is decoded with.

    Raises
    ------
    UserError
        If there is no such folder, or a setting is unknown or out of range.
    """

    def __init__(
        self, folder: str | os.PathLike[str], settings: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = Path(folder)
        place = place_of(self.folder)
        opened = settings_for("", {**(settings or {}), **place}, upstream=UPSTREAM)
        if run_folder(opened).resolve() != self.folder.resolve():
            raise UserError(f"{self.folder} is not named like {run_folder(opened).name}: rename it")
        self.settings = self._as_reconstructed(opened)

    def _as_reconstructed(self, settings: Settings) -> Settings:
        """Take seed and precision from a reconstruction that there is."""
        record = manifest.read(self.folder / "reconstruct")
        made_with = record["settings"]["run"] if record else {}
        taken = {
            key: made_with[key.removeprefix("run.")]
            for key in ("run.seed", "run.precision")
            if key.removeprefix("run.") in made_with and not settings.chosen_by_user(key)
        }
        return replace_settings(settings, taken, origin="run folder (reconstruct)")

    def __repr__(self) -> str:
        """Return the call that opens it."""
        return f"Run({str(self.folder)!r})"

    def stages(self) -> dict[str, str]:
        """List the stages that there are.

        Returns
        -------
        dict
            Name of the stage's folder -> ``done``, ``stale``, ``interrupted``, ``running`` or
            ``damaged``, as ``neuroclips status`` says.
        """
        names = sorted(path.parent.name for path in self.folder.glob(f"[!.]*/{manifest.NAME}"))
        digests: dict[Path, str] = {}
        return {name: stage_state(self.settings, name, digests)[0] for name in names}

    def manifest(self, stage: str) -> dict[str, Any]:
        """Read what a stage was made from: settings, inputs, versions, facts and hashes.

        Parameters
        ----------
        stage : str
            Name of its folder, such as ``train-sr``.

        Raises
        ------
        UserError
            If the stage has not run, or its manifest cannot be read.
        """
        record = manifest.read(self.folder / stage)
        if record is None:
            there = ", ".join(self.stages()) or "nothing"
            raise UserError(f"{self.folder} holds no {stage}, only {there}: run it first")
        return record

    def metrics(self, run: str = "reconstruct") -> dict[str, Any]:
        """Read the metrics of a reconstruction.

        Parameters
        ----------
        run : str
            The reconstruction, as ``neuroclips evaluate --run`` takes it.

        Returns
        -------
        dict
            Content of ``metrics.json``: under ``metrics`` a mean, an interval (``ci95``) and more
            for every metric, beside ``controls``, ``chance`` and ``protocol``.

        Raises
        ------
        UserError
            If it has not been evaluated.
        """
        stage = "evaluate" + (f"-{run}" if run == "fuse" else run.removeprefix("reconstruct"))
        self.manifest(stage)
        content: dict[str, Any] = read_json(self.folder / stage / "metrics.json")
        return content

    def array(self, stage: str, name: str) -> np.ndarray:
        """Open an array of a stage, such as ``("reconstruct", "clips.npy")``.

        Returns
        -------
        numpy.ndarray
            Memory-mapped, read-only.

        Raises
        ------
        UserError
            If there is none of that name, or it cannot be read.
        """
        return read_array(self._file(stage, name))

    def table(self, stage: str, name: str) -> list[dict[str, str]]:
        """Read a table of a stage, such as ``("preprocess", "clips.csv")``, as text by column.

        Raises
        ------
        UserError
            If there is none of that name, or it cannot be read.
        """
        return read_csv(self._file(stage, name))

    def _file(self, stage: str, name: str) -> Path:
        outputs = self.manifest(stage)["outputs"]
        path = self.folder / stage / name
        if not path.is_file():
            there = ", ".join(sorted(key for key in outputs if key.endswith(Path(name).suffix)))
            raise UserError(f"{self.folder / stage} holds no {name}: name one of {there}")
        return path

    def decode(
        self,
        scans: ArrayLike,
        numbers: Sequence[int] | None = None,
        *,
        last: Literal["blurry", "tokens", "keyframes", "captions", "clips"] = "clips",
        without: Literal["keyframe", "blurry"] | None = None,
        advance: Callable[[str, int], None] | None = None,
    ) -> Decoded:
        """Decode scans with the run's trained reconstructors, in memory.

        The arrays are those of ``neuroclips reconstruct``, bit for bit, where scans, clip numbers,
        settings and machine are the same. Each part loads and frees its networks: decode many
        scans in one call.

        Parameters
        ----------
        scans : array_like
            float (clips, voxels), or (clips, window, voxels) with several volumes per clip,
            preprocessed as ``fmri_test.npy`` is: the run's selected voxels, standardized and
            averaged over repetitions. :meth:`read_scans` makes them of new runs.
        numbers : sequence of int, optional
            Clip number of every scan, which decides its random numbers; 0, 1, 2 and so on by
            default.
        last : str
            Where to stop: ``tokens``, ``blurry``, ``keyframes``, ``captions`` or ``clips``.
        without : str, optional
            A guidance to leave out, ``keyframe`` or ``blurry``, as ``reconstruct --without`` does.
        advance : callable, optional
            Called with a part's name and a number of clips whenever so many more are made.

        Returns
        -------
        Decoded
            ``blurry``, ``tokens_brain``, ``tokens_prior``, ``keyframe_latents``, ``keyframes``,
            ``captions`` and ``clips``; None where not made.

        Raises
        ------
        UserError
            If the scans do not fit the run, or a trained stage or a backbone is missing.

        Notes
        -----
        Random numbers belong to a clip's number, not to the batch. Another number of scans makes
        other batches, though, in which floating-point sums may round differently.
        """
        from neuroclips_cli.backbones.loading import choose_device
        from neuroclips_cli.generation.decoder import PARTS, Decoder
        from neuroclips_cli.runtime.precision import choose_precision

        if last not in PARTS or without not in (None, "keyframe", "blurry"):
            raise UserError(
                f"last={last!r} and without={without!r} are not both known: last takes "
                f"{', '.join(PARTS)}, and without takes keyframe or blurry"
            )
        if last in LEFT_OUT.get(without or "", ()):
            raise UserError(f"last={last!r} asks for what without={without!r} leaves out")
        if last in ("captions", "clips") and without != "keyframe":
            require_captioner(self.settings)
        needed = {
            "train-pr": without != "blurry" and last != "tokens",
            "train-sr": last != "blurry",
        }
        folders = {
            stage: require_stage(self.settings, stage, needed_by="decode")
            for stage, wanted in needed.items()
            if wanted
        }
        window = self.settings.data.window
        voxels = self._voxels(folders)
        one = (window, voxels) if window > 1 else (voxels,)
        fmri, chosen = _fitting(scans, numbers, one)
        device = choose_device(self.settings.run.device)
        decoder = Decoder(
            self.settings,
            folders.get("train-pr"),
            folders.get("train-sr"),
            device,
            choose_precision(self.settings.run.precision, device),
            advance,
        )
        return decoder.decode(fmri, chosen, without, last)

    def read_scans(
        self,
        runs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        start_s: float = 0.0,
        duration_s: float | None = None,
        tr_s: float | None = None,
        confounds: Sequence[str | os.PathLike[str]] = (),
    ) -> NDArray[np.float32]:
        """Read new runs as ``neuroclips decode`` does, for :meth:`decode`.

        Parameters
        ----------
        runs : path or sequence of path
            Runs that show responses to one film, of the kind of the training runs: CIFTI, volumes,
            either file of a pair of hemispheres, ``FILE.h5#KEY``; they are averaged. Or ``.npy``
            files of standardized scans.
        start_s, duration_s : float
            When the film began, in s after the scan did, and how long it lasted; without a duration
            all of the run answers to it.
        tr_s : float, optional
            Time between volumes in s, where sidecars and headers are wrong.
        confounds : sequence of path
            A table of confounds for each run, where the training runs' were regressed out; by
            default those beside the runs. ``["none"]``: they were regressed out already.

        Returns
        -------
        numpy.ndarray
            float32 (clips, voxels), or (clips, window, voxels); of a test run, its rows of
            ``fmri_test.npy``, bit for bit.

        Raises
        ------
        UserError
            If a run does not fit the training runs, is too short, or lacks its confounds.
        """
        from neuroclips_cli.stages.decode import ScanReader

        named = [runs] if isinstance(runs, str | os.PathLike) else list(runs)
        if not named:
            raise UserError("there is nothing to read: name a run, or a .npy of scans")
        preprocess = require_stage(self.settings, "preprocess", needed_by="decode")
        timing = FilmTiming(start_s, duration_s, tr_s)
        tables = [Path(table) for table in confounds]
        reader = ScanReader(self.settings, preprocess, timing, tables)
        return reader.read([Path(name) for name in named])

    def evaluate(self, clips: ArrayLike, numbers: Sequence[int] | None = None) -> dict[str, Any]:
        """Measure clips against what the subject saw, by the protocol of the run's settings.

        Parameters
        ----------
        clips : array_like
            Numbers (clips, frames, height, width, 3) at ``reconstruct.fps`` frames per second, such
            as ``decode(scans).clips``.
        numbers : sequence of int, optional
            Test clip that each belongs to; 0, 1, 2 and so on by default.

        Returns
        -------
        dict
            As `evaluate_clips` gives it; only the order of the clips is known, so that there are
            neither retrieval nor scenes.

        Raises
        ------
        UserError
            If preprocess is missing, a number is none of a test clip, or the clips do not fit.
        """
        from neuroclips_cli.stages.evaluate import evaluate_arrays

        made = np.asarray(clips)
        gt = self.array("preprocess", "frames_test.npy")
        chosen = np.arange(len(made)) if numbers is None else np.asarray(numbers, dtype=np.int64)
        if len(chosen) and not 0 <= chosen.min() <= chosen.max() < len(gt):
            raise UserError(f"test clips are numbered 0 to {len(gt) - 1}: correct the numbers")
        synthetic = bool(self.manifest("preprocess")["facts"].get("synthetic"))
        with console.quietly():
            return evaluate_arrays(
                self.settings,
                made,
                gt[chosen],
                pred_fps=self.settings.reconstruct.fps,
                synthetic=synthetic,
            )

    def follow(
        self,
        path: str | os.PathLike[str],
        *,
        start_s: float = 0.0,
        duration_s: float | None = None,
        volumes: int | None = None,
        idle_s: float = 60.0,
        last: Literal["blurry", "tokens", "keyframes", "captions", "clips"] = "clips",
        confounds_removed: bool = False,
        on_volume: Callable[[LiveVolume], None] | None = None,
    ) -> Iterator[LiveClip]:
        """Decode a run while it is recorded, clip by clip.

        All networks are loaded at the first step and stay in memory. Nothing is written.

        Parameters
        ----------
        path : path
            A folder into which single volumes fall, or a growing 4-D ``.nii`` or ``.npy``.
        start_s, duration_s : float
            When the film begins, in s after the scan does, and how long it lasts; without a
            duration clips are decoded until the end.
        volumes : int, optional
            End after so many volumes.
        idle_s : float
            End when no volume came for so many seconds. A file ``stop`` in the folder, or
            ``<name>.stop`` beside the file, ends it too.
        last : str
            The last part to make of a clip, as in :meth:`decode`.
        confounds_removed : bool
            The volumes come without the confounds that were regressed out of the training runs.
        on_volume : callable, optional
            Called for every volume that was standardized.

        Yields
        ------
        LiveClip
            ``number``, ``onset_s``, ``volume``, ``scan``, ``decoded`` and ``latency_s``.

        Raises
        ------
        UserError
            If the path cannot be followed, a volume does not fit the run, or none comes.
        """
        from neuroclips_cli.generation.decoder import PARTS
        from neuroclips_cli.stages._follow import FollowOptions, LiveDecoding, LiveVolume

        if last not in PARTS:
            raise UserError(f"last={last!r} is not known: it takes {', '.join(PARTS)}")
        folders = require_upstream(self.settings, "decode")
        timing = FilmTiming(start_s, duration_s)
        options = FollowOptions(
            timing,
            volumes=volumes,
            idle_s=idle_s,
            last=last,
            confounds_removed=confounds_removed,
        )
        for event in LiveDecoding(self.settings, folders, Path(path), options):
            if not isinstance(event, LiveVolume):
                yield event
            elif on_volume:
                on_volume(event)

    def _voxels(self, folders: Mapping[str, Path]) -> int:
        """Return how many voxels the reconstructors take."""
        return int(self.manifest(next(iter(folders)))["facts"]["model"]["voxels"])

    def read_maps(self, path: str | os.PathLike[str] | None = None) -> dict[str, NDArray[Any]]:
        """Read maps on the run's voxels.

        Parameters
        ----------
        path : path, optional
            A ``*.dscalar.nii`` file of the runs' vertices and voxels, or a ``*.nii`` on their
            grid; by default the maps of the voxel selection: reproducibility, its test, and what
            was selected.

        Returns
        -------
        dict
            Name of the map -> float32 (voxels,), all voxels of the runs.

        Raises
        ------
        UserError
            If a file is missing or cannot be read.
        """
        columns, _ = self._selection()
        return read_maps(self._selection_map() if path is None else Path(path), columns)

    def write_maps(self, path: str | os.PathLike[str], maps: Mapping[str, NDArray[Any]]) -> None:
        """Write maps for Connectome Workbench, or for viewers of volumes.

        Parameters
        ----------
        path : path
            Ends in ``.dscalar.nii`` for CIFTI and surface runs, in ``.nii`` for volumes.
        maps : mapping
            Name -> (voxels,): a value for every voxel of the runs, or for every selected one,
            where the others become 0.

        Raises
        ------
        UserError
            If a map has another length, or the path another ending.
        """
        columns, selected = self._selection()
        geometry = read_geometry(self._selection_map(), columns)
        suffix = ".nii" if geometry.models is None else ".dscalar.nii"
        cifti = str(path).endswith(".dscalar.nii")
        if not str(path).endswith(suffix) or cifti != (suffix == ".dscalar.nii"):
            raise UserError(f"{path} should end in {suffix}, as the run's own maps do: rename it")
        whole = {name: _everywhere(name, values, selected) for name, values in maps.items()}
        if not whole:
            raise UserError(f"{path} would hold no map: give at least one")
        with atomic_path(Path(path)) as temporary:
            write_maps(temporary, geometry, geometry.mask, whole)

    def _selection(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        with np.load(self._file("preprocess", "selection.npz"), allow_pickle=False) as selection:
            return selection["columns"], selection["selected"]

    def _selection_map(self) -> Path:
        return next((self.folder / "preprocess").glob("selection*.nii"))


def evaluate_clips(
    pred: ArrayLike,
    gt: ArrayLike,
    *,
    protocol: str = "standard",
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure clips against other clips, as ``neuroclips evaluate --pred --gt`` does.

    Parameters
    ----------
    pred, gt : array_like
        Numbers (clips, frames, height, width, 3), uint8 or of the ranges 0..1 or -1..1; paired in
        order. Both are brought to the protocol's frame rate and size; a clip lasts
        ``data.clip_s`` seconds.
    protocol : str
        ``standard``, ``neuroclips``, ``mindvideo``, ``mind-animator`` or ``neurons``.
    settings : mapping, optional
        Dotted keys of settings to change, such as ``{"evaluate.bootstrap_samples": 200}``.

    Returns
    -------
    dict
        Content of ``metrics.json``: under ``metrics`` a mean, an interval (``ci95``) and more for
        every metric, beside ``controls``, ``chance`` and ``protocol``. Metrics whose evaluators are
        not on this machine are left out, and ``left_out`` says which.

    Raises
    ------
    UserError
        If an array holds no clips, the two do not match, or the protocol is unknown.

    See Also
    --------
    Run.metrics : of a run that was evaluated.
    """
    from neuroclips_cli.stages.evaluate import evaluate_arrays

    chosen = load_settings({**(settings or {}), "evaluate.protocol": protocol})
    with console.quietly():
        return evaluate_arrays(chosen, np.asarray(pred), np.asarray(gt))


def _fitting(
    scans: ArrayLike, numbers: Sequence[int] | None, one: tuple[int, ...]
) -> tuple[NDArray[np.float32], list[int]]:
    """Return scans and clip numbers, or say why they do not fit."""
    fmri = np.asarray(scans)
    if fmri.dtype.kind not in "uif" or fmri.shape[1:] != one or not fmri.size:
        inner = ", ".join(map(str, one))
        raise UserError(
            f"the scans are {fmri.dtype} {fmri.shape}: this run decodes numbers (clips, {inner}), "
            "its selected voxels"
        )
    fmri = fmri.astype(np.float32)
    if not np.isfinite(fmri).all():
        scan = int(np.argwhere(~np.isfinite(fmri))[0][0])
        raise UserError(f"scan {scan} holds NaN or infinity: leave it out, or repair it")
    chosen = list(range(len(fmri))) if numbers is None else [int(number) for number in numbers]
    if len(chosen) != len(fmri) or any(number < 0 for number in chosen):
        raise UserError(
            f"there are {len(fmri)} scans and {len(chosen)} clip numbers: give one number from 0 "
            "for each scan"
        )
    return fmri, chosen


def _everywhere(
    name: str, values: NDArray[Any], selected: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return a value for every voxel of the runs."""
    values = np.asarray(values, dtype=np.float32)
    if values.shape == selected.shape:
        return values
    whole = np.zeros(len(selected), np.float32)
    if values.shape != (int(selected.sum()),):
        raise UserError(
            f"map {name} has shape {values.shape}: give {len(selected)} values, one for every "
            f"voxel, or {int(selected.sum())} for the selected ones"
        )
    whole[selected] = values
    return whole
