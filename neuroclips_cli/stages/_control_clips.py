"""The clips of the controls, computed; what they are stands in `_control_names`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from neuroclips_cli.backbones.clip import load_clip
from neuroclips_cli.backbones.loading import choose_device
from neuroclips_cli.backbones.pixels import resize_frames
from neuroclips_cli.backbones.vae import decode_latents, encode_frames, load_vae
from neuroclips_cli.data.resample import frame_count, frame_indices
from neuroclips_cli.errors import UserError
from neuroclips_cli.metrics import baselines
from neuroclips_cli.runs import model_card
from neuroclips_cli.runs.resumable import map_rows
from neuroclips_cli.runs.stage import StageRequest, read_array, read_json
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.signal.reproducibility import mean_over_repetitions
from neuroclips_cli.stages import reconstruct
from neuroclips_cli.stages._control_names import GENERATED, OF_TRAINING, QUICK
from neuroclips_cli.stages._training_data import require_training_films
from neuroclips_cli.stages.reconstruct import Compute, Reconstruction


def make(settings: Settings, name: str, request: StageRequest, *, overwrite: bool = False) -> None:
    """Write the clips of a control, one of `_control_names.NAMES`."""
    folders = {key: Path(path) for key, path in request.inputs.items()}
    if name in OF_TRAINING:
        require_training_films(
            folders["preprocess"], f"there is no {name} (leave it out of --only)"
        )
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
    data, reconstruction = folders["preprocess"], folders["reconstruct"]
    with request.open(settings, overwrite=overwrite) as stage:
        if stage.up_to_date:
            return
        clips = read_array(reconstruction / "clips.npy")
        index = np.asarray(read_array(reconstruction / "index.npy"))
        run = read_json(reconstruction / "manifest.json")
        fps = run["settings"]["reconstruct"]["fps"]
        makers: dict[str, Callable[[Settings, Path, np.ndarray, np.ndarray], Compute]] = {
            "nearest-training-clip": _nearest_training_clip,
            "mean-frame": _mean_frame,
            "frozen-keyframe": partial(_frozen_keyframe, reconstruction),
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
        # It stands beside the run, whatever that was decoded by.
        stage.fact("protocol", run["facts"].get("protocol", model_card.WITHIN))


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
    found = baselines.nearest_scans(test.reshape(len(test), -1), train.reshape(len(train), -1))
    return lambda rows: np.stack([films[int(row)] for row in found[rows]])


def _mean_frame(settings: Settings, data: Path, clips: np.ndarray, index: np.ndarray) -> Compute:
    frame = baselines.mean_frame(read_array(data / "frames_train.npy"))
    still = np.broadcast_to(frame, (clips.shape[1], *frame.shape))
    return lambda rows: np.stack([still] * (rows.stop - rows.start))


def _frozen_frame(settings: Settings, data: Path, clips: np.ndarray, index: np.ndarray) -> Compute:
    return lambda rows: np.repeat(clips[rows, :1], clips.shape[1], axis=1)


def _frozen_keyframe(
    reconstruction: Path, settings: Settings, data: Path, clips: np.ndarray, index: np.ndarray
) -> Compute:
    if not (reconstruction / "keyframes.npy").exists():
        raise UserError(
            f"frozen-keyframe needs keyframes, and {reconstruction} has none: leave it out of "
            "--only"
        )
    keyframes = read_array(reconstruction / "keyframes.npy")
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


class GroundTruthGuided(Reconstruction):
    """Guided by the film itself: its frames through the VAE as blurry clip, one as keyframe.

    What comes out is the ceiling of the generator: no decoder that feeds it can do better on the
    whole.
    """

    def _shown(self, piece: slice) -> np.ndarray:
        """Return uint8 (clips, Nf, h, w, 3): what was on screen."""
        films = read_array(self.inputs["preprocess"] / "frames_test.npy")
        return np.stack([films[number] for number in self.numbers[piece]])

    def blurry(self) -> np.ndarray:
        """Return the film through the VAE, uint8 (clips, Nf, h, w, 3)."""

        def load() -> Compute:
            vae = load_vae(self.settings.backbones.vae, self.device)
            frames, size = self.settings.data.frames_per_clip, self.settings.data.frame_size

            def compute(piece: slice) -> np.ndarray:
                latents = encode_frames(vae, self._shown(piece).reshape(-1, size, size, 3))
                pixels = resize_frames(decode_latents(vae, latents), size)
                return pixels.reshape(-1, frames, size, size, 3)

            return compute

        return self.map_rows("blurry.npy", load, "uint8", "Blurry clips")

    def tokens(self) -> np.ndarray:
        """Return the CLIP tokens of the keyframes, float16 (clips, tokens, dim)."""

        def load() -> Compute:
            clip = load_clip(self.settings.backbones.clip, self.device, self.precision)
            clip = clip.in_space(self.settings.semantics.token_space)
            return lambda piece: clip.tokens(self._keyframes(piece))

        return self.map_rows("tokens_film.npy", load, "float16", "Tokens")

    def keyframes(self, tokens: np.ndarray, blurry: np.ndarray | None) -> tuple[None, np.ndarray]:
        """Return the first frame of every clip, uint8 (clips, h, w, 3), which SparseCtrl holds."""
        return None, self.map_rows("keyframes.npy", lambda: self._keyframes, "uint8", "Keyframes")

    def _keyframes(self, piece: slice) -> np.ndarray:
        return self._shown(piece)[:, 0]


class FromTrueTokens(GroundTruthGuided):
    """unCLIP from the CLIP tokens of the frames themselves (paper D, Figure 13), standing still.

    It shows what image generation loses, and whether tokens and image mapping belong together.
    """

    def run(self, without: str | None) -> None:
        """Make keyframes from noise and let each stand still for the length of a clip."""
        chosen = self.settings.reconstruct
        _, keyframes = Reconstruction.keyframes(self, self.tokens(), None)

        def compute(piece: slice) -> np.ndarray:
            return np.repeat(np.asarray(keyframes[piece])[:, None], chosen.frames, axis=1)

        clips = self.map_rows("clips.npy", lambda: compute, "uint8", "Clips")
        self.videos(clips)
        self.stage.write_array("index.npy", np.asarray(self.numbers, dtype=np.int64))
        self.stage.fact("clips", len(self.numbers))


class Unconditional(Reconstruction):
    """Guided by no scan: no blurry clip, and tokens that the prior draws without a condition."""

    def blurry(self) -> None:
        """Return nothing: clips and keyframes start from noise."""

    def tokens(self) -> np.ndarray:
        """Return unconditioned draws of the prior, float16 (clips, tokens, dim)."""

        def load() -> Compute:
            decoder = self.token_decoder()
            return lambda piece: decoder.without_scans(self.numbers[piece])

        return self.map_rows("tokens_unguided.npy", load, "float16", "Prior")


RECIPES: dict[str, type[reconstruct.Reconstruction]] = {
    "prior-only": Unconditional,
    "film-guided": GroundTruthGuided,
    "unclip-true-tokens": FromTrueTokens,
}
