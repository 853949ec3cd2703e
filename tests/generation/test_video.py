"""Keyframes and clips on random networks: every guidance matters, batches do not."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import random_backbones as tiny
import torch
from diffusers import DDIMScheduler

from neuroclips_cli.backbones.schedulers import solver_scheduler
from neuroclips_cli.backbones.unclip import load_unclip
from neuroclips_cli.backbones.vae import load_vae
from neuroclips_cli.backbones.video import animatediff_scheduler, load_video_models
from neuroclips_cli.data.clip_table import parse_clips
from neuroclips_cli.errors import UserError
from neuroclips_cli.generation.alpha import parse_blur_init, start_latents
from neuroclips_cli.generation.keyframe import KeyframeOptions, keyframe_images, sample_latents
from neuroclips_cli.generation.video import (
    VideoOptions,
    decode_clips,
    denoise_clips,
    encode_clips,
    sample_clip_latents,
)
from neuroclips_cli.runtime.seeding import clip_generators, randn_per_clip
from neuroclips_cli.settings.schema import BackboneSettings

CLIPS = (3, 8, 11)
SIZE = tiny.FRAME_SIZE
STRONG = VideoOptions(steps=4, guidance_scale=3.0, frames=4, blur_init="strength:0.5")


@pytest.fixture(scope="module")
def backbones(tmp_path_factory) -> BackboneSettings:
    return BackboneSettings(**tiny.save_all(tmp_path_factory.mktemp("backbones")))


@pytest.fixture(scope="module")
def models(backbones):
    return load_video_models(backbones)


@pytest.fixture(scope="module")
def blurry(models) -> torch.Tensor:
    clips = np.random.default_rng(1).integers(0, 256, (3, 4, SIZE, SIZE, 3), dtype=np.uint8)
    return encode_clips(models, clips)


def sample(models, clips=CLIPS, options=STRONG, **guidance) -> torch.Tensor:
    prompts = guidance.pop("prompts", ["a red ball"] * len(clips))
    return sample_clip_latents(
        models,
        prompts,
        "a blue star",
        clip_generators(0, clips, "clip"),
        options,
        latent_size=(SIZE // 8, SIZE // 8),
        **guidance,
    )


@pytest.fixture(scope="module")
def keyframes() -> torch.Tensor:
    return randn_per_clip(clip_generators(5, CLIPS, "keyframe"), (4, SIZE // 8, SIZE // 8), "cpu")


@pytest.fixture(scope="module")
def guided(models, blurry, keyframes) -> torch.Tensor:
    return sample(models, blurry=blurry, keyframes=keyframes)


def test_random_numbers_belong_to_the_clip():
    alone = randn_per_clip(clip_generators(0, [8], "clip"), (2,), "cpu")
    together = randn_per_clip(clip_generators(0, CLIPS, "clip"), (2,), "cpu")
    assert torch.equal(alone[0], together[1])
    assert not torch.equal(alone, randn_per_clip(clip_generators(1, [8], "clip"), (2,), "cpu"))
    assert not torch.equal(alone, randn_per_clip(clip_generators(0, [8], "link"), (2,), "cpu"))


def test_a_clip_comes_out_the_same_alone_and_in_a_batch(models, blurry, keyframes, guided):
    alone = sample(models, clips=[8], blurry=blurry[1:2], keyframes=keyframes[1:2])
    assert torch.allclose(alone[0], guided[1], atol=1e-3, rtol=1e-3)


def test_every_guidance_changes_the_clip(models, blurry, keyframes, guided):
    assert guided.shape == (3, 4, 4, SIZE // 8, SIZE // 8)
    variants = {
        "no blurry clip": {"keyframes": keyframes},
        "another blurry clip": {"keyframes": keyframes, "blurry": blurry.flip(0)},
        "no keyframe": {"blurry": blurry},
        "another keyframe": {"blurry": blurry, "keyframes": keyframes.flip(0)},
        "another prompt": {
            "blurry": blurry,
            "keyframes": keyframes,
            "prompts": ["in the forest"] * 3,
        },
    }
    for name, guidance in variants.items():
        other = sample(models, **guidance)
        assert (other[0] - guided[0]).abs().max() > 1e-3, name


def test_less_strength_keeps_more_of_the_blurry_clip(models, blurry, keyframes):
    distance = []
    for strength in (0.25, 1.0):
        options = VideoOptions(
            steps=4, guidance_scale=1.0, frames=4, blur_init=f"strength:{strength}"
        )
        result = sample(models, options=options, blurry=blurry, keyframes=keyframes)
        distance.append((result - blurry).abs().mean())
    assert distance[0] < distance[1]


def test_guidance_of_one_skips_the_negative_prompt(models, blurry):
    options = VideoOptions(steps=2, guidance_scale=1.0, frames=4)
    calls = []
    hook = models.unet.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    sample(models, options=options, blurry=blurry)
    hook.remove()
    assert calls == [3, 3]


def test_guiding_the_keyframe_leaves_the_unconditional_half_without_control(
    models, blurry, keyframes
):
    text_only = dataclasses.replace(STRONG, steps=1)
    both = dataclasses.replace(text_only, guide_keyframe=True)
    clips, controlled = {}, []
    hook = models.sparsectrl.register_forward_pre_hook(
        lambda _, inputs: controlled.append(len(inputs[0]))
    )
    for name, options in (("text", text_only), ("both", both)):
        clips[name] = sample(models, options=options, blurry=blurry, keyframes=keyframes)
    hook.remove()
    assert controlled == [6, 3]
    without = sample(models, options=text_only, blurry=blurry)
    moved = {name: (clip - without).abs().mean() for name, clip in clips.items()}
    assert moved["both"] > 1.5 * moved["text"]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("solver", ["ddim", "dpm", "euler", "lcm"])
def test_what_a_clip_misses_of_its_held_keyframe_is_added_to_every_frame(
    models, blurry, solver, prediction
):
    base = DDIMScheduler.from_config(animatediff_scheduler().config, prediction_type=prediction)
    own = dataclasses.replace(models, scheduler=solver_scheduler(base, solver))
    keyframes, more = blurry[:, :, 2] + 1, torch.linspace(-1, 1, 4).view(1, 4, 1, 1)
    # Without control the networks see nothing of the keyframe, in one step none of its effect.
    options = VideoOptions(steps=1, guidance_scale=1.0, control_scale=0.0, frames=4)
    hold = dataclasses.replace(options, hold_keyframe=True)
    held = sample(own, options=hold, blurry=blurry, keyframes=keyframes)
    other = sample(own, options=hold, blurry=blurry, keyframes=keyframes + more)
    assert torch.allclose(held[:, :, 0], keyframes, atol=1e-5)
    assert torch.allclose(other - held, more[:, :, None].expand_as(held), atol=1e-4)
    free = sample(own, options=options, blurry=blurry, keyframes=keyframes)
    assert torch.allclose(held - free, (keyframes - free[:, :, 0])[:, :, None], atol=1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_every_step_predicts_a_clip_with_its_held_keyframes(models, blurry, prediction):
    """What diffusers' own scheduler makes of a corrected prediction shows the keyframes."""
    own = DDIMScheduler.from_config(animatediff_scheduler().config, prediction_type=prediction)
    own.set_timesteps(4)
    seen, step = [], own.step

    def watch(predicted, time, state, **options):
        made = step(predicted, time, state, **options)
        seen.append(made.pred_original_sample)
        return made

    own.step = watch
    keyframes = torch.stack([blurry[:, :, 1], 2 - blurry[:, :, 3]], dim=2)
    places = (1, 3)
    options = VideoOptions(
        steps=4, guidance_scale=3.0, frames=4, hold_keyframe=True, keyframe_places=places
    )
    networks = dataclasses.replace(models, scheduler=own)
    clips = sample(networks, options=options, blurry=blurry, keyframes=keyframes)
    assert len(seen) == 4
    for made in [*seen, clips]:
        assert torch.allclose(made[:, :, list(places)], keyframes, atol=1e-3)


def test_clips_decode_to_pixels_in_order(models, blurry):
    pixels = decode_clips(models, blurry)
    assert pixels.shape == (3, 4, SIZE, SIZE, 3) and pixels.dtype == np.uint8
    again = decode_clips(models, blurry[1:2])
    assert np.abs(pixels[1].astype(int) - again[0]).max() <= 1


@pytest.mark.parametrize("start", ["noise", "blurry:0.5"])
def test_keyframes_follow_tokens_and_seed(backbones, start):
    unet, vae = load_unclip(backbones.unclip), load_vae(backbones.keyframe_vae)
    options = KeyframeOptions(steps=4, guidance_scale=2.0, start=start)
    tokens = randn_per_clip(
        clip_generators(0, CLIPS, "tokens"), (tiny.TOKENS, tiny.TOKEN_DIM), "cpu"
    )
    first = randn_per_clip(clip_generators(0, CLIPS, "blurry"), (4, SIZE // 8, SIZE // 8), "cpu")

    def run(tokens, first, clips):
        return sample_latents(unet, tokens, clip_generators(0, clips, "keyframe"), options, first)

    whole = run(tokens, first, CLIPS)
    assert torch.allclose(run(tokens[1:2], first[1:2], [8])[0], whole[1], atol=1e-3, rtol=1e-3)
    assert (run(tokens.flip(0), first, CLIPS)[0] - whole[0]).abs().max() > 1e-3
    changed = (run(tokens, first.flip(0), CLIPS)[0] - whole[0]).abs().max()
    assert changed > 1e-3 if start != "noise" else changed == 0
    plain, published = (keyframe_images(vae, whole, name) for name in ("none", "released"))
    assert plain.shape == (3, SIZE, SIZE, 3) and not np.array_equal(plain, published)


@pytest.mark.parametrize("value", ["", "eq6", "strength", "strength:0", "strength:1.5", "eq5:1"])
def test_an_unknown_start_is_refused(value):
    with pytest.raises(UserError, match="blur_init"):
        parse_blur_init(value)


@pytest.mark.parametrize(
    "options", [{"start": "blurry"}, {"start": "film:1"}, {"contrast": "strong"}]
)
def test_unknown_keyframe_settings_are_refused(options):
    with pytest.raises(UserError, match="keyframe_"):
        KeyframeOptions(**options).strength()


def test_clip_ranges_are_read():
    assert parse_clips(None, 4) == [0, 1, 2, 3]
    assert parse_clips("1:3", 4) == [1, 2]
    assert parse_clips("3", 4) == [3]
    assert parse_clips("0,2:", 4) == [0, 2, 3]
    assert parse_clips("0:50", 4) == [0, 1, 2, 3]
    for wrong in ("a:b", "9:12", "1:2:3:4", ":", "::0", ","):
        if wrong == ":":
            assert parse_clips(wrong, 4) == [0, 1, 2, 3]
            continue
        with pytest.raises(UserError):
            parse_clips(wrong, 4)


def test_video_files_hold_the_frames(tmp_path):
    import decord

    from neuroclips_cli.generation.files import write_video

    frames = np.zeros((16, 64, 64, 3), dtype=np.uint8)
    frames[:, 16:48, 16:48] = np.linspace(40, 220, 16).astype(np.uint8)[:, None, None, None]
    write_video(tmp_path / "clip.mp4", frames, fps=8)
    video = decord.VideoReader(str(tmp_path / "clip.mp4"))
    assert len(video) == 16 and video.get_avg_fps() == 8
    read = video[:].asnumpy()
    assert np.abs(read.astype(int) - frames).mean() < 4


def test_strength_starts_at_its_share_of_the_steps_and_the_others_at_the_first():
    scheduler = animatediff_scheduler()
    scheduler.set_timesteps(25)
    nothing = torch.zeros(1, 4, 2, 2, 2)
    steps = start_latents(nothing, nothing, scheduler, "strength:0.28", 0.3)[1]
    assert steps.tolist() == [241, 201, 161, 121, 81, 41, 1]
    for word in ("eq5", "released"):
        assert len(start_latents(nothing, nothing, scheduler, word, 0.3)[1]) == 25


@pytest.mark.parametrize(("solver", "steps"), [("ddim", 4), ("dpm", 4), ("euler", 2), ("lcm", 4)])
@pytest.mark.parametrize("start", ["noise", "eq5", "released", "strength:0.5"])
def test_every_solver_reaches_the_clip_that_a_perfect_denoiser_knows(solver, steps, start):
    schedule = animatediff_scheduler()
    clean, noise, blurry = torch.randn(3, 2, 4, 3, 5, 5, generator=torch.Generator().manual_seed(0))

    def denoiser(states, step, **_):
        # It is shown sqrt(a) clean + sqrt(1 - a) noise, and asked for the noise.
        a = schedule.alphas_cumprod[int(step)]
        return SimpleNamespace(sample=(states - a.sqrt() * clean) / (1 - a).sqrt())

    scheduler = solver_scheduler(schedule, solver)
    scheduler.set_timesteps(steps)
    models = SimpleNamespace(unet=denoiser, sparsectrl=None, scheduler=scheduler)
    begin, timesteps = noise * scheduler.init_noise_sigma, scheduler.timesteps
    if start != "noise":
        begin, timesteps = start_latents(blurry, noise, scheduler, start, theta=0.3)
    found = denoise_clips(
        models,
        begin,
        timesteps,
        torch.zeros(2, 1, 1),
        VideoOptions(guidance_scale=1.0),
        generators=clip_generators(0, [1, 2], "clip"),
    )
    torch.testing.assert_close(found, clean, atol=2e-3, rtol=0)


def test_what_a_solver_is_shown_first_is_the_mixture_of_eq_5_whatever_its_own_scale():
    shown = {}
    noise, blurry = torch.randn(2, 1, 4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    for solver in ("ddim", "euler", "lcm"):
        scheduler = solver_scheduler(animatediff_scheduler(), solver)
        scheduler.set_timesteps(4)
        begin, timesteps = start_latents(blurry, noise, scheduler, "eq5", theta=0.3)
        shown[solver] = scheduler.scale_model_input(begin, timesteps[0])
    torch.testing.assert_close(shown["euler"], shown["ddim"], atol=1e-4, rtol=0)
    assert torch.equal(shown["lcm"], shown["ddim"])
