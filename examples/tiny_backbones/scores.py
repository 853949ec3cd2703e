"""What each backbone reaches on films that it never saw."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from neuroclips_cli.backbones.captioner import load_captioner
from neuroclips_cli.backbones.classifiers import load_image_classifier, load_video_classifier
from neuroclips_cli.backbones.clip import load_clip
from neuroclips_cli.backbones.schedulers import load_scheduler
from neuroclips_cli.backbones.unclip import load_unclip
from neuroclips_cli.backbones.vae import decode_latents, encode_frames, load_vae
from neuroclips_cli.backbones.video import load_video_models
from neuroclips_cli.config import load_settings
from neuroclips_cli.generation import keyframe, video
from neuroclips_cli.generation.seeds import clip_generators
from neuroclips_cli.metrics import pixel
from neuroclips_cli.simulation import world

from .classifiers import FRAMES_3FPS
from .films import Pool

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
        texts = np.array([world.caption(scene) for scene in pool.scenes(index)])
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
    exact = [text == world.caption(scene) for text, scene in zip(said, scenes, strict=True)]
    rows = [("BLIP-2", "caption exactly right", _percent(np.array(exact)))]
    for name, words, field in (
        ("kind", world.KINDS, "kind"),
        ("colour", world.COLOURS, "colour"),
        ("setting", world.SETTINGS, "setting"),
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
    image_right = frame.argmax(-1) == [world.image_class(s) for s in scenes]
    video_right = clip.argmax(-1) == [world.video_class(s) for s in scenes]
    return [
        ("ViT", "frame class of 60, top-1", _percent(image_right)),
        ("VideoMAE", "clip class of 60, top-1", _percent(video_right)),
    ]


def unclip_scores(pool: Pool, folder: Path, count: int) -> list[Row]:
    """Class agreement and SSIM of images from the true tokens of frames."""
    settings = load_settings({"run.profile": "tiny"}).reconstruct
    options = keyframe.KeyframeOptions(
        settings.keyframe_steps, settings.keyframe_guidance_scale, "noise", "none"
    )
    frames = pool.frames[:count, 7]
    tokens = load_clip(str(folder / "clip")).tokens(frames)
    unet = load_unclip(str(folder / "unclip"))
    generators = clip_generators(0, range(count), "scores")
    scheduler = load_scheduler(str(folder / "unclip"), keyframe.keyframe_scheduler())
    latents = keyframe.sample_latents(
        unet, torch.from_numpy(tokens), generators, options, scheduler=scheduler
    )
    made = keyframe.keyframe_images(load_vae(str(folder / "vae")), latents, "none")
    judge = load_image_classifier(str(folder / "image_classifier"))
    same = judge.probabilities(made).argmax(-1) == judge.probabilities(frames).argmax(-1)
    ssim = pixel.ssim(made[None], frames[None]).mean()
    return [
        ("unCLIP", "frame class as the original's, from true tokens", _percent(same)),
        ("unCLIP", "SSIM to the original, from true tokens", f"{ssim:.3f}"),
    ]


def video_scores(pool: Pool, folder: Path, count: int) -> list[Row]:
    """Class agreement from text alone, and agreement and SSIM from true guidance."""
    settings = load_settings({"run.profile": "tiny"})
    own = {
        name: str(folder / name)
        for name in (
            "vae",
            "text_encoder",
            "tokenizer",
            "scene_unet",
            "motion_adapter",
            "sparsectrl",
        )
    }
    models = load_video_models(dataclasses.replace(settings.backbones, **own))
    chosen = settings.reconstruct
    options = video.VideoOptions(
        chosen.steps,
        chosen.guidance_scale,
        chosen.control_scale,
        chosen.guide_keyframe,
        chosen.frames,
        chosen.blur_init,
        chosen.theta,
    )
    truth = np.asarray(pool.frames[:count])
    scenes = pool.scenes(np.arange(count))
    judge = load_video_classifier(str(folder / "video_classifier"))
    target = judge.probabilities(truth[:, FRAMES_3FPS]).argmax(-1)
    latents = video.encode_clips(models, truth)
    blurred = torch.nn.functional.avg_pool3d(latents, (1, 3, 3), 1, (0, 1, 1))
    guided = {
        "text alone": ([world.caption(s, with_motion=True) for s in scenes], None, None),
        "true caption, first frame and blurred clip": (
            [world.caption(s) for s in scenes],
            blurred,
            latents[:, :, 0],
        ),
    }
    rows = []
    for name, (texts, alpha, beta) in guided.items():
        parts = []
        for begin in range(0, count, 8):
            part = slice(begin, min(begin + 8, count))
            parts.append(
                video.sample_clip_latents(
                    models,
                    texts[part],
                    "",
                    clip_generators(0, range(count)[part], "scores"),
                    options,
                    latent_size=(8, 8),
                    blurry=None if alpha is None else alpha[part],
                    keyframes=None if beta is None else beta[part],
                )
            )
        made = video.decode_clips(models, torch.cat(parts))
        said = judge.probabilities(made[:, FRAMES_3FPS]).argmax(-1)
        settings_count = len(world.SETTINGS)
        rows.append(("text to video", f"clip class right from {name}", _percent(said == target)))
        rows.append(
            (
                "text to video",
                f"kind right from {name}",
                _percent(said // settings_count == target // settings_count),
            )
        )
        ssim = pixel.ssim(made[:, FRAMES_3FPS], truth[:, FRAMES_3FPS]).mean()
        rows.append(("text to video", f"SSIM from {name}", f"{ssim:.3f}"))
    return rows


def table(pool: Pool, folder: Path, count: int = 64) -> str:
    """Measure every backbone and return a Markdown table."""
    measures: list[Callable[[], list[Row]]] = [
        lambda: vae_scores(pool, folder),
        lambda: clip_scores(pool, folder),
        lambda: captioner_scores(pool, folder),
        lambda: classifier_scores(pool, folder),
        lambda: unclip_scores(pool, folder, 4 * count),
        lambda: video_scores(pool, folder, count),
    ]
    lines = ["| backbone | measure on held-out films | value |", "|---|---|---|"]
    for measure in measures:
        for row in measure():
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"
