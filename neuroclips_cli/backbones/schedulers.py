"""Noise schedules that travel with a denoiser."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from diffusers import DDIMScheduler, EulerDiscreteScheduler

from neuroclips_cli.backbones.references import locate

Scheduler = TypeVar("Scheduler", DDIMScheduler, EulerDiscreteScheduler)


def load_scheduler(ref: str, default: Scheduler) -> Scheduler:
    """Load the schedule that lies beside a denoiser's weights.

    Parameters
    ----------
    ref : str
        The denoiser, as in ``backbones.references.resolve``.
    default : diffusers.DDIMScheduler or diffusers.EulerDiscreteScheduler
        Taken where the folder has no ``scheduler_config.json``, as with the published
        checkpoints, which predict noise. The embedded denoisers predict velocity and say so.

    Returns
    -------
    diffusers.DDIMScheduler or diffusers.EulerDiscreteScheduler
        Of the kind of ``default``.
    """
    source, subfolder = locate(ref)
    folder = Path(source) / subfolder
    if not (folder / "scheduler_config.json").is_file():
        return default
    return type(default).from_pretrained(folder)
