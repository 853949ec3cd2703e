"""What train-pr and train-sr share: the clips to train on, frozen targets, the phase's figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuroclips_cli import console
from neuroclips_cli.backbones.captioner_blip2 import load_captioner
from neuroclips_cli.backbones.clip import load_clip
from neuroclips_cli.backbones.convnext import load_convnext
from neuroclips_cli.backbones.pixels import resize_frames
from neuroclips_cli.backbones.references import resolve
from neuroclips_cli.backbones.vae import encode_frames, load_vae
from neuroclips_cli.io.atomic import human_size, text_digest
from neuroclips_cli.runs.resumable import map_rows, map_texts
from neuroclips_cli.runs.stage import read_array, read_csv, read_json, sha256
from neuroclips_cli.runtime.precision import choose_precision
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.training.checkpoints import TrainingState, seed_torch
from neuroclips_cli.training.samples import derived_seed, split_segments
from neuroclips_cli.training.target_cache import CLIPS_AT_ONCE, per_frame, target_key

FRAMES = "frames_train.npy"


@dataclass(frozen=True)
class TrainingClips:
    """The training films of one subject.

    Attributes
    ----------
    fmri : numpy.ndarray
        float32 (clips, repetitions, voxels).
    frames : numpy.ndarray
        uint8 (clips, Nf, height, width, 3).
    segments : numpy.ndarray
        int (clips,), the film segment of every clip.
    captions : list of str
        Empty where unknown.
    train, validation : numpy.ndarray
        Clip numbers.
    held_out : tuple of int
        The segments of ``validation``.
    frames_digest : str
        Of the frames file.
    """

    fmri: np.ndarray
    frames: np.ndarray
    segments: np.ndarray
    captions: list[str]
    train: np.ndarray
    validation: np.ndarray
    held_out: tuple[int, ...]
    frames_digest: str


def training_clips(preprocess: Path, validation_segments: Sequence[int]) -> TrainingClips:
    """Open the arrays of preprocess and hold whole segments out.

    Parameters
    ----------
    preprocess : Path
        Finished preprocess folder. Its test arrays are not opened.
    validation_segments : sequence of int
        Segments to hold out.
    """
    rows = [row for row in read_csv(preprocess / "clips.csv") if row["split"] == "train"]
    segments = np.array([int(row["segment"]) for row in rows])
    train, validation, held_out = split_segments(segments, validation_segments)
    missing = [s for s in validation_segments if s not in held_out]
    names = ", ".join(map(str, held_out))
    if missing:
        console.info(f"no training segment {missing[0]} in the data; segment {names} validates")
    else:
        console.detail(f"segment {names} ({len(validation)} clips) is held out for validation")
    digest = read_json(preprocess / "manifest.json")["outputs"].get(FRAMES)
    return TrainingClips(
        fmri=read_array(preprocess / "fmri_train.npy"),
        frames=read_array(preprocess / FRAMES),
        segments=segments,
        captions=[row["caption"] for row in rows],
        train=train,
        validation=validation,
        held_out=held_out,
        frames_digest=digest or sha256(preprocess / FRAMES),
    )


def _target_path(
    settings: Settings,
    name: str,
    digest: str,
    reference: str,
    suffix: str,
    precision: str = "float32",
) -> Path:

    folder = Path(resolve(reference))
    key = target_key(digest, reference, folder if folder.is_dir() else None, precision)
    return Path(settings.run.workdir) / "targets" / f"{name}-{key}{suffix}"


def latent_targets(settings: Settings, clips: TrainingClips, device: str) -> np.ndarray:
    """VAE latents of all frames, float16 (clips, Nf, channels, h, w)."""
    size = settings.perception.frame_size

    def encoder() -> Callable[[np.ndarray], np.ndarray]:
        vae = load_vae(settings.backbones.vae, device)
        return lambda frames: encode_frames(vae, resize_frames(frames, size) if size else frames)

    digest = f"{clips.frames_digest} at {size}" if size else clips.frames_digest
    path = _target_path(settings, "latents", digest, settings.backbones.vae, ".npy")
    return _frame_targets(path, clips.frames, encoder, "VAE latents")


def map_targets(
    settings: Settings, clips: TrainingClips, positions: int, device: str
) -> np.ndarray:
    """ConvNeXt maps of all frames and of one augmented view of each.

    float16 (clips, Nf, 2, positions x positions, width).
    """
    network = load_convnext(settings.backbones.convnext, device)

    def encoder() -> Callable[[np.ndarray], np.ndarray]:
        seed_torch(derived_seed(settings.run.seed, "views"))
        return lambda frames: network.two_views(frames, positions)

    digest = f"{clips.frames_digest} {positions} views {settings.run.seed}"
    weights = sha256(Path(settings.backbones.convnext).expanduser())
    path = _target_path(settings, "maps", digest, f"sha256:{weights}", ".npy")
    return _frame_targets(path, clips.frames, encoder, "ConvNeXt maps")


def token_targets(settings: Settings, clips: TrainingClips, device: str) -> np.ndarray:
    """CLIP image tokens of all frames, float16 (clips, Nf, tokens, dim), in the settings' space."""
    reference = settings.backbones.clip
    precision = choose_precision(settings.run.precision, device)

    space = settings.semantics.token_space

    def encoder() -> Callable[[np.ndarray], np.ndarray]:
        return load_clip(reference, device, precision).in_space(space).tokens

    digest = f"{clips.frames_digest} {space} tokens"
    path = _target_path(settings, "tokens", digest, reference, ".npy", precision)
    return _frame_targets(path, clips.frames, encoder, "CLIP tokens")


def _frame_targets(
    path: Path,
    frames: np.ndarray,
    encoder: Callable[[], Callable[[np.ndarray], np.ndarray]],
    what: str,
) -> np.ndarray:
    def load() -> Callable[[slice], np.ndarray]:
        encode = per_frame(encoder())
        return lambda piece: encode(frames[piece])

    return map_rows(
        path,
        load,
        len(frames),
        batch_size=CLIPS_AT_ONCE,
        dtype="float16",
        what=what,
        shared=True,
        announce=lambda size: console.info(f"{what}: {human_size(size)} are written to {path}"),
    )


def text_targets(settings: Settings, clips: TrainingClips, device: str) -> np.ndarray:
    """Text embeddings of captions, float16 (clips, embed_dim) or (clips, Nf, embed_dim).

    A data set that has a caption for every clip gives one per clip. Where captions are missing, the
    captioner describes every frame: Reftm takes the caption of the very frame that is the keyframe
    (paper B.2), and at a film cut the frames of a clip show different things.
    """
    precision = choose_precision(settings.run.precision, device)
    captions = list(clips.captions)
    if not all(captions):
        described = _frame_captions(settings, clips, device, precision)
        count = clips.frames.shape[1]
        own = [caption for caption in captions for _ in range(count)]
        captions = [given or made for given, made in zip(own, described, strict=True)]
    reference = settings.backbones.clip
    path = _target_path(settings, "text", text_digest(captions), reference, ".npy", precision)

    def load() -> Callable[[slice], np.ndarray]:
        clip = load_clip(reference, device, precision)
        return lambda piece: clip.text_embeddings(captions[piece])

    embeddings = map_rows(
        path, load, len(captions), batch_size=CLIPS_AT_ONCE, dtype="float16", shared=True
    )
    if len(embeddings) == len(clips.captions):
        return embeddings
    return embeddings.reshape(len(clips.captions), -1, embeddings.shape[-1])


def _frame_captions(
    settings: Settings, clips: TrainingClips, device: str, precision: str
) -> list[str]:
    """Describe every frame; the frames of a clip one after the other."""
    reference = settings.backbones.captioner
    path = _target_path(
        settings, "frame-captions", clips.frames_digest, reference, ".json", precision
    )
    frames = clips.frames.reshape(-1, *clips.frames.shape[2:])

    def load() -> Callable[[slice], list[str]]:
        captioner = load_captioner(reference, device, precision)
        return lambda piece: captioner.caption(np.ascontiguousarray(frames[piece]))

    batch = CLIPS_AT_ONCE * clips.frames.shape[1]
    return map_texts(path, load, len(frames), batch_size=batch, shared=True)


def phase_facts(progress: TrainingState, clips: TrainingClips) -> dict[str, Any]:
    """Return what the manifest keeps of a phase: best epoch, its figures, who validated."""
    return {
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "validation": {k: round(v, 6) for k, v in progress.best_metrics.items()},
        "validation_segments": list(clips.held_out),
    }
