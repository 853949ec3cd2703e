"""The table of examples/departures_table.py, from clips whose differences are known."""

from __future__ import annotations

import departures_table as example
import numpy as np
import pytest

from neuroclips_cli.settings.load import load_settings


def rows(values: np.ndarray) -> list[dict[str, str]]:
    return [
        {"clip": str(i), "scene": str(i // 4), "ssim": str(value)} for i, value in enumerate(values)
    ]


def worlds(shift: tuple[float, ...]) -> tuple[dict, dict]:
    """Two ways in as many worlds, the first above the second by ``shift`` and a little noise."""
    rng = np.random.default_rng(0)
    first, second = {}, {}
    for seed, by in enumerate(shift):
        below = rng.uniform(0.2, 0.6, 40)
        first[str(seed)] = rows(below + by + rng.normal(0, 0.01, 40))
        second[str(seed)] = rows(below)
    return first, second


def test_table_difference() -> None:
    (line,) = example.compared("a / b", *worlds((0.1, 0.1, 0.1)))
    title, metric, values, span, each, better = line
    assert (title, metric, better) == ("a / b", "ssim", "first")
    first, second = map(float, values.split(" | "))
    difference, low, high = (
        float(v) for v in span.replace(",", "").replace("[", "").strip("]").split()
    )
    assert difference == pytest.approx(first - second, abs=2e-3)
    assert difference == pytest.approx(0.1, abs=5e-3) and low < difference < high
    assert len(each.split(", ")) == 3


@pytest.mark.parametrize(
    ("shift", "better"),
    [((-0.1, -0.1, -0.1), "second"), ((0.1, 0.1, -0.02), "neither"), ((0.0, 0.0, 0.0), "neither")],
)
def test_table_verdict(shift: tuple[float, ...], better: str) -> None:
    assert example.compared("a / b", *worlds(shift))[0][-1] == better


def test_table_same_clips() -> None:
    first, second = worlds((0.1, 0.1))
    second["1"] = second["1"][:-1]
    with pytest.raises(ValueError, match="seed 1"):
        example.compared("a / b", first, second)


def test_table_markdown() -> None:
    made = example.table(example.compared("a / b", *worlds((0.1,)))).splitlines()
    assert len(made) == 3
    assert {line.count("|") for line in made} == {8}


def test_ways_known() -> None:
    """Every way can be set, is another than tiny, and every departure compares two of them."""
    tiny = load_settings({"run.profile": "tiny"}, environ={})
    for way, flags in example.WAYS.items():
        settings = load_settings({"run.profile": "tiny", **flags}, environ={})
        assert all(settings.value(key) != tiny.value(key) for key in flags), way
    for one in example.DEPARTURES:
        assert {one.paper, one.other} <= example.WAYS.keys()
        assert callable(getattr(example.Decoding, one.product))
