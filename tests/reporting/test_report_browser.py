"""The report in a real browser: nothing fails, nothing sticks out, clips can be stopped."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
from helpers import fake_evaluators, fake_run

from neuroclips_cli.stages import controls, evaluate, report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, and none is installed")
PHONE = 390  # pixels
WATCH = """<!DOCTYPE html><html><body><iframe id="page" style="width:%dpx;height:800px;border:0">
</iframe><pre id="found"></pre><script>
var page = document.getElementById("page");
page.addEventListener("load", function () {
  setTimeout(function () {
    var text = page.contentDocument, root = text.documentElement;
    var moving = text.querySelector("img.moving");
    var button = text.getElementById("pause"), before = moving.src;
    var images = Array.from(text.images);
    button.click();
    function choose(id, value, event) {
      text.getElementById(id).value = value;
      text.getElementById(id).dispatchEvent(new Event(event));
    }
    choose("sort", "0", "change");
    var sorted = Array.from(text.querySelectorAll("#tiles li > p")).map(function (line) {
      return Number(line.textContent.split(" ").pop()); });
    choose("words", "sea 17", "input");
    var more = text.querySelector("#tiles details");
    more.open = true;
    more.dispatchEvent(new Event("toggle"));
    var opened = more.textContent.indexOf("sea 17") >= 0 && more.querySelector("img") !== null;
    document.getElementById("found").textContent = JSON.stringify({
      width: root.clientWidth, needed: root.scrollWidth, images: images.length,
      broken: images.filter(function (i) { return !i.naturalWidth; }).length,
      sorted: sorted, descending: sorted.slice().sort(function (a, b) { return b - a; }),
      filtered: text.querySelectorAll("#tiles li").length, opened: opened,
      stopped: moving.src !== before && button.getAttribute("aria-pressed") === "true",
      headings: Array.from(text.querySelectorAll("h1,h2,h3,h4")).map(function (h) {
        return Number(h.tagName[1]); }),
      named: Array.from(text.querySelectorAll("a,button,summary")).every(function (e) {
        return e.textContent.trim() !== ""; }),
      links: Array.from(text.querySelectorAll("a")).filter(function (a) {
        return !text.getElementById(a.getAttribute("href").slice(1)); }).length
    });
  }, 300);
});
page.srcdoc = %s;
</script></body></html>"""


def browse(page, folder):
    """Return the document after its scripts ran, and what the console said."""
    done = subprocess.run(
        [
            CHROMIUM,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *(f"--user-data-dir={folder / 'browser'}", "--enable-logging=stderr", "--v=0"),
            *("--virtual-time-budget=4000", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    chosen = fake_run.settings(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patch:
        fake_evaluators.install(patch)
        fake_run.write(chosen)
        fake_run.write_chains(chosen)
        evaluate.run(chosen)
        controls.run(chosen, ("frozen-frame",))
    return (report.run(chosen) / "index.html").read_text(encoding="utf-8")


def test_the_console_is_listened_to(tmp_path):
    page = tmp_path / "broken.html"
    page.write_text("<script>undefinedFunction()</script>")
    assert browse(page, tmp_path)[1]


def test_the_report_on_a_phone(html, tmp_path):
    page = tmp_path / "watch.html"
    inside = json.dumps(html).replace("</", "<\\/")
    page.write_text(WATCH % (PHONE, inside), encoding="utf-8")
    document, said = browse(page, tmp_path)
    assert said == []
    found = json.loads(re.search(r'<pre id="found">(.*?)</pre>', document, re.S)[1])
    assert found["needed"] == found["width"] <= PHONE  # a scroll bar may take some
    assert found["images"] == 12 * 4 + 2 + 24
    assert found["broken"] == found["links"] == 0
    assert found["stopped"]
    assert found["sorted"] == found["descending"]
    assert found["filtered"] == 1
    assert found["opened"]
    assert found["named"]
    levels = found["headings"]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
