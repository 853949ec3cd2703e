"""Accuracy over minutes: which decoders are found, what they are compared with, how it is drawn."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from helpers import fake_run

from neuroclips_cli.errors import UserError
from neuroclips_cli.reporting import minutes
from neuroclips_cli.runs.model_card import NAME, ModelCard, TrainedOn
from neuroclips_cli.stages import compare

CLIPS = 12
METRIC = "retrieval_fmri_to_image"


@pytest.fixture
def decoders(tmp_path):
    """Five decoders of subject 4, and what each scored clip by clip."""
    chosen = fake_run.settings(tmp_path, **{"run.subject": 4})
    rng = np.random.default_rng(0)
    values = {}
    for name, protocol, mode, amount, level, subject in (
        ("sub-04", "within", "", 36.0, 0.8, 4),
        ("adapted-04-10min-scratch", "within:10", "scratch", 10.03, 0.2, 4),
        ("adapted-04-10min-ridge", "adapted:10", "ridge", 10.03, 0.5, 4),
        ("adapted-04-all-full", "adapted:36", "full", 36.0, 0.9, 4),
        ("pool-01-02-03", "pooled", "", 36.0, 0.3, 1),
    ):
        trained = TrainedOn(subject, 9, 1, 2, 8, 1, amount, 2 * amount, {}, "", "")
        (tmp_path / name / "train-sr").mkdir(parents=True)
        card = ModelCard("train-sr", protocol, (trained,), average=True, mode=mode)
        (tmp_path / name / "train-sr" / NAME).write_text(json.dumps(card.as_json()))
        results = tmp_path / name / ("" if name == "sub-04" else "sub-04") / "evaluate"
        results.mkdir(parents=True)
        values[name] = np.clip(level + 0.1 * rng.standard_normal(CLIPS), 0, 1)
        lines = [f"{i},s{i // 3},{v:.17g}" for i, v in enumerate(values[name])]
        (results / "per_clip.csv").write_text("\n".join([f"clip,scene,{METRIC}", *lines]))
        result = {"metrics": {METRIC: {}}, "protocol": {"protocol": "default"}, "subject": 4}
        (results / "metrics.json").write_text(json.dumps(result))
    return chosen, values


def test_every_decoder_is_placed_by_its_card_and_compared_with_scratch(decoders, capsys):
    chosen, values = decoders
    points = {point.run: point for point in compare.over_minutes(chosen, [])}
    found = {name: (point.mode, point.minutes) for name, point in points.items()}
    assert found == {
        "sub-04": ("scratch", 36.0),
        "adapted-04-10min-scratch": ("scratch", 10.03),
        "adapted-04-10min-ridge": ("ridge", 10.03),
        "adapted-04-all-full": ("full", 36.0),
        "pool-01-02-03": ("unseen", 0.0),
    }
    for name, point in points.items():
        assert point.metrics[METRIC].mean == pytest.approx(values[name].mean())
        low, high = minutes.interval(point.metrics[METRIC])
        assert low <= values[name].mean() <= high
    for name, base in (
        ("adapted-04-10min-ridge", "adapted-04-10min-scratch"),
        ("adapted-04-all-full", "sub-04"),
    ):
        difference = points[name].differences[METRIC]
        assert difference.summary.mean == pytest.approx((values[name] - values[base]).mean())
        assert difference.units == 4
    for name in ("sub-04", "adapted-04-10min-scratch", "pool-01-02-03"):
        assert not points[name].differences
    shown = capsys.readouterr().out
    assert "●" in shown and "unseen" in shown


def test_named_decoders_are_written_in_every_format(decoders, tmp_path):
    chosen, values = decoders
    names = ["adapted-04-10min-scratch", "adapted-04-10min-ridge"]
    for ending in (".md", ".tex", ".csv"):
        compare.over_minutes(chosen, names, out=tmp_path / f"curve{ending}")
    assert "| 10.03 | ridge |" in (tmp_path / "curve.md").read_text()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "curve.csv").read_text())))
    assert [row["run"] for row in rows] == names
    gap = values[names[1]].mean() - values[names[0]].mean()
    assert float(rows[1]["difference"]) == pytest.approx(gap, rel=1e-4)
    assert rows[0]["difference"] == "" and float(rows[1]["mean"]) > float(rows[0]["mean"])


def test_what_is_missing_is_named(decoders, tmp_path):
    chosen, _ = decoders
    with pytest.raises(UserError, match="adapted-04-5min-ridge has no evaluation of subject 4"):
        compare.over_minutes(chosen, ["sub-04", "adapted-04-5min-ridge"])
    with pytest.raises(UserError, match="needs two evaluated decoders"):
        compare.over_minutes(chosen, ["sub-04"])
    (tmp_path / "pool-01-02-03" / "train-sr" / NAME).unlink()
    with pytest.raises(UserError, match="has no model card"):
        compare.over_minutes(chosen, ["sub-04", "pool-01-02-03"])
    assert len(compare.minutes_points(chosen)) == 4


def test_the_drawing_keeps_minutes_and_values_in_proportion(decoders):
    chosen, values = decoders
    points = compare.minutes_points(chosen)
    drawing = minutes.drawing(METRIC, points)
    assert [curve.mode for curve in drawing.curves] == ["scratch", "ridge", "full", "unseen"]
    scratch = drawing.curves[0]
    assert [mark[0] for mark in scratch.marks] == pytest.approx(
        [10.03 / 36 * minutes.WIDTH, minutes.WIDTH], abs=0.1
    )
    bounds = [minutes.interval(point.metrics[METRIC]) for point in points]
    low, high = min(b[0] for b in bounds), max(b[1] for b in bounds)
    wanted = minutes.HEIGHT * (high - values["sub-04"].mean()) / (high - low)
    assert scratch.marks[1][1] == pytest.approx(wanted, abs=0.1)
    for curve in drawing.curves:
        for x, y, top, bottom in curve.marks:
            assert 0 <= x <= minutes.WIDTH and 0 <= top <= y <= bottom <= minutes.HEIGHT
    assert [text for _, text in drawing.minutes] == ["0", "10.03", "36"]


def test_the_report_draws_the_curves_without_a_network(decoders):
    from jinja2 import Environment, PackageLoader

    chosen, _ = decoders
    drawn = minutes.drawings(compare.minutes_points(chosen))
    assert [one.label for one in drawn] == ["fMRI to image, top-1"]
    environment = Environment(loader=PackageLoader("neuroclips_cli", "reporting"), autoescape=True)
    source = environment.loader.get_source(environment, "report.html.jinja")[0]
    part = source[source.index("{% if minutes %}\n") : source.index("{% if chains %}\n")]
    page = environment.from_string(part).render(minutes=drawn)
    assert page.count("<polyline") == 4 and page.count("<circle") == 5
    assert "unseen, 0 min" in page and "http" not in page and "url(" not in page
