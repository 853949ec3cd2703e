"""Clips from the settings' video models: what ``reconstruct`` and ``fuse`` share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from neuroclips_cli import console
from neuroclips_cli.backbones.schedulers import halve_steps, solver_scheduler
from neuroclips_cli.backbones.solvers import solver_of
from neuroclips_cli.backbones.token_space import STANDARD
from neuroclips_cli.backbones.vae import encode_frames
from neuroclips_cli.backbones.video import load_video_models
from neuroclips_cli.generation.files import write_video
from neuroclips_cli.generation.interpolation import interpolate_frames
from neuroclips_cli.generation.video import (
    VideoOptions,
    decode_clips,
    encode_clips,
    sample_clip_latents,
)
from neuroclips_cli.io import atomic
from neuroclips_cli.runtime import distributed, threads
from neuroclips_cli.runtime.compilation import compile_blocks
from neuroclips_cli.runtime.offload import ModelOffloader
from neuroclips_cli.runtime.precision import choose_precision
from neuroclips_cli.runtime.seeding import clip_generators
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.settings.schema import ReconstructSettings


def video_options(chosen: ReconstructSettings) -> VideoOptions:
    """Return how clips are sampled, as the settings ask for it."""
    return VideoOptions(
        steps=halve_steps(chosen.steps) if chosen.fast else chosen.steps,
        guidance_scale=chosen.guidance_scale,
        control_scale=chosen.control_scale,
        guide_keyframe=chosen.guide_keyframe,
        hold_keyframe=chosen.hold_keyframe,
        frames=chosen.frames,
        blur_init=chosen.blur_init,
        theta=chosen.theta,
    )


class VideoGenerator:
    """The text-to-video networks, ready to generate clips by number.

    Attributes
    ----------
    shape : tuple of int
        (frames, height, width, 3) of one clip.
    """

    def __init__(
        self, settings: Settings, device: str, offloader: ModelOffloader | None = None
    ) -> None:
        self.settings = settings
        self.chosen = settings.reconstruct
        size = settings.data.frame_size
        self.shape = (self.chosen.frames, size, size, 3)
        self.offloader = offloader or ModelOffloader(device, self.chosen.offload)
        self.models = load_video_models(
            settings.backbones,
            self.offloader.offload_device,
            choose_precision(settings.run.precision, device),
            distilled_scale=self.chosen.distilled_scale,
        )
        if self.chosen.compile:
            compile_blocks(self.models.unet)
            compile_blocks(self.models.sparsectrl)
        scheduler = solver_scheduler(self.models.scheduler, solver_of(settings))
        self.models = replace(self.models, scheduler=scheduler)
        reduction = 2 ** (len(self.models.vae.config.block_out_channels) - 1)
        self.latent_size = (size // reduction, size // reduction)
        self.options = video_options(self.chosen)

    def clips(
        self,
        numbers: Sequence[int],
        *,
        blurry: np.ndarray | None = None,
        keyframes: np.ndarray | None = None,
        keyframe_latents: np.ndarray | None = None,
        captions: Sequence[str] | None = None,
        purpose: str = "clip",
    ) -> np.ndarray:
        """Generate clips.

        Parameters
        ----------
        numbers : sequence of int
            Test clips; they decide the random numbers.
        blurry : numpy.ndarray, optional
            uint8 (clips, Nf, h, w, 3): alpha guidance.
        keyframes : numpy.ndarray, optional
            uint8 (clips, h, w, 3): beta guidance.
        keyframe_latents : numpy.ndarray, optional
            float32 (clips, channels, h, w), what the keyframes were decoded from. Where unCLIP
            works in the latent space of the clips they are taken as they are, and the keyframes
            are not encoded again, which would cost detail.
        captions : sequence of str, optional
            Gamma guidance; the paper's "a smooth video" where absent.
        purpose : str
            Another word gives other random numbers.

        Returns
        -------
        numpy.ndarray
            uint8 ``(clips, *shape)``.
        """
        models = self.models
        self.offloader.load(models.vae)
        start = first = None
        if blurry is not None:
            smooth = interpolate_frames(np.asarray(blurry), self.chosen.frames)
            start = encode_clips(models, smooth)
        if keyframe_latents is not None and self._same_space(keyframe_latents):
            first = torch.from_numpy(np.array(keyframe_latents, dtype=np.float32))
        elif keyframes is not None:
            first = torch.from_numpy(encode_frames(models.vae, np.asarray(keyframes)))
        self.offloader.load(models.text_encoder, models.unet, models.sparsectrl)
        latents = sample_clip_latents(
            models,
            self._prompts(captions, len(numbers)),
            self.chosen.negative_prompt,
            clip_generators(self.settings.run.seed, numbers, purpose),
            self.options,
            latent_size=self.latent_size,
            blurry=start,
            keyframes=first,
        )
        self.offloader.load(models.vae)
        return decode_clips(models, latents)

    def _same_space(self, keyframe_latents: np.ndarray) -> bool:
        """Say whether unCLIP's latents decode to the keyframes by the clips' own VAE."""
        backbones = self.settings.backbones
        return (
            backbones.keyframe_vae == backbones.vae
            and self.settings.semantics.token_space == STANDARD
            and keyframe_latents.shape[-2:] == self.latent_size
        )

    def _prompts(self, captions: Sequence[str] | None, count: int) -> list[str]:
        if captions is None:
            return [self.chosen.prompt_without_keyframe] * count
        return [caption + self.chosen.prompt_suffix for caption in captions]


def write_videos(folder: Path, clips: Iterable[np.ndarray], fps: int, names: Sequence[str]) -> None:
    """Write clips as ``<folder>/<name>``; files that are there already are left.

    Several processes write every so many files each, and one shares its own out to threads.

    Parameters
    ----------
    folder : pathlib.Path
        Made where it does not exist.
    clips : iterable of numpy.ndarray
        uint8 (frames, h, w, 3) each.
    fps : int
        Frames per second.
    names : sequence of str
        One per clip, ending in ``.mp4``.
    """
    folder.mkdir(exist_ok=True)

    def write(numbered: tuple[int, tuple[np.ndarray, str]]) -> None:
        number, (clip, name) = numbered
        mine = number % distributed.world_size() == distributed.get_rank()
        if mine and not (folder / name).exists():
            with atomic.atomic_path(folder / name) as path:
                write_video(path, clip, fps)

    with console.progress("Video files", total=len(names)) as advance:
        for _ in threads.in_order(write, enumerate(zip(clips, names, strict=True))):
            advance(1)
    distributed.barrier()
