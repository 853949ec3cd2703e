"""Networks that are not in use are offloaded to the CPU, if the settings ask for it."""

from __future__ import annotations

import numpy as np
import torch

from neuroclips_cli.generation.video_generator import VideoGenerator
from neuroclips_cli.memory_estimate.walk import walk
from neuroclips_cli.runtime.offload import ModelOffloader
from neuroclips_cli.settings.load import load_settings


def network():
    return torch.nn.Linear(3, 3)


def at(*networks):
    return [next(one.parameters()).device.type for one in networks]


def test_one_group_at_a_time_lies_on_the_device(monkeypatch):
    moves = []
    first, second, third = network(), network(), network()
    names = {id(first): "first", id(second): "second", id(third): "third"}
    monkeypatch.setattr(
        torch.nn.Linear, "to", lambda self, device: moves.append((names[id(self)], device))
    )
    offloader = ModelOffloader("cuda", offload=True)
    assert offloader.offload_device == "cpu"
    offloader.load(first, second)
    assert moves == [("first", "cuda"), ("second", "cuda")]
    moves.clear()
    offloader.load(second, third)
    assert moves[0] == ("first", "cpu") and ("second", "cpu") not in moves
    assert ("third", "cuda") in moves


def test_without_offload_nothing_is_moved():
    offloader = ModelOffloader("cuda", offload=False)
    assert offloader.offload_device == "cuda"
    one = network()
    offloader.load(one)
    assert at(one) == ["cpu"]


def test_clips_are_the_same_with_offload_and_the_vae_makes_room():
    clips = {}
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (1, 64, 64, 3), dtype=np.uint8)
    for offload in ("false", "true"):
        given = {"reconstruct.offload": offload, "reconstruct.steps": "2"}
        video = VideoGenerator(load_settings(given, environ={}), "cpu")
        clips[offload] = video.clips([3], keyframes=frames, captions=["a red square"])
    assert np.array_equal(clips["true"], clips["false"])
    assert video.offloader._there == (video.models.vae,)


def test_the_dry_run_counts_what_offload_saves():
    kept, waiting = (
        {
            need.stage: need
            for need in walk(settings, 300, device="cpu", mixed=False, training=False)
        }
        for settings in (
            load_settings({"reconstruct.offload": offload}, environ={})
            for offload in ("false", "true")
        )
    )
    assert waiting["fuse"].weights < 0.8 * kept["fuse"].weights
    name = "reconstruct: clips (video)"
    assert waiting[name].weights < kept[name].weights
