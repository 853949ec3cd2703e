"""How Sphinx builds the site: ``python -m sphinx -W --keep-going docs build/site``."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER / "extensions"), str(FOLDER.parent)]

import generated_reference

from neuroclips_cli import __version__

project = "neuroclips"
author = "the neuroclips authors"
copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml"]
exclude_patterns = ["scripts", "extensions"]

# Anchors for headings, so that links to sections are checked as well as links to pages.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]

# Everything that the code documents: public names with a docstring, types in the signature.
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_mock_imports = [
    name
    for name in ("torch", "torchvision", "diffusers", "transformers", "open_clip", "accelerate")
    if importlib.util.find_spec(name) is None
]
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

# Types in docstrings are words; several classes may have an attribute of that name.
suppress_warnings = ["ref.python"]
toc_object_entries = False

html_theme = "furo"
html_title = f"neuroclips {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}


def _protect_stars(app: object, what: str, name: str, obj: object, of: object, lines: list) -> None:
    """Keep the star of a shape such as (clips, *shape), which would begin emphasized text."""
    for number, line in enumerate(lines):
        if "*" in line and not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(``.*?``)", line)
            parts[::2] = [
                re.sub(r"(?<=[(, ])\*(?=[a-z_ ]+\))", r"\\*", part) for part in parts[::2]
            ]
            lines[number] = "".join(parts)


def setup(app: Sphinx) -> None:
    """Write the pages that are generated from the code before Sphinx looks for pages."""
    generated_reference.write(FOLDER / "reference" / "generated")
    app.connect("autodoc-process-docstring", _protect_stars, priority=400)  # before Napoleon
