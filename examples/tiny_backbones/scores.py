"""What each backbone reaches on films that it never saw."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from neuroclips_cli.backbones.captioner_blip2 import load_captioner
from neuroclips_cli.backbones.classifiers import load_image_classifier, load_video_classifier
from neuroclips_cli.backbones.clip import load_clip
from neuroclips_cli.backbones.schedulers import load_scheduler
from neuroclips_cli.backbones.token_denoiser import load_token_denoiser
from neuroclips_cli.backbones.unclip import load_unclip
from neuroclips_cli.backbones.vae import decode_latents, encode_frames, load_vae
from neuroclips_cli.backbones.video import VideoModels, load_video_models
from neuroclips_cli.generation import keyframe, video
from neuroclips_cli.metrics import pixel
from neuroclips_cli.runtime.seeding import clip_generators
from neuroclips_cli.settings.load import load_settings
from neuroclips_cli.simulation import synthetic_world

from . import unclip
from .classifiers import FRAMES_3FPS
from .films import Pool
from .latents import compute
from .video import OPTIONS

Row = tuple[str, str, str]
RETRIEVAL = 64


def _percent(values: np.ndarray) -> str:
    return f"{100 * float(np.mean(values)):.1f} %"


def vae_scores(pool: Pool, folder: Path) -> list[Row]:
    """PSNR and SSIM of frames through the autoencoder."""
    vae = load_vae(str(folder / "vae"))
    frames = pool.frames[:, 7]
    decoded = decode_latents(vae, encode_frames(vae, frames))
    psnr = pixel.psnr(decoded[None], frames[None]).mean()
    ssim = pixel.ssim(decoded[None], frames[None]).mean()
    return [
        ("VAE", "reconstruction PSNR", f"{psnr:.1f} dB"),
        ("VAE", "reconstruction SSIM", f"{ssim:.3f}"),
    ]


def clip_scores(pool: Pool, folder: Path) -> list[Row]:
    """Top-1 retrieval among 64 pairs, both ways; equal captions count as equal."""
    clip = load_clip(str(folder / "clip"))
    forward, backward = [], []
    for begin in range(0, len(pool.frames) - RETRIEVAL + 1, RETRIEVAL):
        index = np.arange(begin, begin + RETRIEVAL)
        texts = np.array([synthetic_world.caption(scene) for scene in pool.scenes(index)])
        images = clip.image_embeddings(pool.frames[index, 7])
        likeness = images @ clip.text_embeddings(list(texts)).T
        forward.append(texts[likeness.argmax(1)] == texts)
        backward.append(texts[likeness.argmax(0)] == texts)
    return [
        ("OpenCLIP", f"image to text, top-1 of {RETRIEVAL}", _percent(np.array(forward))),
        ("OpenCLIP", f"text to image, top-1 of {RETRIEVAL}", _percent(np.array(backward))),
    ]


def captioner_scores(pool: Pool, folder: Path) -> list[Row]:
    """Exact match, and whether each attribute is named."""
    said = load_captioner(str(folder / "captioner")).caption(pool.frames[:, 7])
    scenes = pool.scenes(np.arange(len(pool.frames)))
    exact = [
        text == synthetic_world.caption(scene) for text, scene in zip(said, scenes, strict=True)
    ]
    rows = [("BLIP-2", "caption exactly right", _percent(np.array(exact)))]
    for name, words, field in (
        ("kind", synthetic_world.KINDS, "kind"),
        ("color", synthetic_world.COLORS, "color"),
        ("setting", synthetic_world.SETTINGS, "setting"),
    ):
        right = [
            f" {words[getattr(scene, field)]} " in f" {text} "
            for text, scene in zip(said, scenes, strict=True)
        ]
        rows.append(("BLIP-2", f"{name} right", _percent(np.array(right))))
    return rows


def classifier_scores(pool: Pool, folder: Path) -> list[Row]:
    """Top-1 accuracy among 60 classes."""
    scenes = pool.scenes(np.arange(len(pool.frames)))
    frame = load_image_classifier(str(folder / "image_classifier")).probabilities(pool.frames[:, 7])
    clip = load_video_classifier(str(folder / "video_classifier")).probabilities(
        pool.frames[:, FRAMES_3FPS]
    )
    image_right = frame.argmax(-1) == [synthetic_world.image_class(s) for s in scenes]
    video_right = clip.argmax(-1) == [synthetic_world.video_class(s) for s in scenes]
    return [
        ("ViT", "frame class of 60, top-1", _percent(image_right)),
        ("VideoMAE", "clip class of 60, top-1", _percent(video_right)),
    ]


def _models(folder: Path, device: str) -> VideoModels:
    names = ("vae", "text_encoder", "tokenizer", "scene_unet", "motion_adapter", "sparsectrl")
    own = {name: str(folder / name) for name in names}
    backbones = load_settings({"run.profile": "tiny"}).backbones
    return load_video_models(dataclasses.replace(backbones, **own), device)


def generated_scores(pool: Pool, folder: Path, count: int, device: str) -> list[Row]:
    """Classes and SSIM of keyframes and clips, from true guidance and as decoded from scans.

    Everything is sampled as ``reconstruct`` does, with the steps that they were trained for. "As
    decoded" are tokens and blurry clips of :class:`DecodedLike`, a keyframe that unCLIP makes
    of them, and a caption that the captioner makes of that.
    """
    latents, known = compute(pool, folder, count), np.arange(count)
    models, unet = _models(folder, device), load_unclip(str(folder / "unclip"), device)
    frames = np.asarray(pool.frames[:count])
    evaluator = load_image_classifier(str(folder / "image_classifier"), device)
    evaluators = evaluator, load_video_classifier(str(folder / "video_classifier"), device)
    scenes = pool.scenes(known)
    rows: list[Row] = []
    true = latents.clips.float().to(device)
    soft = functional.avg_pool3d(true.transpose(1, 2), (1, 3, 3), 1, (0, 1, 1))
    torch.manual_seed(0)
    blurry = unclip.decoded_clips(latents)(true).transpose(1, 2)
    denoise = load_token_denoiser(str(folder / "token_denoiser"), latents.tokens[0, 0].numel())
    tokens = {
        "true tokens": latents.tokens[:, 0].float(),
        "decoded tokens": denoise(unclip.decoded_tokens(latents)(latents.tokens[:, 0].float())),
    }
    starts = {"true tokens": soft, "decoded tokens": blurry}
    made = {}
    for name, condition in tokens.items():
        sampled = keyframe.sample_latents(
            unet,
            condition.to(device),
            clip_generators(0, range(count), "scores"),
            unclip.OPTIONS,
            starts[name][:, :, 0],
            load_scheduler(str(folder / "unclip"), keyframe.keyframe_scheduler()),
        )
        made[name] = keyframe.keyframe_images(models.vae, sampled, "none")
        right = evaluator.probabilities(made[name]).argmax(-1) == [
            synthetic_world.image_class(s) for s in scenes
        ]
        ssim = pixel.ssim(made[name][None], frames[None, :, 0]).mean()
        rows.append(("unCLIP", f"frame class right from {name}", _percent(right)))
        rows.append(("unCLIP", f"SSIM from {name}", f"{ssim:.3f}"))
    said = load_captioner(str(folder / "captioner"), device).caption(made["decoded tokens"])
    named = [synthetic_world.caption(s) for s in scenes]
    drawn = torch.from_numpy(encode_frames(models.vae, made["decoded tokens"]))
    guided = {
        "text alone": ([synthetic_world.caption(s, with_motion=True) for s in scenes], None, None),
        "true caption, first frame and softened clip": (named, soft, true[:, 0]),
        "decoded guidance": (said, blurry, drawn),
    }
    for name, (texts, alpha, beta) in guided.items():
        clips = _clips(models, texts, alpha, beta)
        rows += _clip_rows(name, clips, frames, scenes, evaluators)
    return rows


def _clips(
    models: VideoModels,
    texts: list[str],
    blurry: torch.Tensor | None,
    keyframes: torch.Tensor | None,
) -> np.ndarray:
    at_once = 8 if models.unet.device.type == "cpu" else 128
    parts = []
    for begin in range(0, len(texts), at_once):
        part = slice(begin, min(begin + at_once, len(texts)))
        sampled = video.sample_clip_latents(
            models,
            texts[part],
            "",
            clip_generators(0, range(len(texts))[part], "scores"),
            OPTIONS,
            latent_size=(8, 8),
            blurry=None if blurry is None else blurry[part],
            keyframes=None if keyframes is None else keyframes[part],
        )
        parts.append(video.decode_clips(models, sampled))
    return np.concatenate(parts)


def _clip_rows(
    name: str,
    made: np.ndarray,
    truth: np.ndarray,
    scenes: list[synthetic_world.Scene],
    evaluators: tuple[Any, Any],
) -> list[Row]:
    """Classes of clips and of their first, middle and last frames, and SSIM."""
    image, clip = evaluators
    wanted = np.array([synthetic_world.image_class(s) for s in scenes])
    rows = []
    for where, frame in (("first", 0), ("middle", 7), ("last", -1)):
        right = image.probabilities(made[:, frame]).argmax(-1) == wanted
        rows.append(("text to video", f"class of {where} frame from {name}", _percent(right)))
    said = clip.probabilities(made[:, FRAMES_3FPS]).argmax(-1)
    right = said == [synthetic_world.video_class(s) for s in scenes]
    rows.append(("text to video", f"clip class right from {name}", _percent(right)))
    ssim = pixel.ssim(made[:, FRAMES_3FPS], truth[:, FRAMES_3FPS]).mean()
    rows.append(("text to video", f"SSIM from {name}", f"{ssim:.3f}"))
    return rows


def table(
    pool: Pool,
    folder: Path,
    count: int = 64,
    device: str = "cpu",
    generated_only: bool = False,
) -> str:
    """Measure every backbone, or unCLIP and text-to-video alone; return a Markdown table."""
    measures: list[Callable[[], list[Row]]] = [
        lambda: vae_scores(pool, folder),
        lambda: clip_scores(pool, folder),
        lambda: captioner_scores(pool, folder),
        lambda: classifier_scores(pool, folder),
    ]
    if generated_only:
        measures = []
    measures.append(lambda: generated_scores(pool, folder, count, device))
    lines = ["| backbone | measure on held-out films | value |", "|---|---|---|"]
    for measure in measures:
        for row in measure():
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"
