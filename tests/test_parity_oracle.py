"""Every recorded array of the original code against ours (docs/parity.md is the same as a table).

The records are inputs (``in.``), outputs, intermediate values and gradients; each test also fails
if a recorded array that is no input is left uncompared.
"""

from __future__ import annotations

import pytest
from parity import losses, perception, prior, semantics
from parity.records import FIXTURES, Comparison

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(
        not FIXTURES.is_dir(), reason=f"no recorded references at {FIXTURES} (NEUROCLIPS_FIXTURES)"
    ),
]


def hold(found: Comparison, *given: str) -> None:
    """Fail naming the arrays that differ too much or were not compared."""
    beyond = [
        f"{row.array}: {row.difference:.2g} > {row.tolerance:.2g}"
        for row in found.rows
        if not row.holds
    ]
    assert found.rows
    assert not beyond, f"{found.fixture} differs: {', '.join(beyond)}"
    left = found.left_out(*given)
    assert not left, f"{found.fixture} has arrays that nothing compares: {left}"


@pytest.mark.parametrize("name", semantics.NAMES)
def test_semantics_backbone_and_projectors(name):
    hold(semantics.compare(name), "in.")


@pytest.mark.parametrize("name", prior.NAMES)
def test_diffusion_prior(name):
    noise = ("sample.init_noise", "sample.ddim_step_noise", "sample.ddpm_step_noise")
    hold(prior.compare(name), "in.", *noise)


@pytest.mark.parametrize("name", prior.NAMES)
def test_noise_schedule_of_the_prior(name):
    hold(prior.compare_schedule(name), "diffusion_prior.net.")


@pytest.mark.parametrize("name", perception.NAMES)
def test_perception_reconstructor(name):
    hold(perception.compare(name), "in.")


def test_losses_gradients_mixing_and_schedules():
    given = ("in.", "pearson.in", "mixco_a.", "mixco_b.")
    hold(losses.compare(), *given)
    hold(losses.compare_scalars())
