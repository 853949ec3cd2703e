"""The HTML report and the contact sheet of a made-up run."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import fake_judges
import fake_run
import numpy as np
import pytest
from PIL import Image

from neuroclips_cli import artifacts
from neuroclips_cli.errors import UserError
from neuroclips_cli.stages import evaluate, report

VOID = {"meta", "link", "img", "source", "br", "rect", "line"}


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
        patch.setattr(evaluate, "_load_judges", lambda settings: fake_judges.judges())
        fake_run.write(chosen)
        fake_run.write_chains(chosen)
        evaluate.run(chosen)
        fake_run.write(chosen, run="reconstruct-without-blurry")
        evaluate.run(chosen, run="reconstruct-without-blurry")
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


def test_it_shows_every_part_of_sixteen_clips_moving(page):
    pictures = page.all("img")
    moving = [image for image in pictures if image.get("class") == "moving"]
    assert len(page.all("article")) == 16 + 1  # and the chain of three scans
    assert len(moving) == 16 * 3 + 2
    assert len(pictures) == 16 * 4 + 2
    assert all(image["alt"] for image in pictures)
    assert all(image["data-still"].startswith("data:image/webp") for image in moving)


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


def test_it_adapts_to_phones_dark_screens_and_reduced_motion(folder, page):
    text = (folder / "index.html").read_text(encoding="utf-8")
    for rule in ("prefers-color-scheme: dark", "max-width: 40rem", "prefers-reduced-motion"):
        assert rule in text
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert page.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids


def test_the_contact_sheet_has_a_row_for_every_clip(folder):
    with Image.open(folder / "contact_sheet.png") as sheet:
        assert sheet.height > 16 * 100
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
    assert set(artifacts.read_json(folder / "manifest.json")["outputs"]) == {
        "index.html",
        "contact_sheet.png",
    }
