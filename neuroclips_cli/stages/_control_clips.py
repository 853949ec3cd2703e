"""The clips of the controls, computed; what they are stands in `_control_names`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from neuroclips_cli.backbones.loading import choose_device
from neuroclips_cli.backbones.pixels import resize_frames
from neuroclips_cli.backbones.vae import decode_latents, encode_frames, load_vae
from neuroclips_cli.data.resample import frame_count, frame_indices
from neuroclips_cli.errors import UserError
from neuroclips_cli.metrics import baselines
from neuroclips_cli.runs.resumable import map_rows
from neuroclips_cli.runs.stage import StageRequest, read_array, read_json
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.signal.reproducibility import mean_over_repetitions
from neuroclips_cli.stages import reconstruct
from neuroclips_cli.stages._control_names import GENERATED, QUICK
from neuroclips_cli.stages.informed import FromTrueTokens, GroundTruthGuided, Unconditional
from neuroclips_cli.stages.reconstruct import Compute

RECIPES: dict[str, type[reconstruct.Reconstruction]] = {
    "prior-only": Unconditional,
    "film-guided": GroundTruthGuided,
    "unclip-true-tokens": FromTrueTokens,
}


def make(settings: Settings, name: str, request: StageRequest, *, overwrite: bool = False) -> None:
    """Write the clips of a control.

    Parameters
    ----------
    settings : Settings
        The settings in force.
    name : str
        One of `_control_names.NAMES`.
    request : StageRequest
        What decides the clips.
    overwrite : bool
        Start afresh.
    """
    folders = {key: Path(path) for key, path in request.inputs.items()}
    if name in GENERATED:
        clips = request.extra["clips"] or None
        variant = _variant(settings, name, folders["preprocess"])
        reconstruct.run(settings, clips=clips, variant=variant, overwrite=overwrite)
    else:
        _make(settings, name, request, folders, overwrite)


def _make(
    settings: Settings,
    name: str,
    request: StageRequest,
    folders: dict[str, Path],
    overwrite: bool,
) -> None:
    """Write the clips of a quick control in the shape of the reconstruction."""
    data, made = folders["preprocess"], folders["reconstruct"]
    with request.open(settings, overwrite=overwrite) as stage:
        if stage.up_to_date:
            return
        clips = read_array(made / "clips.npy")
        index = np.asarray(read_array(made / "index.npy"))
        fps = read_json(made / "manifest.json")["settings"]["reconstruct"]["fps"]
        makers: dict[str, Callable[[Settings, Path, np.ndarray, np.ndarray], Compute]] = {
            "nearest-training-clip": _nearest_training_clip,
            "mean-frame": _mean_frame,
            "frozen-keyframe": partial(_frozen_keyframe, made),
            "frozen-frame": _frozen_frame,
            "vae": _through_vae,
        }
        compute = makers[name](settings, data, clips, index)
        timed = _at_rate(compute, clips.shape[1], fps, settings.data.clip_s)
        map_rows(
            stage.folder / "clips.npy",
            lambda: timed,
            len(clips),
            batch_size=settings.reconstruct.batch_size,
            dtype="uint8",
            what=name,
        )
        stage.write_array("index.npy", index)
        stage.fact("control", QUICK[name])


def _at_rate(compute: Compute, frames: int, fps: float, clip_s: float) -> Compute:
    """Bring what is computed to the reconstruction's frame rate, nearest frame in time."""

    def timed(rows: slice) -> np.ndarray:
        clips = compute(rows)
        own_fps = clips.shape[1] / clip_s
        if frame_count(clips.shape[1], own_fps, fps) != frames:
            raise UserError(
                f"the reconstruction has {frames} frames at {fps:g} fps, which do not last "
                f"{clip_s:g} s: run `neuroclips reconstruct` again"
            )
        return clips[:, frame_indices(clips.shape[1], own_fps, fps)]

    return timed


def _nearest_training_clip(
    settings: Settings, data: Path, clips: np.ndarray, index: np.ndarray
) -> Compute:
    train = mean_over_repetitions(read_array(data / "fmri_train.npy"))
    test = np.asarray(read_array(data / "fmri_test.npy"))[index]
    films = read_array(data / "frames_train.npy")
    found = baselines.nearest_scans(test, train)
    return lambda rows: np.stack([films[int(row)] for row in found[rows]])


def _mean_frame(settings: Settings, data: Path, clips: np.ndarray, index: np.ndarray) -> Compute:
    frame = baselines.mean_frame(read_array(data / "frames_train.npy"))
    still = np.broadcast_to(frame, (clips.shape[1], *frame.shape))
    return lambda rows: np.stack([still] * (rows.stop - rows.start))


def _frozen_frame(settings: Settings, data: Path, clips: np.ndarray, index: np.ndarray) -> Compute:
    return lambda rows: np.repeat(clips[rows, :1], clips.shape[1], axis=1)


def _frozen_keyframe(
    made: Path, settings: Settings, data: Path, clips: np.ndarray, index: np.ndarray
) -> Compute:
    if not (made / "keyframes.npy").exists():
        raise UserError(
            f"frozen-keyframe needs keyframes, and {made} has none: leave it out of --only"
        )
    keyframes = read_array(made / "keyframes.npy")
    return lambda rows: np.repeat(keyframes[rows][:, None], clips.shape[1], axis=1)


def _through_vae(settings: Settings, data: Path, clips: np.ndarray, index: np.ndarray) -> Compute:
    films = read_array(data / "frames_test.npy")
    vae = load_vae(settings.backbones.vae, choose_device(settings.run.device))
    size = clips.shape[2]

    def compute(rows: slice) -> np.ndarray:
        shown = np.stack([films[int(row)] for row in index[rows]])
        latents = encode_frames(vae, shown.reshape(-1, *shown.shape[2:]))
        return resize_frames(decode_latents(vae, latents), size).reshape(
            *shown.shape[:2], size, size, 3
        )

    return compute


def _variant(settings: Settings, name: str, data: Path) -> reconstruct.Variant:
    """Return the reconstruction from something else than the run's scans."""
    if name in RECIPES:
        return reconstruct.Variant(name, recipe=RECIPES[name])
    return reconstruct.Variant(name, fmri=_other_scans(data, name, settings.run.seed))


def _other_scans(data: Path, name: str, seed: int) -> np.ndarray:
    """Return float32 (clips, voxels): what a generated control decodes."""
    scans = np.asarray(read_array(data / "fmri_test.npy"))
    if name == "mean-fmri":
        train = mean_over_repetitions(read_array(data / "fmri_train.npy"))
        return np.broadcast_to(train.mean(axis=0), scans.shape)
    if name == "noise-fmri":
        return baselines.noise_scans(scans, seed)
    wanted = int(name.removeprefix("repetitions-"))
    repetitions = read_array(data / "fmri_test_repetitions.npy")
    if repetitions.shape[1] < wanted:
        raise UserError(
            f"{name} needs {wanted} repetitions of the test films, and the data set has "
            f"{repetitions.shape[1]}: leave it out of --only"
        )
    return mean_over_repetitions(repetitions[:, :wanted])
