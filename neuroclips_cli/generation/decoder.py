"""From scans to blurry clips, image tokens, keyframes and clips, by a run's trained networks.

Each class holds the networks of one part of a reconstruction (paper 3.3) and computes any clips
of it; ``reconstruct`` streams them to disk, :func:`decode` keeps them in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from neuroclips_cli.backbones.pixels import resize_frames
from neuroclips_cli.backbones.schedulers import load_scheduler
from neuroclips_cli.backbones.token_space import STANDARD, contrast_for
from neuroclips_cli.backbones.unclip import load_unclip
from neuroclips_cli.backbones.vae import decode_latents, encode_frames, load_vae
from neuroclips_cli.generation.fast import fewer
from neuroclips_cli.generation.keyframe import (
    KeyframeOptions,
    keyframe_images,
    keyframe_scheduler,
    sample_latents,
)
from neuroclips_cli.generation.tokens import sample_tokens, sample_without_scans
from neuroclips_cli.models import checkpoint
from neuroclips_cli.runtime.precision import compute_in
from neuroclips_cli.runtime.seeding import clip_generators
from neuroclips_cli.settings.load import Settings

PARTS = ("blurry", "tokens", "keyframes", "captions", "clips")
"""Parts of a reconstruction in the order in which they are made."""


def _to_device(fmri: np.ndarray, device: str) -> torch.Tensor:
    return torch.from_numpy(np.array(fmri, dtype=np.float32)).to(device)


class BlurryDecoder:
    """The Perception Reconstructor and the VAE: blurry clips from scans (alpha guidance).

    Parameters
    ----------
    settings : Settings
        ``[data]`` and ``backbones.vae`` are used.
    folder : pathlib.Path
        A finished ``train-pr`` stage.
    device : str
        A torch device.
    precision : str
        ``float32`` or ``bfloat16``.

    Attributes
    ----------
    shape : tuple of int
        (Nf, height, width, 3) of one blurry clip.
    """

    def __init__(self, settings: Settings, folder: Path, device: str, precision: str) -> None:
        size = settings.data.frame_size
        self.device = device
        self.shape = (settings.data.frames_per_clip, size, size, 3)
        self.perception = checkpoint.load_perception(folder).to(device).eval()
        compute_in(precision, self.perception, store=False)
        self.vae = load_vae(settings.backbones.vae, device)

    @torch.inference_mode()
    def __call__(self, fmri: np.ndarray) -> np.ndarray:
        """Decode float32 (clips, voxels) to uint8 (clips, *shape)."""
        latents = self.perception(_to_device(fmri, self.device)).flatten(0, 1)
        pixels = resize_frames(decode_latents(self.vae, latents), self.shape[1])
        return pixels.reshape(-1, *self.shape)


class TokenDecoder:
    """The Semantics Reconstructor: CLIP image tokens from scans.

    Parameters
    ----------
    settings : Settings
        ``[backbones]`` and ``run.seed`` are used.
    folder : pathlib.Path
        A finished ``train-sr`` stage.
    device : str
        A torch device.
    precision : str
        ``float32`` or ``bfloat16``.

    Attributes
    ----------
    shape : tuple of int
        (tokens, dim) of one clip.
    """

    def __init__(self, settings: Settings, folder: Path, device: str, precision: str) -> None:
        self.device, self.seed = device, settings.run.seed
        self.shape = (settings.backbones.tokens, settings.backbones.token_dim)
        self.semantics = checkpoint.load_semantics(folder).to(device).eval()
        compute_in(precision, self.semantics.diffusion_prior.net, store=False)
        compute_in(precision, self.semantics, store=False)

    @torch.inference_mode()
    def contrastive(self, fmri: np.ndarray) -> np.ndarray:
        """Decode float32 (clips, voxels) to the contrastive tokens, float32 (clips, *shape)."""
        return self.semantics(_to_device(fmri, self.device))[1].float().cpu().numpy()

    def prior(self, fmri: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
        """Decode float32 (clips, voxels) through the diffusion prior.

        Parameters
        ----------
        fmri : numpy.ndarray
            float32 (clips, voxels).
        numbers : sequence of int
            Test clips; with the seed they decide the random numbers.

        Returns
        -------
        numpy.ndarray
            float32 (clips, *shape), in the scale of the CLIP model's tokens.
        """
        generators = clip_generators(self.seed, numbers, "tokens")
        scans = _to_device(fmri, self.device)
        return sample_tokens(self.semantics, scans, generators).float().cpu().numpy()

    def without_scans(self, numbers: Sequence[int]) -> np.ndarray:
        """Draw tokens from the prior without a condition, float32 (clips, *shape)."""
        generators = clip_generators(self.seed, numbers, "tokens")
        return sample_without_scans(self.semantics, generators).float().cpu().numpy()


class KeyframeGenerator:
    """The unCLIP denoiser and its VAE: keyframes from image tokens (beta guidance).

    Parameters
    ----------
    settings : Settings
        ``[reconstruct]``, ``[backbones]``, ``semantics.token_space`` and ``run.seed`` are used.
    device : str
        A torch device.
    precision : str
        ``float32`` or ``bfloat16``.

    Attributes
    ----------
    shape : tuple of int
        (height, width, 3) of one keyframe.
    options : KeyframeOptions
        How they are sampled.
    """

    def __init__(self, settings: Settings, device: str, precision: str) -> None:
        chosen, size = settings.reconstruct, settings.data.frame_size
        space = settings.semantics.token_space
        self.device, self.seed, self.shape = device, settings.run.seed, (size, size, 3)
        self.options = KeyframeOptions(
            steps=fewer(chosen.keyframe_steps) if chosen.fast else chosen.keyframe_steps,
            guidance_scale=chosen.keyframe_guidance_scale,
            start=chosen.keyframe_start,
            contrast=contrast_for(space, chosen.keyframe_contrast),
        )
        self.from_blurry = self.options.strength() is not None
        # What unCLIP makes of published tokens decodes to 0..1, not to -1..1.
        self.signed = space == STANDARD
        self.unet = load_unclip(settings.backbones.unclip, device, precision)
        self.scheduler = load_scheduler(settings.backbones.unclip, keyframe_scheduler())
        self.vae = load_vae(settings.backbones.keyframe_vae, device)

    def __call__(
        self, tokens: np.ndarray, numbers: Sequence[int], blurry: np.ndarray | None = None
    ) -> np.ndarray:
        """Generate keyframes.

        Parameters
        ----------
        tokens : numpy.ndarray
            float (clips, tokens, dim).
        numbers : sequence of int
            Test clips; with the seed they decide the random numbers.
        blurry : numpy.ndarray, optional
            uint8 (clips, Nf, h, w, 3), whose first frames the denoising starts from where
            ``reconstruct.keyframe_start`` says so.

        Returns
        -------
        numpy.ndarray
            uint8 (clips, *shape).
        """
        latents = sample_latents(
            self.unet,
            torch.from_numpy(tokens.astype(np.float32)).to(self.device),
            clip_generators(self.seed, numbers, "keyframe"),
            self.options,
            self._start(blurry),
            self.scheduler,
        )
        images = keyframe_images(self.vae, latents, self.options.contrast)
        return resize_frames(images, self.shape[0])

    def _start(self, blurry: np.ndarray | None) -> torch.Tensor | None:
        """Return the latents of the first blurry frames, None where sampling starts from noise."""
        if blurry is None or not self.from_blurry:
            return None
        inner = self.unet.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1)
        frames = resize_frames(np.array(blurry[:, 0]), inner)
        return torch.from_numpy(encode_frames(self.vae, frames, signed=self.signed))
