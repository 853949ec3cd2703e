"""Tables as text, separated by commas or tabs, with a header line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from neuroclips_cli.errors import UserError
from neuroclips_cli.io import atomic
from neuroclips_cli.io.text import read_text


def table_text(header: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str = ",") -> str:
    """Return a table as text with lines that end in a newline only."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Write a table atomically, in UTF-8; ``.tsv`` is separated by tabs."""
    return atomic.write_text(path, table_text(header, rows, _delimiter(path)))


def read_table(
    path: Path | str,
    delimiter: str = ",",
    *,
    restval: str | None = None,
    advice: str = "correct it",
) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    """Read the columns of a table, and every row with the number of its line.

    Parameters
    ----------
    path : Path or str
        A file with a header line.
    delimiter : str
        What separates the columns.
    restval : str, optional
        Value of the columns that a row lacks.
    advice : str
        What to do with a file that cannot be read.

    Raises
    ------
    UserError
        If the file is not a table in UTF-8.
    """
    try:
        reader = csv.DictReader(
            io.StringIO(read_text(path), newline=""), delimiter=delimiter, restval=restval
        )
        columns = [(name or "").strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        return columns, [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        kind = "a tab-separated" if delimiter == "\t" else "a comma-separated"
        raise UserError(f"{path} is not {kind} table in UTF-8 ({error}): {advice}") from error


def read_csv(path: Path | str) -> list[dict[str, str]]:
    """Read a table that neuroclips wrote as one dictionary per row."""
    return [row for _, row in read_table(path, _delimiter(Path(path)), advice="make it again")[1]]


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","
