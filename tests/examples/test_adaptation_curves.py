"""The table of ways to adapt a decoder, from results as the script keeps them."""

from __future__ import annotations

import adaptation_curves
import numpy as np
import pytest


@pytest.fixture
def results(tmp_path):
    """Two seeds of two modes and an unseen subject; films of a seed have six scenes."""
    rng = np.random.default_rng(0)
    values = {}
    (tmp_path / "values").mkdir()
    for seed in (0, 1):
        for amount, mode, level in (
            ("5", "scratch", 0.2),
            ("5", "ridge", 0.7),
            ("none", "unseen", 0.1),
        ):
            hits = {name: rng.random(30) < level for name in adaptation_curves.MEASURES}
            values[seed, mode] = {name: hit.astype(float) for name, hit in hits.items()}
            scene = np.repeat([f"s{i}" for i in range(6)], 5)
            path = tmp_path / "values" / f"{seed}_4_{amount}_{mode}.npz"
            np.savez(path, scene=scene, **values[seed, mode])
    return tmp_path, values


def test_differences_from_scratch_are_paired_over_seeds(results):
    folder, values = results
    lines = adaptation_curves.table(folder).splitlines()
    assert sum(line.startswith("**") for line in lines) == len(adaptation_curves.MEASURES)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "ridge" in line]
    assert len(rows) == len(adaptation_curves.MEASURES)
    for measure, row in zip(adaptation_curves.MEASURES, rows, strict=True):
        ridge = np.mean([values[seed, "ridge"][measure].mean() for seed in (0, 1)])
        scratch = np.mean([values[seed, "scratch"][measure].mean() for seed in (0, 1)])
        assert row[0] == "5" and float(row[2].split()[0]) == pytest.approx(ridge, abs=6e-4)
        assert float(row[3].split()[0]) == pytest.approx(ridge - scratch, abs=6e-4)
        assert float(row[4].removeprefix("<")) < 0.05
        assert np.mean([float(gap) for gap in row[5].split(", ")]) == pytest.approx(
            ridge - scratch, abs=6e-4
        )
        gaps = [float(gap) for gap in row[5].split(", ")]
        center, low, high = map(float, row[6].translate(str.maketrans("[],", "   ")).split())
        half = 12.706 * abs(gaps[0] - gaps[1]) / 2  # Student's t of one degree of freedom
        assert center == pytest.approx(ridge - scratch, abs=6e-4)
        assert (high - low) / 2 == pytest.approx(half, abs=0.015)
    unseen = next(line for line in lines if "unseen" in line)
    assert unseen.startswith("| 0 |") and "-0." in unseen
