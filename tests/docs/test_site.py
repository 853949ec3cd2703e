"""The site in docs/ builds strictly, its links lead somewhere, and it needs no network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from neuroclips_cli.cli.commands import COMMANDS, load
from neuroclips_cli.settings.load import keys

pytest.importorskip("sphinx", reason="needs the extra `docs`, which `test` includes")

DOCS = Path(__file__).resolve().parents[2] / "docs"


class Links(HTMLParser):
    """What a page refers to, what it loads, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.refers: set[str] = set()
        self.loads: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.anchors.add(str(found["id"]))
        if tag == "a" and found.get("href"):
            self.refers.add(str(found["href"]))
        elif tag == "link" and found.get("rel") == "stylesheet":
            self.loads.add(str(found["href"]))
        elif tag in ("script", "img", "iframe") and found.get("src"):
            self.loads.add(str(found["src"]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as a reader would, every warning an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", f"{folder}/trees"]
    measured = {name: value for name, value in os.environ.items() if "COV" not in name}
    built = subprocess.run(
        [*command, str(DOCS), str(folder / "html")], capture_output=True, text=True, env=measured
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    return {path: Links(path.read_text("utf-8")) for path in site.rglob("*.html")}


def test_every_link_leads_to_a_page_and_an_anchor_of_it(pages: dict[Path, Links]) -> None:
    broken = []
    for path, links in pages.items():
        for target in links.refers | links.loads:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            where = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages[where].anchors if where in pages else set()
            if not where.exists() or (parts.fragment and unquote(parts.fragment) not in known):
                broken.append(f"{path.name}: {target}")
    assert len(pages) > 30
    assert not broken


def test_the_site_works_without_a_network(site: Path, pages: dict[Path, Links]) -> None:
    away = {target for links in pages.values() for target in links.loads if "//" in target}
    for path in site.rglob("*.css"):
        away |= set(re.findall(r"(?:@import|url\()\s*[\"']?(https?:[^\"')]+)", path.read_text()))
    assert not away


def test_every_command_and_option_is_in_the_reference(site: Path) -> None:
    text = (site / "reference" / "generated" / "command-line.html").read_text("utf-8")
    anchors = Links(text).anchors
    for name in COMMANDS:
        assert f"neuroclips-{name}" in anchors
        command = load(name)
        for one in getattr(command, "commands", {name: command}).values():
            for option in one.params:
                for spelling in [*option.opts, *option.secondary_opts]:
                    assert not spelling.startswith("--") or spelling in text, (name, spelling)


def test_every_setting_is_in_the_reference_with_its_meaning(site: Path) -> None:
    text = (site / "reference" / "generated" / "settings.html").read_text("utf-8")
    entries = re.split(r'<dl class="std confval">', text)[1:]
    named = {re.findall(r'id="confval-([^"]+)"', entry)[0]: entry for entry in entries}
    assert list(named) == list(keys())
    silent = [key for key, entry in named.items() if "</dl>\n<p>" not in entry]
    assert not silent
