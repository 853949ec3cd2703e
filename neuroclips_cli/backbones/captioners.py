"""Captioners for keyframes: BLIP-2 from images, GIT from decoded tokens (paper Table 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from neuroclips_cli.settings.load import Settings

if TYPE_CHECKING:
    from neuroclips_cli.runtime.offload import ModelOffloader

CaptionFn = Callable[[np.ndarray, Callable[[], np.ndarray]], list[str]]
"""Keyframes (N, h, w, 3), and what gives their tokens (N, tokens, dim) if asked -> captions."""


def require_captioner(settings: Settings) -> None:
    """Refuse a captioner that the settings name no model for, before hours of work."""
    from neuroclips_cli.backbones.references import resolve

    if settings.reconstruct.captioner == "git":
        for reference in (settings.backbones.git, settings.backbones.git_tokens):
            resolve(reference)


def load_captioner_fn(
    settings: Settings, device: str, offloader: ModelOffloader | None = None
) -> CaptionFn:
    """Load the captioner of the settings.

    Parameters
    ----------
    settings : Settings
        ``reconstruct.captioner`` chooses.
    device : str
        A torch device.
    offloader : ModelOffloader, optional
        Whose room BLIP-2 shares with other networks; GIT is small and stays on the device.

    Returns
    -------
    callable
        ``describe(keyframes, tokens)``; only GIT calls ``tokens``.
    """
    from neuroclips_cli.runtime.precision import choose_precision

    backbones = settings.backbones
    precision = choose_precision(settings.run.precision, device)
    if settings.reconstruct.captioner == "git":
        from neuroclips_cli.backbones.captioner_git import load_git_captioner

        git = load_git_captioner(backbones.git, backbones.git_tokens, device, precision)
        return lambda keyframes, tokens: git.caption(tokens())
    from neuroclips_cli.backbones.captioner_blip2 import load_captioner
    from neuroclips_cli.runtime.offload import ModelOffloader

    offloader = offloader or ModelOffloader(device, offload=False)
    captioner = load_captioner(backbones.captioner, offloader.offload_device, precision)
    blip2 = replace(captioner, device=device)

    def describe(keyframes: np.ndarray, tokens: Callable[[], np.ndarray]) -> list[str]:
        offloader.load(blip2.model)
        return blip2.caption(keyframes)

    return describe
