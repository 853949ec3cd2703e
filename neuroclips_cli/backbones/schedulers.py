"""Noise schedules that travel with a denoiser."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

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


def halve_steps(steps: int) -> int:
    """Return the number of denoising steps under ``--fast``.

    Parameters
    ----------
    steps : int
        Steps without ``--fast``, at least 1.

    Returns
    -------
    int
        Half of them, rounded up.

    Examples
    --------
    >>> from neuroclips_cli.backbones.schedulers import halve_steps
    >>> halve_steps(25), halve_steps(1)
    (13, 1)
    """
    return (steps + 1) // 2


def fast_scheduler(scheduler: DDIMScheduler) -> DPMSolverMultistepScheduler:
    """Return a second-order multistep solver (DPM-Solver++) for the same noise schedule.

    Parameters
    ----------
    scheduler : diffusers.DDIMScheduler
        Its configuration is taken.

    Returns
    -------
    diffusers.DPMSolverMultistepScheduler

    Notes
    -----
    Two evaluations determine a step, each made once, so that a step costs what a DDIM step does
    (Lu et al. 2022, arXiv 2211.01095).
    """
    return DPMSolverMultistepScheduler.from_config(scheduler.config)
