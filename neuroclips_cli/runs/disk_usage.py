"""How much disk a stage will need, told before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuroclips_cli.settings.load import Settings

if TYPE_CHECKING:
    from torch import nn

VIDEO_SHARE = 0.15
"""Size of the video files by the size of the raw frames; they are far smaller as a rule."""
KEYFRAME_LATENTS = 4 * 4 * 96**2
"""Bytes of a keyframe as the published unCLIP makes it: four channels of 96 x 96, float32."""
SELECTED_SHARE = 0.25
"""Share of cortex that is selected: 15 to 25 % of cc2017's vertices (paper 4.1)."""


def of_preprocess(settings: Settings, clips: dict[str, tuple[int, int]], voxels: int) -> float:
    """Bytes of frames and responses.

    Parameters
    ----------
    settings : Settings
        ``[data]`` says how many frames of which size.
    clips : dict
        Split -> (clips, repetitions).
    voxels : int
        Voxels that are tested.
    """
    data = settings.data
    frames = data.frames_per_clip * data.frame_size**2 * 3
    scans = 4 * SELECTED_SHARE * voxels
    return sum(n * (frames + (repeats + 1) * scans) for n, repeats in clips.values())


def of_training(model: nn.Module) -> float:
    """Bytes of a training: best weights, last state with two moments, and the copy being written.

    Parameters
    ----------
    model : nn.Module
        What is trained.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    return 8.0 * weights


def of_reconstruct(settings: Settings, clips: int, without: str | None) -> float:
    """Bytes of blurry clips, tokens, keyframes, clips and videos."""
    data, backbones = settings.data, settings.backbones
    image = data.frame_size**2 * 3
    raw = settings.reconstruct.frames * image
    tokens = 2 * 2 * backbones.tokens * backbones.token_dim
    blurry = 0 if without == "blurry" else data.frames_per_clip * image
    keyframe = 0 if without == "keyframe" else image + KEYFRAME_LATENTS
    return clips * (raw * (1 + VIDEO_SHARE) + tokens + blurry + keyframe)


def of_fuse(settings: Settings, clips: int) -> float:
    """Bytes of the chains, if no two clips were joined, and of their videos."""
    raw = settings.reconstruct.frames * settings.data.frame_size**2 * 3
    return clips * raw * (settings.fuse.max_scans + 1 + VIDEO_SHARE)
