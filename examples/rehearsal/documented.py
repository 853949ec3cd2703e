"""The commands of docs/how-to/released-checkpoints.md, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "released-checkpoints.md"
HEADING = "## From an empty disk to a full-size report"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def scripts(text: str | None = None) -> list[str]:
    """Return the shell scripts of the section, in order.

    Parameters
    ----------
    text : str, optional
        The document; docs/how-to/released-checkpoints.md by default.

    Raises
    ------
    ValueError
        If there is no such section, or no command in it.
    """
    text = DOCUMENT.read_text("utf-8") if text is None else text
    _, found, rest = text.partition(f"\n{HEADING}\n")
    section = re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    blocks = _BLOCK.findall(section)
    if not found or not any("neuroclips " in block for block in blocks):
        raise ValueError(f"the section '{HEADING}' has no commands")
    return blocks
