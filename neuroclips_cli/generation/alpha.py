"""Alpha guidance: where the video diffusion starts from, given the blurry clip (paper Eq. 5)."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler

from neuroclips_cli.errors import UserError

EQ5, RELEASED, STRENGTH = "eq5", "released", "strength"


def parse_blur_init(value: str) -> tuple[str, float]:
    """Read the setting ``[reconstruct] blur_init``.

    Parameters
    ----------
    value : str
        ``eq5``, ``released`` or ``strength:<x>`` with x in (0, 1].

    Returns
    -------
    kind : str
        ``eq5``, ``released`` or ``strength``.
    strength : float
        1.0 where the kind has none.

    Raises
    ------
    UserError
        For anything else.
    """
    kind, _, number = value.partition(":")
    if kind in (EQ5, RELEASED) and not number:
        return kind, 1.0
    strength = parse_strength(number)
    if kind == STRENGTH and strength is not None:
        return kind, strength
    raise UserError(
        f"reconstruct.blur_init is '{value}': write eq5, released or strength:<x> with x above 0 "
        "and at most 1, for example strength:0.6."
    )


def parse_strength(number: str) -> float | None:
    """Return a strength in (0, 1], or None where the text is no such number."""
    try:
        strength = float(number)
    except ValueError:
        return None
    return strength if 0 < strength <= 1 else None


def eq5_coefficients(alphas_cumprod: torch.Tensor, theta: float) -> tuple[float, float]:
    """Return the weights of the blurry latent and of the noise in Eq. 5.

    The paper's products run over t = 1..T and t = 1..theta T, so T = 1000 is the table's
    index 999 and theta T = 300 its index 299.

    Parameters
    ----------
    alphas_cumprod : torch.Tensor
        (T,) cumulative products of the schedule.
    theta : float
        Share of the forward process that the blurry clip stands for, 0..1; 0 takes it as
        a clean clip.

    Returns
    -------
    signal, noise : float
        ``signal ** 2 + noise ** 2 == 1``.
    """
    steps = len(alphas_cumprod)
    reached = round(theta * steps)
    return forward_diffuse(alphas_cumprod, reached - 1 if reached > 0 else None, steps - 1)


def forward_diffuse(
    alphas_cumprod: torch.Tensor, begin: int | None, end: int
) -> tuple[float, float]:
    """Return the weights of a state and of noise when it is noised on from one step to another.

    Parameters
    ----------
    alphas_cumprod : torch.Tensor
        (T,) cumulative products of the schedule.
    begin : int or None
        Step that the state is at; None for a clean one.
    end : int
        Step to reach, not before ``begin``.

    Returns
    -------
    signal, noise : float
        ``signal ** 2 + noise ** 2 == 1``.
    """
    ratio = float(alphas_cumprod[end]) / (1.0 if begin is None else float(alphas_cumprod[begin]))
    return ratio**0.5, (1 - ratio) ** 0.5


def start_latents(
    blurry: torch.Tensor,
    noise: torch.Tensor,
    scheduler: DDIMScheduler,
    blur_init: str,
    theta: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix the blurry clip's latents with noise and say which steps remain.

    ``eq5``: Eq. 5 as printed, then every step. ``released``: the released code, which noises
    the latents as clean ones to the first sampled step (theta has no effect), then every
    step. ``strength:<x>``: ordinary image-to-image, noised to the step at share x of the
    process, and only the steps from there on are run.

    Parameters
    ----------
    blurry : torch.Tensor
        float32 (clips, channels, frames, h, w), scaled latents.
    noise : torch.Tensor
        Standard normal numbers like ``blurry``.
    scheduler : diffusers.DDIMScheduler
        After ``set_timesteps``.
    blur_init : str
        See :func:`parse_blur_init`.
    theta : float
        For ``eq5`` (paper: 0.3).

    Returns
    -------
    latents : torch.Tensor
        Like ``blurry``.
    timesteps : torch.Tensor
        int64, the steps to run, descending.
    """
    kind, strength = parse_blur_init(blur_init)
    timesteps = scheduler.timesteps
    if kind == EQ5:
        signal, spread = eq5_coefficients(scheduler.alphas_cumprod, theta)
        return signal * blurry + spread * noise, timesteps
    if kind == STRENGTH:
        kept = max(1, round(len(timesteps) * strength))
        timesteps = timesteps[len(timesteps) - kept :]
    return scheduler.add_noise(blurry, noise, timesteps[:1]), timesteps
