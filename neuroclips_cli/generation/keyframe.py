"""Beta guidance's keyframe: an image from decoded CLIP tokens by unCLIP (paper 3.3, D).

Order of operations: (1) random numbers of each image, (2) start latents, (3) Euler steps with
classifier-free guidance, (4) decoding by the VAE, (5) contrast mapping. Of
several candidates one is chosen afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from diffusers.models.embeddings import get_timestep_embedding
from numpy.typing import NDArray

from neuroclips_cli.backbones.pixels import to_uint8
from neuroclips_cli.backbones.vae import decode_pixels
from neuroclips_cli.errors import UserError
from neuroclips_cli.generation.alpha import parse_strength
from neuroclips_cli.runtime.seeding import randn_per_clip

OFFSET_NOISE = 0.04  # one number per image, as in the released sampler
CONTRASTS = {"none": (0.5, 0.5), "released": (0.8, 0.2)}


@dataclass(frozen=True)
class KeyframeOptions:
    """How keyframes are sampled.

    Attributes
    ----------
    steps : int
        Euler steps of the whole process (released: 38).
    guidance_scale : float
        Classifier-free guidance (released: 5).
    start : str
        ``noise``, or ``blurry:<x>``: from the first blurry frame noised to share x of the
        process.
    contrast : str
        ``none``: 0.5 d + 0.5; ``released``: 0.8 d + 0.2, for the published checkpoint.
    """

    steps: int = 38
    guidance_scale: float = 5.0
    start: str = "noise"
    contrast: str = "none"

    def strength(self) -> float | None:
        """Return the share of the process run from the blurry frame, None from noise.

        Raises
        ------
        UserError
            If ``start`` or ``contrast`` has no known value.
        """
        if self.contrast not in CONTRASTS:
            raise UserError(
                f"reconstruct.keyframe_contrast is '{self.contrast}': write auto, none or released."
            )
        if self.start == "noise":
            return None
        kind, _, number = self.start.partition(":")
        strength = parse_strength(number)
        if kind != "blurry" or strength is None:
            raise UserError(
                f"reconstruct.keyframe_start is '{self.start}': write noise or blurry:<x> with x "
                "above 0 and at most 1, for example blurry:0.8."
            )
        return strength


def keyframe_scheduler() -> EulerDiscreteScheduler:
    """Return the Euler scheduler of the released sampler.

    Returns
    -------
    diffusers.EulerDiscreteScheduler
        1000 training steps, square roots of beta equally spaced from 0.00085 to 0.012.
    """
    return EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def keyframe_timesteps(steps: int) -> list[int]:
    """Return the training steps that the sampler visits.

    Parameters
    ----------
    steps : int
        Number of Euler steps (released: 38).

    Returns
    -------
    list of int
        Descending from 999, equally spaced, rounded down.

    Examples
    --------
    >>> keyframe_timesteps(38)[:3], keyframe_timesteps(4)
    ([999, 972, 946], [999, 749, 499, 249])
    """
    return [int(t) for t in np.linspace(999, 0, steps, endpoint=False)]


def size_vector(unet: UNet2DConditionModel) -> torch.Tensor | None:
    """Return the size condition of SDXL-shaped denoisers, None where there is none.

    Height, width, crop top and crop left in pixels, each as cosines and sines; the crop is 0.

    Parameters
    ----------
    unet : diffusers.UNet2DConditionModel
        A denoiser; ``class_embed_type="projection"`` marks one that takes the vector.

    Returns
    -------
    torch.Tensor or None
        float32 (projection_class_embeddings_input_dim,).
    """
    if unet.config.class_embed_type != "projection":
        return None
    width = unet.config.projection_class_embeddings_input_dim
    pixels = unet.config.sample_size * 8
    values = torch.tensor([pixels, pixels, 0, 0], dtype=torch.float32)
    return size_features(values, width)


def size_features(values: torch.Tensor, width: int) -> torch.Tensor:
    """Encode numbers as sines and cosines, as SDXL encodes image sizes.

    Parameters
    ----------
    values : torch.Tensor
        float32 (n,), pixels.
    width : int
        Length of the result, a multiple of 2 n.

    Returns
    -------
    torch.Tensor
        float32 (width,): for each number in order, ``width // n`` cosines and sines.

    Examples
    --------
    >>> size_features(torch.tensor([0.0, 0.0]), 8).tolist()
    [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    """
    features = get_timestep_embedding(
        values, width // len(values), flip_sin_to_cos=True, downscale_freq_shift=0
    )
    return features.flatten()


@torch.inference_mode()
def sample_latents(
    unet: UNet2DConditionModel,
    tokens: torch.Tensor,
    generators: Sequence[torch.Generator],
    options: KeyframeOptions,
    blurry: torch.Tensor | None = None,
    scheduler: EulerDiscreteScheduler | None = None,
) -> torch.Tensor:
    """Sample image latents from CLIP tokens.

    Parameters
    ----------
    unet : diffusers.UNet2DConditionModel
        Noise predictor conditioned on tokens.
    tokens : torch.Tensor
        float32 (images, tokens, dim), what the prior gives.
    generators : sequence of torch.Generator
        One per image; drawn in the order image, unconditional tokens, noise, offset.
    options : KeyframeOptions
        Steps, guidance and start.
    blurry : torch.Tensor, optional
        float32 (images, channels, h, w) scaled latents of the first blurry frames; taken
        where ``options.start`` is ``blurry:<x>``, otherwise a standard normal "image" is
        noised, as released.
    scheduler : diffusers.EulerDiscreteScheduler, optional
        The denoiser's noise schedule; :func:`keyframe_scheduler` where absent.

    Returns
    -------
    torch.Tensor
        float32 (images, channels, h, w), scaled latents.

    See Also
    --------
    denoise_images : The steps alone.
    neuroclips_cli.generation.tokens.sample_tokens : Decodes the tokens.

    Notes
    -----
    Order of operations:

    1. per image, in this order from its own generator: image, unconditional tokens, noise, offset;
    2. timesteps; with ``blurry:<x>`` only the last share x of them, and the blurry latents in place
       of the drawn image;
    3. ``latents = image + sigma_0 (noise + 0.04 offset)``;
    4. the Euler steps of `denoise_images`.
    """
    device = str(tokens.device)
    size = unet.config.sample_size
    shape = (unet.config.in_channels, size, size)
    image = randn_per_clip(generators, shape, device)
    unconditional = randn_per_clip(generators, tokens.shape[1:], device)
    noise = randn_per_clip(generators, shape, device)
    noise = noise + OFFSET_NOISE * randn_per_clip(generators, (1, 1, 1), device)

    timesteps = keyframe_timesteps(options.steps)
    strength = options.strength()
    if strength is not None and blurry is not None:
        image = blurry.to(device)
        timesteps = timesteps[len(timesteps) - max(1, round(len(timesteps) * strength)) :]
    scheduler = scheduler or keyframe_scheduler()
    scheduler.set_timesteps(timesteps=timesteps, device=device)
    latents = image + scheduler.sigmas[0] * noise
    condition = torch.cat([unconditional, tokens])
    return denoise_images(unet, latents, condition, scheduler, options.guidance_scale)


@torch.inference_mode()
def denoise_images(
    unet: UNet2DConditionModel,
    latents: torch.Tensor,
    condition: torch.Tensor,
    scheduler: EulerDiscreteScheduler,
    guidance_scale: float,
) -> torch.Tensor:
    """Run the Euler steps on prepared latents.

    Parameters
    ----------
    unet : diffusers.UNet2DConditionModel
        Noise predictor.
    latents : torch.Tensor
        float32 (images, channels, h, w) at the scheduler's first noise level.
    condition : torch.Tensor
        float32 (2 images, tokens, dim), unconditional half first.
    scheduler : diffusers.EulerDiscreteScheduler
        After ``set_timesteps``.
    guidance_scale : float
        Classifier-free guidance; at 1 the unconditional half has no effect and is not computed.

    Returns
    -------
    torch.Tensor
        Like ``latents``.

    Notes
    -----
    Classifier-free guidance with scale g: ``e = e_unconditional + g (e_tokens - e_unconditional)``
    (Ho & Salimans 2022).
    """
    vector = size_vector(unet)
    guided = guidance_scale != 1
    if not guided:
        condition = condition[len(latents) :]
    labels = None if vector is None else vector.to(latents.device).expand(len(condition), -1)
    for step in scheduler.timesteps:
        doubled = torch.cat([latents, latents]) if guided else latents
        predicted = unet(
            scheduler.scale_model_input(doubled, step),
            step,
            encoder_hidden_states=condition,
            class_labels=labels,
        ).sample
        if guided:
            without, with_tokens = predicted.chunk(2)
            predicted = without + guidance_scale * (with_tokens - without)
        latents = scheduler.step(predicted, step, latents).prev_sample
    return latents


def keyframe_images(vae: AutoencoderKL, latents: torch.Tensor, contrast: str) -> np.ndarray:
    """Decode keyframe latents.

    Parameters
    ----------
    vae : diffusers.AutoencoderKL
        The unCLIP checkpoint's VAE.
    latents : torch.Tensor
        float32 (images, channels, h, w), scaled.
    contrast : str
        Key of `CONTRASTS`: gain and shift from decoded values in -1..1 to 0..1.

    Returns
    -------
    numpy.ndarray
        uint8 (images, height, width, 3).
    """
    gain, shift = CONTRASTS[contrast]
    return to_uint8(decode_pixels(vae, latents) * gain + shift)


def closest_candidates(candidates: np.ndarray, tokens: np.ndarray) -> NDArray[np.int64]:
    """Choose for every image the candidate whose own tokens are most like the decoded ones.

    Parameters
    ----------
    candidates : numpy.ndarray
        float (images, candidates, tokens, dim), CLIP tokens of the generated images.
    tokens : numpy.ndarray
        float (images, tokens, dim), what they were generated from.

    Returns
    -------
    numpy.ndarray
        int64 (images,), the first one of equals.

    Notes
    -----
    The similarity is the cosine of all tokens as one vector. MindEye (Scotti et al. 2023) chooses
    so among 16 draws, by the embedding that its retrieval decodes; NeuroClips draws once.

    Examples
    --------
    >>> closest_candidates(np.array([[[[1.0, 0.0]], [[3.0, 3.0]]]]), np.array([[[1.0, 2.0]]]))
    array([1])
    """
    pred = candidates.reshape(*candidates.shape[:2], -1).astype(np.float64)
    wanted = tokens.reshape(len(tokens), -1).astype(np.float64)
    norms = np.linalg.norm(pred, axis=-1)
    along = np.einsum("nkd,nd->nk", pred, wanted) / np.where(norms > 0, norms, 1)
    return np.asarray(along.argmax(axis=1), np.int64)
