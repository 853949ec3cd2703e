"""The HTML report and the contact sheet of a made-up run."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers import fake_evaluators, fake_run
from PIL import Image

from neuroclips_cli.errors import UserError
from neuroclips_cli.metrics.statistics import paired_differences, summarize
from neuroclips_cli.reporting.comparison import ComparedRun, versus
from neuroclips_cli.reporting.distributions import histograms
from neuroclips_cli.reporting.html import render
from neuroclips_cli.runs.stage import open_stage, read_csv, read_json
from neuroclips_cli.stages import evaluate, report

VOID = {"meta", "link", "img", "input", "source", "br", "rect", "line", "polyline", "circle"}


class Page(HTMLParser):
    """Collects what a browser would see, and complains about tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs")
    chosen = fake_run.settings(workdir)
    with pytest.MonkeyPatch.context() as patch:
        fake_evaluators.install(patch)
        fake_run.write(chosen)
        fake_run.write_chains(chosen)
        evaluate.run(chosen)
        fake_run.write(chosen, run="reconstruct-without-blurry")
        evaluate.run(chosen, run="reconstruct-without-blurry")
        fake_run.write(chosen, run="reconstruct-control-mean-frame", noise=90)
        evaluate.run(chosen, run="reconstruct-control-mean-frame")
        with open_stage(chosen, "interpret", sections=[], inputs={}) as stage:
            stage.write_csv("areas.csv", ["area", "voxels"], [["lower", 3], ["higher", 2]])
            with stage.atomic("weights.png") as path:
                Image.new("RGB", (30, 20)).save(path)
    return report.run(chosen)


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "index.html").read_text(encoding="utf-8"))


def test_the_report_needs_no_network(folder):
    text = (folder / "index.html").read_text(encoding="utf-8")
    outside = [
        target
        for target in re.findall(r"(?:src|href|srcset|data-still)=\"([^\"]*)\"", text)
        if not target.startswith(("data:", "#"))
    ]
    assert outside == []
    assert "@import" not in text
    assert "http" not in text.replace("http-equiv", "")


def test_it_shows_every_part_of_twelve_clips_moving(page):
    pictures = page.all("img")
    moving = [image for image in pictures if image.get("class") == "moving"]
    assert len(page.all("article")) == 12 + 1  # and the chain of three scans
    assert len(moving) == 12 * 3 + 2
    assert len(pictures) == 12 * 4 + 2 + 1  # and the brain map
    assert all(image["alt"] for image in pictures)
    assert all(image["data-still"].startswith("data:image/webp") for image in moving)


def test_pictures_come_first_then_one_sentence_then_tables(folder):
    text = (folder / "index.html").read_text(encoding="utf-8")
    places = [
        text.index(part) for part in ("<article", 'class="headline"', 'id="gallery"', "<table")
    ]
    assert places == sorted(places)
    said = read_json(folder / "manifest.json")["facts"]
    assert said["headline"].startswith("24 clips: video 50-way 0.")
    assert "chance 0.020" in said["headline"]
    assert said["headline"] in Page(text).text
    assert len(said["in_words"]) == 3
    assert "sea" in said["in_words"][0]


def test_the_gallery_holds_every_clip_with_its_figures(folder):
    text = (folder / "index.html").read_text(encoding="utf-8")
    clips = json.loads(re.search(r'id="gallery-data">(.*?)</script>', text, re.S)[1])
    labels = json.loads(re.search(r'id="metric-labels">(.*?)</script>', text, re.S)[1])
    assert [clip["number"] for clip in clips] == list(range(1, 25))
    rows = read_csv(folder.parent / "evaluate" / "per_clip.csv")
    place = labels.index("SSIM")
    assert [clip["scores"][place] for clip in clips] == [
        pytest.approx(float(row["ssim"]), abs=1e-4) for row in rows
    ]
    assert {len(clip["scores"]) for clip in clips} == {len(labels)}
    assert clips[0]["caption"] == "a <b>red</b> ball & sea 1"
    with Image.open(io.BytesIO(base64.b64decode(clips[3]["moving"].partition(",")[2]))) as image:
        assert (image.width, image.height) == (2 * 96 + 2, 96)
        film = np.asarray(image.convert("RGB"))[:, :96].astype(int)
    frames = np.load(folder.parent / "preprocess" / "frames_test.npy")[4, 0]
    assert np.abs(film[3::6, 3::6] - frames).mean() < 12


def test_a_run_of_one_clip_has_a_report(tmp_path, monkeypatch):
    fake_evaluators.install(monkeypatch)
    chosen = fake_run.settings(tmp_path, **{"evaluate.shuffles": 0, "evaluate.retrieval_part": 2})
    fake_run.write(chosen, clips=1)
    evaluate.run(chosen)
    text = (report.run(chosen) / "index.html").read_text(encoding="utf-8")
    assert text.count("<article") == 1
    assert "How these clips were chosen" not in text


@pytest.mark.parametrize("without", ["keyframe", "blurry"])
def test_a_run_without_a_guidance_has_a_report(tmp_path, monkeypatch, without):
    fake_evaluators.install(monkeypatch)
    chosen = fake_run.settings(tmp_path, **{"evaluate.shuffles": 0})
    fake_run.write(chosen, without=without)
    evaluate.run(chosen)
    text = (report.run(chosen) / "index.html").read_text(encoding="utf-8")
    assert ("Keyframe decoded" in text) == (without != "keyframe")
    assert ("Blurry clip decoded" in text) == (without != "blurry")


def test_captions_are_escaped(folder, page):
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert "<b>red</b>" not in text
    assert "a <b>red</b> ball & sea" in page.text
    assert "a <red> ball &" in page.text


def test_the_table_has_intervals_control_and_the_ablation(page):
    for label in ("video 50-way", "CLIP-pcc", "SSIM", "PSNR (dB)", "fMRI to image, top-1"):
        assert label in page.text
    assert "without-blurry" in page.text
    assert "Not comparable" in page.text


def test_it_shows_distributions_controls_and_brain_maps(page):
    for heading in ("Distributions", "Controls", "Ablations", "Brain maps"):
        assert heading in page.text
    drawn = [attributes for attributes in page.all("svg") if attributes["class"] == "histogram"]
    assert len(drawn) == 10
    assert len(page.all("polyline")) == 10 + 1  # the shuffled control of each; the lag scan
    for said in ("shuffled", "mean-frame", "higher", "middle half"):
        assert said in page.text
    assert "No fused clips" not in page.text


def test_a_bare_report_names_what_would_add_to_it(tmp_path, monkeypatch):
    fake_evaluators.install(monkeypatch)
    chosen = fake_run.settings(tmp_path, **{"evaluate.shuffles": 0})
    fake_run.write(chosen)
    evaluate.run(chosen)
    text = (report.run(chosen) / "index.html").read_text(encoding="utf-8")
    for command in ("neuroclips controls", "neuroclips interpret", "neuroclips fuse"):
        assert command in text


def test_a_table_says_which_side_of_the_run_a_control_is_on():
    def compared(name, shift, metrics=("ssim", "psnr")):
        own = {name: np.linspace(0, 1, 40) for name in metrics}
        other = {name: values + shift for name, values in own.items()}
        found = paired_differences(other, own, samples=50) if shift else {}
        summaries = {name: summarize(values, 50) for name, values in other.items()}
        return ComparedRun(name, summaries, found, {})

    run = compared("run", 0)
    pairs = [
        (f"{shift:g}", (run, compared("", shift, names)))
        for shift, names in ((-0.25, ("ssim", "psnr")), (0.5, ("ssim",)))
    ]
    table = versus(pairs)
    assert table.names == ["-0.25", "0.5"]
    (ssim, own, cells), (_, _, others) = table.rows
    assert (ssim, own) == ("SSIM", "0.500")
    assert [cell.verdict for cell in cells] == ["below", "above"]
    assert (cells[0].value, cells[0].difference) == ("0.250", "-0.250 [-0.250, -0.250]")
    assert others[1].value == others[1].verdict == ""
    assert versus([]).rows == []


def test_histograms_hold_every_clip_once():
    values = {"ssim": np.array([0.0, 0.2, 0.2, np.nan, 1.0]), "psnr": np.full(3, 5.0)}
    found = histograms({**values, "clip_pcc": np.full(2, np.nan)}, {})
    assert [one.label for one in found] == ["SSIM", "PSNR (dB)"]
    tall = max(height for *_, height in found[0].bars)
    assert sum(height for *_, height in found[0].bars) == pytest.approx(2 * tall)
    assert (found[0].low, found[0].high, found[0].outline) == ("0.000", "1.000", "")
    assert len(found[1].bars) == 1


def test_it_adapts_to_phones_dark_screens_and_reduced_motion(folder, page):
    text = (folder / "index.html").read_text(encoding="utf-8")
    for rule in ("prefers-color-scheme: dark", "auto-fill", "prefers-reduced-motion"):
        assert rule in text
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert page.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids


def test_the_lag_scan_is_a_figure_and_a_fact_where_one_was_made(folder, page, monkeypatch):
    said = "Decoded best 4.2 s after a clip (0.40); at the delay of 4 s 0.40; nothing below 0.04."
    assert said in page.text
    facts = read_json(folder / "manifest.json")["facts"]
    assert facts["lag_scan"] == {**fake_run.LAG_SCAN, "delay_s": 4.0}
    curves = [tag["points"] for tag in page.all("polyline")]
    assert "0.0,160.0 106.7,120.0 213.3,0.0 320.0,80.0" in curves
    (line,) = (tag for tag in page.all("line") if tag.get("class") == "chance" and "y2" in tag
               and tag["y2"] == "160")  # fmt: skip
    assert line["x1"] == line["x2"] == "213.3"
    monkeypatch.setattr(report, "_lag_scan", lambda _: None)
    inputs = {name: folder.parent / name for name in ("preprocess", "reconstruct", "evaluate")}
    content = report._collect(fake_run.settings(folder.parent.parent), inputs)
    assert 'id="lag"' not in render(content)


def test_the_contact_sheet_has_a_row_for_every_clip(folder):
    with Image.open(folder / "contact_sheet.png") as sheet:
        assert sheet.height > 12 * 100
        assert np.asarray(sheet.convert("RGB")).std() > 20


def test_a_report_before_the_evaluation_names_the_command(tmp_path):
    chosen = fake_run.settings(tmp_path)
    fake_run.write(chosen)
    with pytest.raises(UserError, match="neuroclips evaluate"):
        report.run(chosen)


def test_nothing_is_written_twice(folder):
    before = (folder / "index.html").stat().st_mtime_ns
    chosen = fake_run.settings(folder.parent.parent)
    report.run(chosen)
    assert (folder / "index.html").stat().st_mtime_ns == before
    assert set(read_json(folder / "manifest.json")["outputs"]) == {
        "index.html",
        "contact_sheet.png",
    }
