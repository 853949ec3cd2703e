"""Which solvers, steps and weights of the video model belong together; torch is not needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuroclips_cli.errors import UserError

if TYPE_CHECKING:
    from neuroclips_cli.settings.load import Settings

FEW_STEPS = ("euler", "lcm")
"""Solvers of distilled weights."""
MOST_LCM_STEPS = 50
"""Steps that LCM's own were chosen among in distillation."""


def solver_of(settings: Settings) -> str:
    """Return the solver of the video's steps.

    Parameters
    ----------
    settings : Settings
        ``[reconstruct]`` and ``backbones.distilled_lora`` are read.

    Returns
    -------
    str
        As ``reconstruct.solver``; with ``reconstruct.fast``, ``dpm``.

    Raises
    ------
    UserError
        If solver, steps and weights do not fit each other.
    """
    chosen, lora = settings.reconstruct, settings.backbones.distilled_lora
    if chosen.solver == "lcm" and not lora:
        raise UserError(
            "reconstruct.solver = lcm needs weights that were distilled for it: name a LoRA in "
            "backbones.distilled_lora (docs/how-to/released-checkpoints.md), or take another solver"
        )
    if lora and chosen.solver not in FEW_STEPS:
        raise UserError(
            f"backbones.distilled_lora is set and reconstruct.solver is {chosen.solver}: distilled "
            "weights take few steps of solver lcm or euler"
        )
    if chosen.solver == "lcm" and chosen.steps > MOST_LCM_STEPS:
        raise UserError(
            f"reconstruct.steps = {chosen.steps} are too many for solver lcm: it takes "
            f"{MOST_LCM_STEPS} at most, and 4 to 8 are usual"
        )
    if chosen.fast and chosen.solver in FEW_STEPS:
        raise UserError(
            f"--fast halves the steps, and those of solver {chosen.solver} were distilled for "
            "their number: leave it out, and set reconstruct.steps"
        )
    return "dpm" if chosen.fast else chosen.solver
