"""The lag scan of preprocess: recorded, silent at the true delay, loud far from it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.simulation_world import settings_for, simulated

from neuroclips_cli.stages import preprocess
from neuroclips_cli.stages._lag_scan import SeenFilm, scan_lag


def _facts(tmp_path, delay_s: float) -> dict:
    folder = preprocess.run(settings_for(simulated(), tmp_path, data__delay_s=delay_s))
    facts: dict = json.loads((folder / "manifest.json").read_text())["facts"]
    return facts


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> dict:
    return _facts(tmp_path_factory.mktemp("runs"), 4.0)


def test_the_curve_is_in_the_manifest_and_peaks_at_the_true_delay(usual):
    curve = usual["lag_scan"]
    assert curve["delays_s"] == [0, 2, 4, 6, 8, 10] and len(curve["correlation"]) == 6
    # The simulated response peaks 5 s after an event: 5 s after a clip of 2 s, at mid-volume.
    assert abs(curve["best_s"] - 5) <= 2
    assert not [w for w in usual["warnings"] if "responses tell most of the clips" in w]


def test_a_delay_that_is_far_off_is_warned_of(tmp_path, usual, capsys):
    facts = _facts(tmp_path, 0.0)
    assert facts["lag_scan"]["best_s"] == usual["lag_scan"]["best_s"]
    told = [w for w in facts["warnings"] if "responses tell most of the clips" in w]
    assert len(told) == 1 and "not at the delay of 0 s" in told[0]
    assert "responses tell most of the clips" in " ".join(capsys.readouterr().err.split())


def test_one_film_is_too_few_for_a_scan(usual):
    class _View:
        tr_s = 2.0

    film = SeenFilm(_View(), np.zeros((3, 2, 8, 8, 3), np.uint8))  # type: ignore[arg-type]
    assert scan_lag([film], None, None) is None  # type: ignore[arg-type]
    assert usual["lag_scan"] is not None
