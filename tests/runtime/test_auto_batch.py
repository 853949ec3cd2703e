"""How many clips are generated together: found by memory, halved where it runs out, no effect."""

from __future__ import annotations

import pytest
import random_backbones as tiny
import torch

from neuroclips_cli.backbones import vae
from neuroclips_cli.backbones.schedulers import halve_steps, solver_scheduler
from neuroclips_cli.backbones.video import load_video_models
from neuroclips_cli.generation.video import VideoOptions, sample_clip_latents
from neuroclips_cli.runtime import auto_batch
from neuroclips_cli.runtime.auto_batch import AutoBatcher, fitting
from neuroclips_cli.runtime.seeding import clip_generators
from neuroclips_cli.settings.load import load_settings


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    flags = {
        f"backbones.{name}": value
        for name, value in tiny.save_all(tmp_path_factory.mktemp("backbones")).items()
    }
    return load_video_models(load_settings(flags, environ={}).backbones)


@pytest.mark.parametrize("solver", ["ddim", "dpm", "euler", "lcm"])
def test_the_size_of_a_batch_does_not_change_the_clips(models, solver):
    scheduler = solver_scheduler(models.scheduler, solver)
    models = type(models)(**{**vars(models), "scheduler": scheduler})
    size = tiny.FRAME_SIZE // 8
    options = VideoOptions(
        steps=halve_steps(6), guidance_scale=3.0, frames=4, blur_init="strength:0.8"
    )
    draw = torch.Generator().manual_seed(0)
    blurry = torch.randn(5, 4, 4, size, size, generator=draw)
    keyframes = torch.randn(5, 4, size, size, generator=draw)

    def sample(rows: slice) -> torch.Tensor:
        numbers = range(5)[rows]
        return sample_clip_latents(
            models,
            [f"a film of {number} things" for number in numbers],
            "blurred",
            clip_generators(0, numbers, "clip"),
            options,
            latent_size=(size, size),
            blurry=blurry[rows],
            keyframes=keyframes[rows],
        )

    made = [torch.cat([rows for _, rows in AutoBatcher(n).map(0, 5, sample)]) for n in (1, 2, 5)]
    for other in made[1:]:
        assert (other - made[0]).abs().max() < 1e-5 * made[0].abs().max()


def test_pieces_are_halved_until_they_fit_and_stay_so():
    asked = []

    def compute(piece: slice) -> list[int]:
        asked.append(piece.stop - piece.start)
        if asked[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(range(10)[piece])

    pieces = list(AutoBatcher(8).map(1, 10, compute))
    assert sum((rows for _, rows in pieces), []) == list(range(1, 10))
    assert asked == [8, 4, 2, 2, 2, 2, 1]


def test_one_item_that_does_not_fit_is_an_error():
    def compute(piece: slice) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        list(AutoBatcher(4).map(0, 3, compute))


def test_as_many_as_the_gpu_holds_are_taken(monkeypatch):
    assert AutoBatcher(0).size == auto_batch.ON_CPU
    assert [fitting(n, 100) for n in (1, 10, 30, 500, 0)] == [
        auto_batch.MOST,
        8,
        2,
        1,
        auto_batch.MOST,
    ]
    answers = {
        "is_available": True,
        "is_initialized": True,
        "memory_allocated": 50,
        "max_memory_allocated": 70,
        "mem_get_info": (130, 200),
        "reset_peak_memory_stats": None,
        "empty_cache": None,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    pieces = list(AutoBatcher(0).map(0, 9, lambda piece: piece.stop - piece.start))
    assert [count for _, count in pieces] == [1, 5, 3]


def test_a_vae_short_of_memory_takes_fewer_frames_then_tiles(models, monkeypatch):
    latents = torch.randn(6, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = vae.decode_pixels(models.vae, latents)
    decode, sizes = models.vae.decode, []

    def narrow(chunk: torch.Tensor) -> object:
        sizes.append(len(chunk))
        if len(chunk) > 1 or not models.vae.use_tiling:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(chunk)

    monkeypatch.setattr(models.vae, "decode", narrow)
    try:
        assert torch.allclose(vae.decode_pixels(models.vae, latents), whole, atol=1e-5)
    finally:
        models.vae.disable_tiling()
    assert sizes[:3] == [6, 3, 1] and set(sizes[-6:-2]) <= {1, 2, 3}


def test_attention_is_pytorchs_own(models):
    for network in (models.unet, models.sparsectrl, models.vae):
        kinds = {type(p).__name__ for p in network.attn_processors.values()}
        assert kinds == {"AttnProcessor2_0"}
    assert models.text_encoder.config._attn_implementation == "sdpa"


def test_fast_takes_half_the_steps():
    assert [halve_steps(n) for n in (25, 12, 1)] == [13, 6, 1]
