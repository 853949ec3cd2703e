"""What train-pr and train-sr share: the clips to train on, frozen targets, the phase's figures."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
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
from neuroclips_cli.data.clip_table import held_out_segments
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import human_size, text_digest
from neuroclips_cli.runs.model_card import FRAMES
from neuroclips_cli.runs.resumable import map_rows, map_texts
from neuroclips_cli.runs.stage import read_array, read_csv, read_json, sha256
from neuroclips_cli.runtime.precision import choose_precision
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.training.checkpoints import TrainingState, seed_torch
from neuroclips_cli.training.samples import derived_seed, split_segments
from neuroclips_cli.training.target_cache import (
    CLIPS_AT_ONCE,
    clip_digests,
    per_frame,
    reused,
    target_key,
)


@dataclass(frozen=True)
class TrainingClips:
    """The training films of one subject.

    Attributes
    ----------
    subject : int
        Its number.
    preprocess : Path
        Where they were read.
    fmri : numpy.ndarray
        float32 (clips, repetitions, voxels) or (clips, repetitions, window, voxels).
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

    subject: int
    preprocess: Path
    fmri: np.ndarray
    frames: np.ndarray
    segments: np.ndarray
    captions: list[str]
    train: np.ndarray
    validation: np.ndarray
    held_out: tuple[int, ...]
    frames_digest: str


def training_clips(
    preprocess: Path, validation_segments: Sequence[int], subject: int = 1
) -> TrainingClips:
    """Open the arrays of preprocess and hold whole segments out.

    Parameters
    ----------
    preprocess : Path
        Finished preprocess folder. Its test arrays are not opened.
    validation_segments : sequence of int
        Segments to hold out, where the run table holds none out (split ``val``).
    subject : int
        Whose scans they are.
    """
    require_training_films(preprocess, "there is nothing to train on")
    rows = [row for row in read_csv(preprocess / "clips.csv") if row["split"] == "train"]
    segments = np.array([int(row["segment"]) for row in rows])
    wanted = held_out_segments(rows) or tuple(validation_segments)
    train, validation, held_out = split_segments(segments, wanted)
    missing = [s for s in wanted if s not in held_out]
    names = ", ".join(map(str, held_out))
    if missing:
        console.info(f"no training segment {missing[0]} in the data; segment {names} validates")
    else:
        console.detail(f"segment {names} ({len(validation)} clips) is held out for validation")
    digest = read_json(preprocess / "manifest.json")["outputs"].get(FRAMES)
    return TrainingClips(
        subject=subject,
        preprocess=preprocess,
        fmri=read_array(preprocess / "fmri_train.npy"),
        frames=read_array(preprocess / FRAMES),
        segments=segments,
        captions=[row["caption"] for row in rows],
        train=train,
        validation=validation,
        held_out=held_out,
        frames_digest=digest or sha256(preprocess / FRAMES),
    )


def require_training_films(preprocess: Path, what: str) -> None:
    """Refuse a subject without training films.

    Raises
    ------
    UserError
        Says ``what`` cannot be done.
    """
    if not (preprocess / FRAMES).exists():
        raise UserError(
            f"{preprocess} holds no training films of this subject, so {what}: preprocess it with "
            "its training runs, or decode it by the average subject of a pool"
        )


Known = Mapping[str, np.ndarray]
"""SHA-256 of a clip's frames -> its targets."""
OfClips = Callable[[TrainingClips, Callable[[], Known]], np.ndarray]


def of_all_films(clips: Sequence[TrainingClips], targets: OfClips) -> list[np.ndarray]:
    """Return every subject's targets; what several saw goes through the network once.

    ``targets`` computes those of one subject's clips; it gets what calls for targets that are
    known, and calls it where its own are not on disk.
    """
    found: list[np.ndarray] = []
    for one in clips:
        before = list(zip(clips, found, strict=False))

        def known(before: Sequence[tuple[TrainingClips, np.ndarray]] = before) -> Known:
            rows: dict[str, np.ndarray] = {}
            for other, values in before:
                rows |= dict(zip(clip_digests(other.frames), values, strict=True))
            return rows

        found.append(targets(one, known))
    return found


def nothing_known() -> Known:
    """Return no targets: those of a subject alone."""
    return {}


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


def latent_targets(
    settings: Settings,
    clips: TrainingClips,
    device: str,
    known: Callable[[], Known] = nothing_known,
) -> np.ndarray:
    """VAE latents of all frames, float16 (clips, Nf, channels, h, w)."""
    size = settings.perception.frame_size

    def encoder() -> Callable[[np.ndarray], np.ndarray]:
        vae = load_vae(settings.backbones.vae, device)
        return lambda frames: encode_frames(vae, resize_frames(frames, size) if size else frames)

    digest = f"{clips.frames_digest} at {size}" if size else clips.frames_digest
    path = _target_path(settings, "latents", digest, settings.backbones.vae, ".npy")
    return _frame_targets(path, clips.frames, encoder, "VAE latents", known)


def map_targets(
    settings: Settings,
    clips: TrainingClips,
    positions: int,
    device: str,
    known: Callable[[], Known] = nothing_known,
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
    return _frame_targets(path, clips.frames, encoder, "ConvNeXt maps", known)


def token_targets(
    settings: Settings,
    clips: TrainingClips,
    device: str,
    known: Callable[[], Known] = nothing_known,
) -> np.ndarray:
    """CLIP image tokens of all frames, float16 (clips, Nf, tokens, dim), in the settings' space."""
    reference = settings.backbones.clip
    precision = choose_precision(settings.run.precision, device)

    space = settings.semantics.token_space

    def encoder() -> Callable[[np.ndarray], np.ndarray]:
        return load_clip(reference, device, precision).in_space(space).tokens

    digest = f"{clips.frames_digest} {space} tokens"
    path = _target_path(settings, "tokens", digest, reference, ".npy", precision)
    return _frame_targets(path, clips.frames, encoder, "CLIP tokens", known)


def _frame_targets(
    path: Path,
    frames: np.ndarray,
    encoder: Callable[[], Callable[[np.ndarray], np.ndarray]],
    what: str,
    known: Callable[[], Known],
) -> np.ndarray:
    def load() -> Callable[[slice], np.ndarray]:
        network = functools.cache(lambda: per_frame(encoder()))
        encode = reused(lambda clips: network()(clips), known())
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


def captions_of(
    settings: Settings,
    clips: TrainingClips,
    device: str,
    known: Callable[[], Known] = nothing_known,
) -> np.ndarray:
    """Return captions, text (clips,) or (clips, Nf).

    A data set that has a caption for every clip gives one per clip. Where captions are missing, the
    captioner describes every frame: Reftm takes the caption of the very frame that is the keyframe
    (paper B.2), and at a film cut the frames of a clip show different things.
    """
    if all(clips.captions):
        return np.array(clips.captions)
    precision = choose_precision(settings.run.precision, device)
    reference, count = settings.backbones.captioner, clips.frames.shape[1]
    path = _target_path(
        settings, "frame-captions", clips.frames_digest, reference, ".json", precision
    )
    frames = clips.frames.reshape(-1, *clips.frames.shape[2:])

    def load() -> Callable[[slice], list[str]]:
        captioner = functools.cache(lambda: load_captioner(reference, device, precision))

        def caption(some: np.ndarray) -> np.ndarray:
            made = captioner().caption(np.ascontiguousarray(some.reshape(-1, *some.shape[2:])))
            return np.array(made, dtype=object).reshape(-1, count)

        rows = {digest: row for digest, row in known().items() if np.shape(row) == (count,)}
        describe = reused(caption, rows)

        def of_piece(piece: slice) -> list[str]:
            some = frames[piece]
            found: list[str] = describe(some.reshape(-1, count, *some.shape[1:])).ravel().tolist()
            return found

        return of_piece

    described = map_texts(path, load, len(frames), batch_size=CLIPS_AT_ONCE * count, shared=True)
    own = [caption for caption in clips.captions for _ in range(count)]
    captions = [given or made for given, made in zip(own, described, strict=True)]
    return np.array(captions, dtype=object).reshape(-1, count)


def text_embeddings(settings: Settings, captions: np.ndarray, device: str) -> np.ndarray:
    """Text embeddings of captions, float16 (clips, embed_dim) or (clips, Nf, embed_dim)."""
    precision = choose_precision(settings.run.precision, device)
    reference = settings.backbones.clip
    texts = captions.ravel().tolist()
    path = _target_path(settings, "text", text_digest(texts), reference, ".npy", precision)

    def load() -> Callable[[slice], np.ndarray]:
        clip = load_clip(reference, device, precision)
        return lambda piece: clip.text_embeddings(texts[piece])

    embeddings = map_rows(
        path, load, len(texts), batch_size=CLIPS_AT_ONCE, dtype="float16", shared=True
    )
    return embeddings.reshape(*captions.shape, embeddings.shape[-1])


def phase_facts(progress: TrainingState, clips: Sequence[TrainingClips]) -> dict[str, Any]:
    """Return what the manifest keeps of a phase: best epoch, its figures, who validated."""
    return {
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "validation": {k: round(v, 6) for k, v in progress.best_metrics.items()},
        "validation_segments": sorted({segment for one in clips for segment in one.held_out}),
    }
