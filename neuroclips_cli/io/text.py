"""Read text files as editors on any system write them: with a byte order mark or without."""

from __future__ import annotations

import codecs
from pathlib import Path

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks and their encodings; UTF-32's begins with UTF-16's, so it comes first."""


def read_text(path: Path | str) -> str:
    """Return a file's text: UTF-8, or what its byte order mark says.

    Line ends stay as they are.

    Raises
    ------
    UnicodeDecodeError
        If it is in another encoding.
    OSError
        If it cannot be read.
    """
    content = Path(path).read_bytes()
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding)
    return content.decode("utf-8")
