"""``neuroclips controls``: predictions without decoding, measured like the reconstruction.

Each control is written as a reconstruction of its own, ``reconstruct-control-<name>``, so that it
is evaluated, compared and kept up to date by what does so for any reconstruction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from neuroclips_cli import console
from neuroclips_cli.data.resample import frame_count, frame_indices
from neuroclips_cli.errors import UserError
from neuroclips_cli.metrics import baselines
from neuroclips_cli.runs.resumable import fill_rows
from neuroclips_cli.runs.stage import open_stage, read_array, read_json, require_upstream
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.settings.parse import nearest
from neuroclips_cli.signal.reproducibility import mean_over_repetitions
from neuroclips_cli.stages import compare, evaluate, reconstruct
from neuroclips_cli.stages.informed import FromTrueTokens, GroundTruthGuided, Unconditional

QUICK = {
    "nearest-training-clip": "the training clip whose scan correlates most with the test scan",
    "mean-frame": "the mean of all training frames, standing still",
    "frozen-keyframe": "the decoded keyframe, standing still",
    "frozen-frame": "the reconstruction's first frame, standing still",
    "vae": "the ground truth through the VAE: the ceiling of the pixels",
}
GENERATED = {
    "prior-only": "generated without scans: no blurry clip, tokens of the prior unconditioned",
    "film-guided": "generated from the film's own frames: the ceiling of the generator",
    "unclip-true-tokens": "unCLIP's image of a frame's own CLIP tokens, standing still (Fig. 13)",
    "mean-fmri": "reconstructed from the mean training scan, the same for every clip",
    "noise-fmri": "reconstructed from Gaussian noise with every voxel's mean and deviation",
    "repetitions-1": "reconstructed from the first repetition of every test scan alone",
    "repetitions-2": "reconstructed from the mean of the first two repetitions",
    "repetitions-5": "reconstructed from the mean of the first five repetitions",
}
"""These take as long as `neuroclips reconstruct`."""
MAKERS: dict[str, type[reconstruct.Reconstruction]] = {
    "prior-only": Unconditional,
    "film-guided": GroundTruthGuided,
    "unclip-true-tokens": FromTrueTokens,
}
NAMES = (*QUICK, *GENERATED)

Compute = Callable[[slice], np.ndarray]


def run(
    settings: Settings, names: Sequence[str] = tuple(QUICK), *, overwrite: bool = False
) -> list[Path]:
    """Make controls, evaluate them and compare them with the run.

    Parameters
    ----------
    settings : Settings
        The run folder must hold ``reconstruct`` and ``evaluate``.
    names : sequence of str
        Some of `NAMES`.
    overwrite : bool
        Make and measure them again even if nothing changed.

    Returns
    -------
    list of Path
        The folders ``evaluate-control-<name>``.

    Raises
    ------
    UserError
        If a name is unknown or the run is not evaluated yet.
    """
    for name in names:
        if name not in NAMES:
            raise UserError(
                f"there is no control {name!r}{nearest(name, NAMES)}; choose among "
                f"{', '.join(NAMES)}"
            )
    folders = require_upstream(settings, "controls")
    evaluated = []
    for name in names:
        console.info(f"{name}: {(QUICK | GENERATED)[name]}")
        if name in GENERATED:
            _generate(settings, name, folders, overwrite)
        else:
            _make(settings, name, folders, overwrite)
        made = f"{reconstruct.NAME}-control-{name}"
        evaluated.append(evaluate.run(settings, run=made, overwrite=overwrite))
    shuffled = ["evaluate" + compare.SHUFFLED] if settings.evaluate.shuffles else []
    compare.run(settings, ["evaluate", *shuffled, *(folder.name for folder in evaluated)])
    return evaluated


def _make(settings: Settings, name: str, folders: dict[str, Path], overwrite: bool) -> None:
    """Write the clips of a quick control in the shape of the reconstruction."""
    data, made = folders["preprocess"], folders["reconstruct"]
    extra = {"vae": settings.backbones.vae} if name == "vae" else {}
    with open_stage(
        settings,
        f"{reconstruct.NAME}-control-{name}",
        sections=(),
        inputs={"preprocess": data, "reconstruct": made},
        overwrite=overwrite,
        extra=extra,
    ) as stage:
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
        fill_rows(
            stage, "clips.npy", clips.shape, "uint8", settings.reconstruct.batch_size, timed, name
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
    from neuroclips_cli.backbones.loading import choose_device
    from neuroclips_cli.backbones.pixels import resize_frames
    from neuroclips_cli.backbones.vae import decode_latents, encode_frames, load_vae

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


def _generate(settings: Settings, name: str, folders: dict[str, Path], overwrite: bool) -> None:
    """Reconstruct from something else than the run's scans."""
    record = read_json(folders["reconstruct"] / "manifest.json")
    clips = record["determined_by"]["extra"].get("clips") or None
    if name in MAKERS:
        reconstruct.run(settings, clips=clips, maker=(name, MAKERS[name]), overwrite=overwrite)
        return
    scans = _other_scans(folders["preprocess"], name, settings.run.seed)
    reconstruct.run(settings, clips=clips, instead=(name, scans), overwrite=overwrite)


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
