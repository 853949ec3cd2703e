"""Noise schedules that travel with a denoiser."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
)

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
    >>> halve_steps(25), halve_steps(1)
    (13, 1)
    """
    return (steps + 1) // 2


def solver_scheduler(
    scheduler: DDIMScheduler, solver: str
) -> DDIMScheduler | DPMSolverMultistepScheduler | EulerDiscreteScheduler | LCMScheduler:
    """Return a solver for the same noise schedule.

    Parameters
    ----------
    scheduler : diffusers.DDIMScheduler
        Its configuration is taken.
    solver : str
        As ``reconstruct.solver``.

    Returns
    -------
    diffusers.SchedulerMixin

    Notes
    -----
    ``dpm``: two evaluations determine a step, each made once, so that a step costs what a DDIM step
    does (Lu et al. 2022, arXiv 2211.01095). ``lcm``: each step goes to the clean clip and is
    noised again (Luo et al. 2023, arXiv 2310.04378). ``euler``: steps counted from the end of the
    process, as AnimateDiff-Lightning was distilled (Lin & Yang 2024, arXiv 2403.12706).
    """
    if solver == "dpm":
        return DPMSolverMultistepScheduler.from_config(scheduler.config)
    if solver == "lcm":
        return LCMScheduler.from_config(scheduler.config)
    if solver == "euler":
        return EulerDiscreteScheduler.from_config(scheduler.config, timestep_spacing="trailing")
    return scheduler
