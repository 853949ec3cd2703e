"""Alpha guidance: start latents of video diffusion, given the blurry clip (paper Eq. 5)."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

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

    Examples
    --------
    >>> parse_blur_init("strength:0.6"), parse_blur_init("eq5")
    (('strength', 0.6), ('eq5', 1.0))
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
    """Read a strength.

    Parameters
    ----------
    number : str
        Text of a number.

    Returns
    -------
    float or None
        In (0, 1]; None where the text is not such a number.

    Examples
    --------
    >>> parse_strength("0.6"), parse_strength("0"), parse_strength("much")
    (0.6, None, None)
    """
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

    See Also
    --------
    forward_diffuse : Between any two steps.
    start_latents : Applies the weights.

    Notes
    -----
    Paper 3.3, Eq. 5: ``z_T = sqrt(a_T / a_thetaT) z_blurry + sqrt(1 - a_T / a_thetaT) noise`` with
    the cumulative products a.

    Examples
    --------
    >>> alphas_cumprod = torch.tensor([0.8, 0.64, 0.5, 0.16])
    >>> signal, noise = eq5_coefficients(alphas_cumprod, theta=0.5)
    >>> round(signal, 4), round(noise, 4)
    (0.5, 0.866)
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

    Notes
    -----
    ``signal = sqrt(a_end / a_begin)``, ``noise = sqrt(1 - a_end / a_begin)``; a clean state has
    ``a_begin = 1``.

    Examples
    --------
    >>> signal, noise = forward_diffuse(torch.tensor([0.64, 0.36]), None, 0)
    >>> round(signal, 4), round(noise, 4)
    (0.8, 0.6)
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
    """Mix the blurry clip's latents with noise and return the steps that remain.

    Parameters
    ----------
    blurry : torch.Tensor
        float32 (clips, channels, frames, h, w), scaled latents.
    noise : torch.Tensor
        Standard normal numbers like ``blurry``.
    scheduler : diffusers.DDIMScheduler
        Or another solver; after ``set_timesteps``.
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

    Raises
    ------
    UserError
        If ``blur_init`` is none of the kinds.

    See Also
    --------
    eq5_coefficients : The weights of ``eq5``.
    neuroclips_cli.generation.video.denoise_clips : Runs the steps.
    """
    kind, strength = parse_blur_init(blur_init)
    timesteps = scheduler.timesteps
    if kind == EQ5:
        signal, spread = eq5_coefficients(scheduler.alphas_cumprod, theta)
        if isinstance(scheduler, EulerDiscreteScheduler):  # its states have a variance that grows
            grown = float((scheduler.sigmas[0] ** 2 + 1) ** 0.5)
            signal, spread = grown * signal, grown * spread
        return signal * blurry + spread * noise, timesteps
    if kind == STRENGTH:
        kept = max(1, round(len(timesteps) * strength))
        timesteps = timesteps[len(timesteps) - kept :]
    return scheduler.add_noise(blurry, noise, timesteps[:1]), timesteps
