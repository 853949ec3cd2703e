"""Video sampler with alpha, beta and gamma guidance together (paper 3.3).

diffusers has pipelines for AnimateDiff from video and for AnimateDiff with SparseCtrl, none
for both; this one uses its networks and its scheduler.

Order of operations:

1. noise of every clip from its own generator;
2. start latents: noise, or the blurry clip noised (alpha guidance, Eq. 5);
3. text states of prompts and negative prompt (gamma guidance);
4. per step of the solver: SparseCtrl residuals of the keyframes (beta guidance), denoiser,
   classifier-free guidance; with ``hold_keyframe``, what the predicted clip misses of the
   keyframes added to all of its frames; scheduler step (Eq. 6);
5. decoding by the VAE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DDIMScheduler

from neuroclips_cli.backbones.vae import decode_latents, encode_frames
from neuroclips_cli.backbones.video import VideoModels
from neuroclips_cli.generation.alpha import start_latents
from neuroclips_cli.runtime.seeding import randn_per_clip


@dataclass(frozen=True)
class VideoOptions:
    """How clips are sampled.

    Attributes
    ----------
    steps : int
        Steps of the whole process (paper: 25, of DDIM).
    guidance_scale : float
        Classifier-free guidance on the text (8.5); 1 or less switches it off.
    control_scale : float
        Weight of SparseCtrl's residuals.
    guide_keyframe : bool
        Whether guidance strengthens the keyframe beside the text: the unconditional half then
        goes without control, else both halves have it (as in diffusers).
    hold_keyframe : bool
        Whether the frames of ``keyframe_places`` are the keyframes, and all others differ from
        them as the networks say: what the clip predicted in a step misses of the keyframes is
        added to every frame.
    frames : int
        Frames per clip (16).
    blur_init : str
        See ``alpha.parse_blur_init``.
    theta : float
        Eq. 5.
    keyframe_places : tuple of int
        Frames of the clip that SparseCtrl holds the keyframes at; the first one (paper 3.3).
    """

    steps: int = 25
    guidance_scale: float = 8.5
    control_scale: float = 1.0
    guide_keyframe: bool = False
    hold_keyframe: bool = False
    frames: int = 16
    blur_init: str = "eq5"
    theta: float = 0.3
    keyframe_places: tuple[int, ...] = (0,)


@torch.inference_mode()
def encode_prompts(models: VideoModels, prompts: Sequence[str]) -> torch.Tensor:
    """Encode prompts with the CLIP text encoder.

    Parameters
    ----------
    models : VideoModels
        Tokenizer and text encoder are used.
    prompts : sequence of str
        Cut to the tokenizer's length; equal prompts are encoded once.

    Returns
    -------
    torch.Tensor
        float32 (prompts, length, width), last hidden states.
    """
    unique = list(dict.fromkeys(prompts))
    longest = min(models.tokenizer.model_max_length, _positions(models))
    ids = models.tokenizer(
        unique, padding="max_length", truncation=True, max_length=longest, return_tensors="pt"
    ).input_ids
    states = models.text_encoder(ids.to(models.unet.device)).last_hidden_state
    return states[[unique.index(prompt) for prompt in prompts]]


def _positions(models: VideoModels) -> int:
    return int(models.text_encoder.config.max_position_embeddings)


@torch.inference_mode()
def sample_clip_latents(
    models: VideoModels,
    prompts: Sequence[str],
    negative_prompt: str,
    generators: Sequence[torch.Generator],
    options: VideoOptions,
    *,
    latent_size: tuple[int, int],
    blurry: torch.Tensor | None = None,
    keyframes: torch.Tensor | None = None,
    advance: Callable[[int], None] | None = None,
) -> torch.Tensor:
    """Sample a batch of clips in latent space.

    Parameters
    ----------
    models : VideoModels
        Networks and scheduler.
    prompts : sequence of str
        Gamma guidance, one per clip.
    negative_prompt : str
        For the unconditional half.
    generators : sequence of torch.Generator
        One per clip; the noise is their first draw, and their only one but for LCM.
    options : VideoOptions
        Steps, guidance, start.
    latent_size : tuple of int
        Height and width of the latents.
    blurry : torch.Tensor, optional
        Alpha guidance: float32 (clips, channels, frames, h, w) scaled latents; from pure
        noise where absent.
    keyframes : torch.Tensor, optional
        Beta guidance: float32 (clips, channels, h, w) scaled latents of the first frames;
        no SparseCtrl where absent.
    advance : callable, optional
        Called with 1 after every denoising step.

    Returns
    -------
    torch.Tensor
        float32 (clips, channels, frames, h, w), scaled latents.

    See Also
    --------
    denoise_clips : The steps alone.
    neuroclips_cli.generation.alpha.start_latents : Alpha guidance.
    keyframe_condition : Beta guidance.
    encode_prompts : Gamma guidance.
    """
    device = models.unet.device
    shape = (models.unet.config.in_channels, options.frames, *latent_size)
    noise = randn_per_clip(generators, shape, str(device))
    scheduler = models.scheduler
    scheduler.set_timesteps(options.steps, device=device)
    if blurry is None:
        latents, timesteps = noise * scheduler.init_noise_sigma, scheduler.timesteps
    else:
        latents, timesteps = start_latents(
            blurry.to(device), noise, scheduler, options.blur_init, options.theta
        )

    text = encode_prompts(models, prompts)
    if options.guidance_scale > 1:
        text = torch.cat([encode_prompts(models, [negative_prompt] * len(prompts)), text])
    return denoise_clips(
        models,
        latents,
        timesteps,
        text,
        options,
        keyframes,
        advance,
        generators=generators,
    )


@torch.inference_mode()
def denoise_clips(
    models: VideoModels,
    latents: torch.Tensor,
    timesteps: torch.Tensor,
    text: torch.Tensor,
    options: VideoOptions,
    keyframes: torch.Tensor | None = None,
    advance: Callable[[int], None] | None = None,
    *,
    generators: Sequence[torch.Generator] = (),
) -> torch.Tensor:
    """Run the denoising steps on prepared latents and text states.

    Parameters
    ----------
    models : VideoModels
        ``unet``, ``sparsectrl`` and ``scheduler`` (after ``set_timesteps``) are used.
    latents : torch.Tensor
        float32 (clips, channels, frames, h, w).
    timesteps : torch.Tensor
        int64, descending.
    text : torch.Tensor
        float32 (2 clips, length, width), unconditional half first; (clips, ...) where
        ``options.guidance_scale`` is 1 or less.
    options : VideoOptions
        Guidance and control scales.
    keyframes : torch.Tensor, optional
        float32 (clips, channels, h, w) scaled latents; no SparseCtrl where absent.
    advance : callable, optional
        Called with 1 after every denoising step.
    generators : sequence of torch.Generator
        One per clip, for solvers that draw noise in a step (LCM).

    Returns
    -------
    torch.Tensor
        Like ``latents``.

    Notes
    -----
    Classifier-free guidance with scale g: ``e = e_unconditional + g (e_text - e_unconditional)``.
    """
    guided = options.guidance_scale > 1
    frames, places = latents.shape[2], options.keyframe_places
    # diffusers wants text states per frame, all frames of the first clip first
    states = text.repeat_interleave(frames, dim=0)
    control = held = None
    if keyframes is not None:
        keyframes = keyframes.to(latents.device)
        control = keyframe_condition(keyframes, frames, places)
        held = control[0][:, :, list(places)] if options.hold_keyframe else None
    for step in timesteps:
        doubled = torch.cat([latents, latents]) if guided else latents
        doubled = models.scheduler.scale_model_input(doubled, step)
        predicted = _predict(models, doubled, step, states, control, options)
        if guided:
            without, with_text = predicted.chunk(2)
            predicted = without + options.guidance_scale * (with_text - without)
        if held is not None:
            state = doubled[-len(latents) :]
            predicted = _with_keyframes(models.scheduler, predicted, state, step, held, places)
        drawn = list(generators) or None
        latents = models.scheduler.step(predicted, step, latents, generator=drawn).prev_sample
        if advance is not None:
            advance(1)
    return latents if held is None else latents + missing_of_keyframes(held, latents, places)


def _with_keyframes(
    scheduler: DDIMScheduler,
    predicted: torch.Tensor,
    state: torch.Tensor,
    step: torch.Tensor,
    keyframes: torch.Tensor,
    places: Sequence[int],
) -> torch.Tensor:
    """Return a prediction (noise or velocity) whose clean clip has the keyframes at their places.

    ``state`` is what the denoiser saw: ``sqrt(a) clean + sqrt(1 - a) noise``.
    """
    kept = scheduler.alphas_cumprod[int(step)].to(state)
    signal, spread = kept.sqrt(), (1 - kept).sqrt()
    if scheduler.config.prediction_type == "v_prediction":
        clean, of_clean = signal * state - spread * predicted, -1 / spread
    else:
        clean, of_clean = (state - spread * predicted) / signal, -signal / spread
    return predicted + of_clean * missing_of_keyframes(keyframes, clean, places)


def missing_of_keyframes(
    keyframes: torch.Tensor, clips: torch.Tensor, places: Sequence[int]
) -> torch.Tensor:
    """Return what clips miss of their keyframes, carried to all frames.

    Parameters
    ----------
    keyframes : torch.Tensor
        float32 (clips, channels, keyframes, h, w).
    clips : torch.Tensor
        float32 (clips, channels, frames, h, w).
    places : sequence of int
        Frame number of every keyframe, ascending.

    Returns
    -------
    torch.Tensor
        Like ``clips``: the difference at a keyframe's place, linear between two of them, and
        the nearest one's before the first and after the last.

    Examples
    --------
    >>> keyframes = torch.tensor([1.0, 3.0]).view(1, 1, 2, 1, 1)
    >>> missing = missing_of_keyframes(keyframes, torch.zeros(1, 1, 5, 1, 1), places=[1, 3])
    >>> missing.flatten().tolist()
    [1.0, 1.0, 2.0, 3.0, 3.0]
    """
    at = np.arange(clips.shape[2])
    shares = [np.interp(at, places, one) for one in np.eye(len(places))]
    weight = torch.from_numpy(np.stack(shares)).to(clips)
    missing = keyframes - clips[:, :, list(places)]
    return torch.einsum("bckhw,kf->bcfhw", missing, weight)


def _predict(
    models: VideoModels,
    latents: torch.Tensor,
    step: torch.Tensor,
    states: torch.Tensor,
    control: tuple[torch.Tensor, torch.Tensor] | None,
    options: VideoOptions,
) -> torch.Tensor:
    down, middle = None, None
    if control is not None:
        condition, mask = control
        halves = len(latents) // len(condition)
        controlled = 1 if options.guide_keyframe else halves
        rows = controlled * len(condition)
        down, middle = models.sparsectrl(
            latents[-rows:],
            step,
            encoder_hidden_states=states[-rows * latents.shape[2] :],
            controlnet_cond=condition.repeat(controlled, 1, 1, 1, 1),
            conditioning_mask=mask.repeat(controlled, 1, 1, 1, 1),
            conditioning_scale=options.control_scale,
            return_dict=False,
        )
        if controlled < halves:
            down, middle = [_after_nothing(d) for d in down], _after_nothing(middle)
    return models.unet(
        latents,
        step,
        encoder_hidden_states=states,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
    ).sample


def _after_nothing(residual: torch.Tensor) -> torch.Tensor:
    """Put zeros for the unconditional half before the residual of the conditional one."""
    return torch.cat([torch.zeros_like(residual), residual])


def keyframe_condition(
    keyframes: torch.Tensor, frames: int, places: Sequence[int] = (0,)
) -> tuple[torch.Tensor, torch.Tensor]:
    """Place keyframes in otherwise empty clips, as SparseCtrl takes them.

    Parameters
    ----------
    keyframes : torch.Tensor
        Scaled latents, float32 (clips, channels, h, w) for one keyframe of each clip, or (clips,
        channels, keyframes, h, w).
    frames : int
        Of a clip.
    places : sequence of int
        Frame number of every keyframe.

    Returns
    -------
    condition, mask : torch.Tensor
        (clips, channels, frames, h, w) and (clips, 1, frames, h, w); zeros, and at the places
        latents and ones.

    Examples
    --------
    >>> condition, mask = keyframe_condition(torch.ones(1, 4, 2, 2), frames=3)
    >>> tuple(condition.shape), mask[0, 0, :, 0, 0].tolist()
    ((1, 4, 3, 2, 2), [1.0, 0.0, 0.0])
    """
    if keyframes.ndim == 4:
        keyframes = keyframes[:, :, None]
    clips, channels, _, height, width = keyframes.shape
    condition = keyframes.new_zeros(clips, channels, frames, height, width)
    mask = keyframes.new_zeros(clips, 1, frames, height, width)
    condition[:, :, list(places)] = keyframes
    mask[:, :, list(places)] = 1
    return condition, mask


def encode_clips(models: VideoModels, clips: np.ndarray) -> torch.Tensor:
    """Encode clips to latents.

    Parameters
    ----------
    models : VideoModels
        Its VAE is used.
    clips : numpy.ndarray
        uint8 (clips, frames, H, W, 3).

    Returns
    -------
    torch.Tensor
        float32 (clips, channels, frames, h, w), scaled latents.

    See Also
    --------
    decode_clips : The way back.
    """
    latents = encode_frames(models.vae, clips.reshape(-1, *clips.shape[2:]))
    return torch.from_numpy(latents).unflatten(0, clips.shape[:2]).transpose(1, 2)


def decode_clips(models: VideoModels, latents: torch.Tensor) -> np.ndarray:
    """Decode latents to clips.

    Parameters
    ----------
    models : VideoModels
        Its VAE is used.
    latents : torch.Tensor
        float32 (clips, channels, frames, h, w), scaled latents.

    Returns
    -------
    numpy.ndarray
        uint8 (clips, frames, H, W, 3).

    See Also
    --------
    encode_clips : The way there.
    """
    clips, frames = latents.shape[0], latents.shape[2]
    pixels = decode_latents(models.vae, latents.transpose(1, 2).flatten(0, 1))
    return pixels.reshape(clips, frames, *pixels.shape[1:])
