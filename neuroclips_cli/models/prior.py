"""The diffusion prior: from brain tokens to CLIP image tokens (paper 3.2, Eq. 9).

Architecture and key names are those of the published checkpoints (a DALL-E 2 prior without a
causal mask, as in MindEye2), so that ``diffusion_prior.*`` weights load strictly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neuroclips_cli.losses import prior_loss
from neuroclips_cli.models.prior_transformer import EPSILON, TokenTransformer
from neuroclips_cli.runtime.precision import in_float32


class NoiseSchedule(nn.Module):
    """Cosine noise schedule and the arithmetic of the forward process.

    Parameters
    ----------
    timesteps : int
        Number of steps T.

    Notes
    -----
    ``a_t = f(t) / f(0)`` with ``f(t) = cos((t / T + 0.008) / 1.008 pi / 2)^2``, betas cut at 0.999
    (Nichol & Dhariwal 2021, Eq. 17).

    Examples
    --------
    >>> schedule = NoiseSchedule(100)
    >>> clean, noise, times = torch.ones(1, 2, 3), torch.full((1, 2, 3), 0.5), torch.tensor([40])
    >>> noisy = schedule.add_noise(clean, times, noise)
    >>> torch.allclose(schedule.implied_noise(noisy, times, clean), noise, atol=1e-5)
    True
    """

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        grid = torch.linspace(0, timesteps, timesteps + 1, dtype=torch.float64) / timesteps
        curve = torch.cos((grid + 0.008) / 1.008 * math.pi / 2) ** 2
        curve = curve / curve[0]
        betas = (1 - curve[1:] / curve[:-1]).clamp(0, 0.999)
        alphas = 1 - betas
        total = torch.cumprod(alphas, 0)
        before = F.pad(total[:-1], (1, 0), value=1.0)
        variance = betas * (1 - before) / (1 - total)
        arrays = {
            "betas": betas,
            "alphas_cumprod": total,
            "alphas_cumprod_prev": before,
            "sqrt_alphas_cumprod": total.sqrt(),
            "sqrt_one_minus_alphas_cumprod": (1 - total).sqrt(),
            "log_one_minus_alphas_cumprod": (1 - total).log(),
            "sqrt_recip_alphas_cumprod": (1 / total).sqrt(),
            "sqrt_recipm1_alphas_cumprod": (1 / total - 1).sqrt(),
            "posterior_variance": variance,
            "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
            "posterior_mean_coef1": betas * before.sqrt() / (1 - total),
            "posterior_mean_coef2": (1 - before) * alphas.sqrt() / (1 - total),
            "p2_loss_weight": torch.ones_like(betas),
        }
        for name, values in arrays.items():
            self.register_buffer(name, values.to(torch.float32))
        self.timesteps = timesteps

    def at(self, name: str, times: Tensor) -> Tensor:
        """Return an array's values at some steps.

        Parameters
        ----------
        name : str
            Name of a buffer, such as ``sqrt_alphas_cumprod``.
        times : Tensor
            ``(batch,)`` int64 steps, 0 .. timesteps - 1.

        Returns
        -------
        Tensor
            float32 ``(batch, 1, 1)``.
        """
        return getattr(self, name)[times].view(-1, 1, 1)

    def add_noise(self, clean: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """Sample q(x_t | x_0).

        Parameters
        ----------
        clean, noise : Tensor
            ``(batch, tokens, dim)``.
        times : Tensor
            ``(batch,)`` int64 steps.

        Returns
        -------
        Tensor
            ``sqrt(a_t) clean + sqrt(1 - a_t) noise``, ``(batch, tokens, dim)``.
        """
        return (
            self.at("sqrt_alphas_cumprod", times) * clean
            + self.at("sqrt_one_minus_alphas_cumprod", times) * noise
        )

    def implied_noise(self, noisy: Tensor, times: Tensor, clean: Tensor) -> Tensor:
        """Return the noise that leads from clean to noisy tokens.

        Parameters
        ----------
        noisy, clean : Tensor
            ``(batch, tokens, dim)``.
        times : Tensor
            ``(batch,)`` int64 steps of ``noisy``.

        Returns
        -------
        Tensor
            ``(noisy / sqrt(a_t) - clean) / sqrt(1 / a_t - 1)``, ``(batch, tokens, dim)``.

        See Also
        --------
        add_noise : The inverse.
        """
        return (self.at("sqrt_recip_alphas_cumprod", times) * noisy - clean) / self.at(
            "sqrt_recipm1_alphas_cumprod", times
        )

    def posterior(self, clean: Tensor, noisy: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and clipped log variance of q(x_(t-1) given x_t, x_0).

        Parameters
        ----------
        clean, noisy : Tensor
            x_0 and x_t, ``(batch, tokens, dim)``.
        times : Tensor
            ``(batch,)`` int64 steps t.

        Returns
        -------
        mean : Tensor
            ``(batch, tokens, dim)`` (Ho et al. 2020, Eq. 7).
        log_variance : Tensor
            ``(batch, 1, 1)``.
        """
        mean = (
            self.at("posterior_mean_coef1", times) * clean
            + self.at("posterior_mean_coef2", times) * noisy
        )
        return mean, self.at("posterior_log_variance_clipped", times)


class PriorNetwork(nn.Module):
    """Predicts clean image tokens from noisy ones, the step and the brain's tokens.

    Parameters
    ----------
    dim, tokens : int
        Width and number of image (and brain) tokens.
    depth, heads, head_dim : int
        Of the transformer.
    epsilon : float
        As :class:`TokenTransformer`'s.
    """

    def __init__(
        self,
        dim: int,
        tokens: int,
        depth: int,
        heads: int,
        head_dim: int,
        epsilon: float = EPSILON,
    ) -> None:
        super().__init__()
        self.learned_query = nn.Parameter(torch.randn(tokens, dim) * dim**-0.5)
        self.null_brain_embeds = nn.Parameter(torch.randn(tokens, dim))
        self.null_image_embed = nn.Parameter(torch.randn(tokens, dim))
        self.to_time_embeds = nn.Sequential(nn.Sequential(_SinusoidalStep(dim), _TimeMLP(dim)))
        self.causal_transformer = TokenTransformer(dim, depth, heads, head_dim, epsilon)

    def forward(
        self,
        noisy: Tensor,
        times: Tensor,
        brain: Tensor,
        *,
        keep_brain: Tensor | None = None,
        keep_image: Tensor | None = None,
    ) -> Tensor:
        """Predict clean tokens, in float32 also under autocast.

        Parameters
        ----------
        noisy, brain : Tensor
            ``(batch, tokens, dim)``.
        times : Tensor
            ``(batch,)`` int64 steps.
        keep_brain, keep_image : Tensor, optional
            ``(batch,)`` bool; where False the tokens are replaced by the learned null tokens.

        Returns
        -------
        Tensor
            float32 ``(batch, tokens, dim)``.
        """
        if keep_brain is not None:
            brain = torch.where(keep_brain[:, None, None], brain, self.null_brain_embeds)
        if keep_image is not None:
            noisy = torch.where(keep_image[:, None, None], noisy, self.null_image_embed)
        step = self.to_time_embeds(times.to(noisy.dtype))[:, None]
        sequence = torch.cat((brain, step, noisy + self.learned_query), dim=1)
        return self.causal_transformer(sequence)[:, -noisy.shape[1] :].float()


class DiffusionPrior(nn.Module):
    """Brain tokens to image tokens by denoising; the network predicts x0.

    Parameters
    ----------
    dim, tokens : int
        Width and number of tokens.
    depth, heads, head_dim : int
        Of the transformer.
    timesteps : int
        Noise steps in training; sampling with as many uses DDPM, with fewer DDIM.
    drop_probability : float
        Chance per sample that the condition (and, independently, the noisy input) is replaced by
        the learned null tokens in training.
    epsilon : float
        As :class:`TokenTransformer`'s.

    See Also
    --------
    PriorNetwork : The denoiser.
    NoiseSchedule : The forward process.
    """

    def __init__(
        self,
        dim: int,
        tokens: int,
        *,
        depth: int = 6,
        heads: int = 32,
        head_dim: int = 52,
        timesteps: int = 100,
        drop_probability: float = 0.2,
        epsilon: float = EPSILON,
    ) -> None:
        super().__init__()
        self.net = PriorNetwork(dim, tokens, depth, heads, head_dim, epsilon)
        self.noise_scheduler = NoiseSchedule(timesteps)
        self.drop_probability = drop_probability

    @property
    def timesteps(self) -> int:
        """Number of noise steps."""
        return self.noise_scheduler.timesteps

    def freeze_rotary(self) -> None:
        """Keep the rotary frequencies at their start values, as the published weights do."""
        for name, parameter in self.named_parameters():
            if name.endswith("rotary_emb.freqs"):
                parameter.requires_grad_(False)

    def forward(
        self,
        brain: Tensor,
        image: Tensor,
        *,
        times: Tensor | None = None,
        noise: Tensor | None = None,
        keep_brain: Tensor | None = None,
        keep_image: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Training loss (Eq. 9 with x0 as target) and the predicted clean tokens.

        Parameters
        ----------
        brain, image : Tensor
            Condition and clean target, ``(batch, tokens, dim)``.
        times, noise, keep_brain, keep_image : Tensor, optional
            See :meth:`draw`, which is called for what is not given (masks in training mode only).

        Returns
        -------
        tuple of Tensor
            Scalar mean squared error, and ``(batch, tokens, dim)``.
        """
        masked = keep_brain is not None and keep_image is not None
        if times is None or noise is None or (self.training and not masked):
            drawn = self.draw(image)
            times = drawn["times"] if times is None else times
            noise = drawn["noise"] if noise is None else noise
            if self.training:
                keep_brain = drawn["keep_brain"] if keep_brain is None else keep_brain
                keep_image = drawn["keep_image"] if keep_image is None else keep_image
        noisy = self.noise_scheduler.add_noise(image, times, noise)
        predicted = self.net(noisy, times, brain, keep_brain=keep_brain, keep_image=keep_image)
        return prior_loss(predicted, image), predicted

    def draw(self, image: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Draw steps, noise and masks for :meth:`forward`.

        Parameters
        ----------
        image : Tensor
            Targets ``(batch, tokens, dim)``; the draws are on their device.
        generator : torch.Generator, optional
            Of that device; torch's global one where absent.

        Returns
        -------
        dict of str to Tensor
            ``times`` int64 ``(batch,)``, ``noise`` like ``image``, and bool ``(batch,)``
            ``keep_brain`` and ``keep_image``, drawn in this order.
        """
        batch = len(image)
        how: dict[str, Any] = {"device": image.device, "generator": generator}
        return {
            "times": torch.randint(0, self.timesteps, (batch,), **how),
            "noise": torch.randn(image.shape, dtype=image.dtype, **how),
            "keep_brain": torch.rand(batch, **how) >= self.drop_probability,
            "keep_image": torch.rand(batch, **how) >= self.drop_probability,
        }

    def predict(self, noisy: Tensor, times: Tensor, brain: Tensor, guidance: float = 1.0) -> Tensor:
        """Predict clean tokens.

        Parameters
        ----------
        noisy, brain : Tensor
            ``(batch, tokens, dim)``.
        times : Tensor
            ``(batch,)`` int64 steps.
        guidance : float
            Scale g of classifier-free guidance; 1 for none.

        Returns
        -------
        Tensor
            ``x_null + g (x_brain - x_null)``, ``(batch, tokens, dim)``.
        """
        kept = self.net(noisy, times, brain)
        if guidance == 1.0:
            return kept
        drop = torch.zeros(len(noisy), dtype=torch.bool, device=noisy.device)
        dropped = self.net(noisy, times, brain, keep_brain=drop, keep_image=drop)
        return dropped + guidance * (kept - dropped)

    @torch.no_grad()
    def sample(
        self,
        brain: Tensor,
        *,
        steps: int = 20,
        guidance: float = 1.0,
        generator: torch.Generator | None = None,
        start: Tensor | None = None,
        step_noise: Tensor | None = None,
    ) -> Tensor:
        """Sample image tokens for brain tokens.

        Parameters
        ----------
        brain : Tensor
            ``(batch, tokens, dim)``.
        steps : int
            ``timesteps`` runs DDPM; fewer runs DDIM with eta 1 (the paper's 20).
        guidance : float
            Classifier-free guidance scale, 1 for none.
        generator : torch.Generator, optional
            CPU generator of start and step noise, so that results do not depend on the device.
        start : Tensor, optional
            Starting noise, shape of ``brain``.
        step_noise : Tensor, optional
            ``(draws, batch, tokens, dim)``, replaces the drawn step noise.

        Returns
        -------
        Tensor
            ``(batch, tokens, dim)``.

        Notes
        -----
        Order of operations, from start noise and the last step to the first:

        1. predict x0;
        2. with ``timesteps`` steps draw from the DDPM posterior (Ho et al. 2020); with fewer take
           the DDIM step with eta 1 (Song et al. 2021, Eq. 12).

        Examples
        --------
        >>> prior = DiffusionPrior(8, 2, depth=1, heads=2, head_dim=4, timesteps=10).eval()
        >>> brain = torch.zeros(1, 2, 8)
        >>> first = prior.sample(brain, steps=4, generator=torch.Generator().manual_seed(0))
        >>> again = prior.sample(brain, steps=4, generator=torch.Generator().manual_seed(0))
        >>> tuple(first.shape), torch.equal(first, again)
        ((1, 2, 8), True)
        """
        noise = _noise_source(brain, generator, step_noise)
        if start is None:
            start = torch.randn(brain.shape, generator=generator, dtype=brain.dtype)
            start = start.to(brain.device)
        if steps >= self.timesteps:
            return self._ddpm(brain, start, noise, guidance)
        return self._ddim(brain, start, noise, guidance, steps)

    def _ddpm(self, brain: Tensor, x: Tensor, noise: Iterator[Tensor], guidance: float) -> Tensor:
        for time in reversed(range(self.timesteps)):
            times = torch.full((len(x),), time, device=x.device)
            clean = self.predict(x, times, brain, guidance)
            mean, log_variance = self.noise_scheduler.posterior(clean, x, times)
            x = mean + (0.5 * log_variance).exp() * next(noise) * (time > 0)
        return x

    def _ddim(
        self, brain: Tensor, x: Tensor, noise: Iterator[Tensor], guidance: float, steps: int
    ) -> Tensor:
        # The implied noise uses the plain cumulative products, the step the shifted ones: the
        # published sampler does so, and its results are compared with ours to 5e-4.
        grid = torch.linspace(-1, self.timesteps, steps + 1)[:-1].int().flip(0).tolist()
        shifted = cast(Tensor, self.noise_scheduler.alphas_cumprod_prev)
        for now, later in zip(grid[:-1], grid[1:], strict=True):
            times = torch.full((len(x),), now, device=x.device)
            clean = self.predict(x, times, brain, guidance)
            if later < 0:
                return clean
            implied = self.noise_scheduler.implied_noise(x, times, clean)
            a, a_next = shifted[now], shifted[later]
            c1 = ((1 - a / a_next) * (1 - a_next) / (1 - a)).sqrt()
            c2 = (1 - a_next - c1**2).sqrt()
            x = a_next.sqrt() * clean + c1 * next(noise) + c2 * implied
        return x


def _noise_source(
    like: Tensor, generator: torch.Generator | None, recorded: Tensor | None
) -> Iterator[Tensor]:
    if recorded is not None:
        yield from recorded
        return
    while True:
        draw = torch.randn(like.shape, generator=generator, dtype=like.dtype)
        yield draw.to(like.device)


class _SinusoidalStep(nn.Module):
    """Sines then cosines of the step, frequencies ``10000^(-i/(dim/2-1))``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pairs = dim // 2

    def forward(self, times: Tensor) -> Tensor:
        rate = math.log(10000) / (self.pairs - 1)
        frequencies = torch.exp(torch.arange(self.pairs, device=times.device) * -rate)
        angles = times[:, None] * frequencies[None]
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


class _TimeMLP(nn.Module):
    """Two SiLU layers of width ``2 * dim``, then back to ``dim``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Sequential(nn.Linear(dim, 2 * dim), nn.SiLU()),
            nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.SiLU()),
            nn.Linear(2 * dim, dim),
        )

    @in_float32
    def forward(self, features: Tensor) -> Tensor:
        return self.net(features)
