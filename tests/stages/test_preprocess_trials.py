"""Trials of a few seconds: what preprocess makes of them, or says."""

from __future__ import annotations

import pytest
from helpers.simulation_world import settings_for, simulated_layout

from neuroclips_cli.errors import UserError
from neuroclips_cli.stages import preprocess


def test_trials_are_too_short_for_the_correlation_of_their_repetitions(tmp_path):
    root = simulated_layout("bold-moments")
    settings = settings_for(root, tmp_path, data__clip_s=3.0, data__standardize="run")
    with pytest.raises(UserError, match=r"was on for \d volumes, too few .* data\.selection"):
        preprocess.run(settings)
