"""Tables as text, separated by commas, with a header line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Write a table atomically, in UTF-8 and with lines that end in a newline only."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return atomic.write_text(path, text.getvalue())


def read_csv(path: Path | str) -> list[dict[str, str]]:
    """Read a table with a header line as one dictionary per row."""
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a table in UTF-8 ({error}): make it again") from error
