"""Solvers, steps and distilled weights that do not fit each other are refused."""

from __future__ import annotations

import pytest

from neuroclips_cli.backbones.solvers import solver_of
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.load import load_settings

LORA = {"backbones.distilled_lora": "./models/distilled_lora"}


def solver(**chosen):
    flags = {f"reconstruct.{name}": value for name, value in chosen.items() if name != "lora"}
    return solver_of(load_settings(flags | (LORA if chosen.get("lora") else {}), environ={}))


def test_what_fits_is_taken():
    assert solver() == "ddim"
    assert solver(fast=True) == "dpm"
    assert solver(solver="euler", steps=4) == "euler"
    assert solver(solver="lcm", steps=6, lora=True) == "lcm"


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"solver": "lcm"}, "name a LoRA in backbones.distilled_lora"),
        ({"lora": True}, "reconstruct.solver is ddim"),
        ({"solver": "lcm", "steps": 51, "lora": True}, "50 at most"),
        ({"solver": "euler", "fast": True}, "leave it out"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(chosen, told):
    with pytest.raises(UserError, match=told) as problem:
        solver(**chosen)
    assert "\n" not in str(problem.value)
