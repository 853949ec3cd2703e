"""Steps of the generators: keyframe, clip and caption, ours and as the released code makes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neuroclips_cli.backbones.loading import channels_last
from neuroclips_cli.backbones.meta_models import build
from neuroclips_cli.backbones.vae import decode_pixels
from neuroclips_cli.backbones.video import (
    VideoModels,
    animatediff_scheduler,
    combine,
    normalize_per_frame,
)
from neuroclips_cli.generation.keyframe import (
    denoise_images,
    keyframe_scheduler,
    keyframe_timesteps,
)
from neuroclips_cli.generation.video import VideoOptions, denoise_clips
from tests.benchmarks.gpu.modes import RELEASED_FULL, Mode, autocast
from tests.benchmarks.gpu.work import CLIPS, KEYFRAMES, Place, Released, Work

WORDS = 20
"""Tokens of a caption, all of them: random weights know no end."""


def _clock(place: Place) -> str:
    """Where a scheduler's tensors lie: values are needed, which the meta device has not."""
    return "cpu" if place.device == "meta" else place.device


def keyframe_step(place: Place) -> Work:
    """One guided step of unCLIP on a batch of images."""
    settings, items = place.settings, KEYFRAMES[place.size]
    backbones, options = settings.backbones, settings.reconstruct
    unet: Any = channels_last(build("unclip", backbones, place.device))
    side = unet.config.sample_size
    latents = place.normal(items, unet.config.in_channels, side, side)
    condition = place.normal(2 * items, backbones.tokens, backbones.token_dim)
    scheduler = keyframe_scheduler()

    def step(mode: Mode, rows: int) -> Tensor:
        first = keyframe_timesteps(options.keyframe_steps)
        scheduler.set_timesteps(timesteps=first, device=_clock(place))
        scheduler.timesteps = scheduler.timesteps[:1]
        seen = torch.cat([condition[:rows], condition[items : items + rows]])
        with autocast(mode, place.device):
            return denoise_images(
                unet, latents[:rows], seen, scheduler, options.keyframe_guidance_scale
            )

    work = Work(lambda mode: step(mode, items), items, [latents, condition], [unet])
    # utils.unclip_recon: float32 weights, float16 autocast, one image at a time.
    work.released = Released(lambda mode: step(mode, 1), 1)
    return work


def keyframe_decoding(place: Place) -> Work:
    """SDXL's VAE on the latents of a batch of images."""
    vae: Any = channels_last(build("keyframe_vae", place.settings.backbones, place.device))
    unet: Any = build("unclip", place.settings.backbones)
    items, side = KEYFRAMES[place.size], unet.config.sample_size
    latents = place.normal(items, vae.config.latent_channels, side, side)

    def decode(mode: Mode, rows: int) -> Tensor:
        with autocast(mode, place.device):
            return decode_pixels(vae, latents[:rows])

    work = Work(lambda mode: decode(mode, items), items, [latents], [vae], modes=())
    # disable_first_stage_autocast: float32, products in TF32 as the script says.
    full = Mode("released, float32", peak="TF32")
    work.released = Released(lambda mode: decode(mode, 1), 1, full)
    return work


def clip_step(place: Place) -> Work:
    """One guided step of AnimateDiff with SparseCtrl on a batch of clips."""
    settings, items = place.settings, CLIPS[place.size]
    backbones, chosen = settings.backbones, settings.reconstruct
    with torch.device(place.device):
        scene: Any = build("scene_unet", backbones, place.device)
        unet: Any = combine(scene, build("motion_adapter", backbones, place.device))  # type: ignore[arg-type]
    del scene
    unet = channels_last(unet.to(place.device).eval().requires_grad_(False))
    control = normalize_per_frame(build("sparsectrl", backbones, place.device))
    absent: Any = None
    models = VideoModels(
        unet=unet,
        sparsectrl=channels_last(control),  # type: ignore[arg-type]
        vae=absent,
        text_encoder=absent,
        tokenizer=absent,
        scheduler=animatediff_scheduler(),
    )
    options = VideoOptions(
        steps=chosen.steps,
        guidance_scale=chosen.guidance_scale,
        control_scale=chosen.control_scale,
        guide_keyframe=chosen.guide_keyframe,
        hold_keyframe=chosen.hold_keyframe,
        frames=chosen.frames,
    )
    side, channels = settings.data.frame_size // 8, unet.config.in_channels
    words: Any = build("text_encoder", backbones).config
    length = min(77, words.max_position_embeddings)
    latents = place.normal(items, channels, chosen.frames, side, side)
    text = place.normal(2 * items, length, words.hidden_size)
    keyframes = place.normal(items, channels, side, side)

    def step(mode: Mode, rows: int) -> Tensor:
        models.scheduler.set_timesteps(chosen.steps, device=_clock(place))
        first = models.scheduler.timesteps[:1]
        seen = text[:rows]
        if chosen.guidance_scale > 1:
            seen = torch.cat([seen, text[items : items + rows]])
        with autocast(mode, place.device):
            return denoise_clips(models, latents[:rows], first, seen, options, keyframes[:rows])

    inputs = [latents, text, keyframes]
    work = Work(lambda mode: step(mode, items), items, inputs, [unet, control])
    # scripts/neuroclips.py: no half precision anywhere, fused attention, one clip at a time.
    work.released = Released(lambda mode: step(mode, 1), 1, RELEASED_FULL)
    return work


def clip_coding(place: Place) -> Work:
    """Encode the blurry frames of a batch of clips and decode what was generated."""
    settings, items = place.settings, CLIPS[place.size]
    vae: Any = channels_last(build("vae", settings.backbones, place.device))
    frames, size = items * settings.reconstruct.frames, settings.data.frame_size
    pixels = place.normal(frames, 3, size, size)

    @torch.inference_mode()
    def code(mode: Mode, rows: int) -> Tensor:
        with autocast(mode, place.device):
            shown = pixels[:rows].contiguous(memory_format=torch.channels_last)
            return decode_pixels(vae, vae.encode(shown).latent_dist.mean)

    work = Work(lambda mode: code(mode, frames), items, [pixels], [vae], modes=())
    one = settings.reconstruct.frames
    work.released = Released(lambda mode: code(mode, one), 1, RELEASED_FULL)
    return work


def caption(place: Place) -> Work:
    """BLIP-2 on a batch of keyframes, a fixed number of words, greedily."""
    model: Any = build("captioner", place.settings.backbones, place.device)
    items = KEYFRAMES[place.size]
    side = model.config.vision_config.image_size
    pixels = place.normal(items, 3, side, side)
    if place.size == "full":
        # The published processor's place holder for an image; the sizes do not say it.
        model.config.image_token_index = model.config.image_token_id = 50265

    @torch.inference_mode()
    def describe(mode: Mode, rows: int) -> object:
        shown = pixels[:rows]
        if place.device == "meta":
            return _described(model, shown)
        with autocast(mode, place.device):
            return model.generate(
                pixel_values=shown,
                max_new_tokens=WORDS,
                min_new_tokens=WORDS,
                do_sample=False,
                num_beams=1,
            )

    work = Work(lambda mode: describe(mode, items), items, [pixels], [model])
    # caption.py: one image at a time; its float16 weights are float16 autocast here.
    work.released = Released(lambda mode: describe(mode, 1), 1)
    return work


def _described(model: Any, pixels: Tensor) -> object:
    """Do what ``generate`` computes, in one pass: it asks for values, which meta has not."""
    rows = len(pixels)
    seen = model.vision_model(pixel_values=pixels)[0]
    queries = model.query_tokens.expand(rows, -1, -1)
    asked = model.qformer(query_embeds=queries, encoder_hidden_states=seen)[0]
    known = model.language_projection(asked)
    ids = torch.empty(rows, WORDS, dtype=torch.int64, device=pixels.device)
    words = model.get_input_embeddings()(ids)
    return model.language_model(inputs_embeds=torch.cat([known, words], dim=1))
