"""Fewer denoising steps, for ``--fast``."""

from __future__ import annotations

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler


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
    >>> from neuroclips_cli.generation.fast import halve_steps
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
