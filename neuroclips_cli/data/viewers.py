"""Which subject saw which films, where a data set says that not everybody saw all of them.

``subjects.csv`` beside the films has a line ``film,subject`` for every film that a subject saw.
Without it every subject is expected to have runs of every film.
"""

from __future__ import annotations

from pathlib import Path

from neuroclips_cli.errors import UserError
from neuroclips_cli.io.csv import read_table

VIEWERS = "subjects.csv"


def unseen_films(path: Path, subject: int) -> set[str]:
    """Return the films that other subjects saw and this one did not.

    Parameters
    ----------
    path : Path
        The table; where it is missing, everybody saw all films.
    subject : int
        Number of the subject.

    Returns
    -------
    set of str
        Names such as ``seg3``, in lower case.

    Raises
    ------
    UserError
        If the file is not such a table, or names no film for the subject.
    """
    if not path.is_file():
        return set()
    columns, rows = read_table(path, restval="", advice="correct or remove it")
    for name in ("film", "subject"):
        if name not in columns:
            raise UserError(f"{path} lacks the column {name}: correct or remove it")
    try:
        pairs = {(row["film"].strip().lower(), int(row["subject"])) for _, row in rows}
    except ValueError as error:
        raise UserError(
            f"{path} has a subject that is not a number ({error}): correct it"
        ) from error
    seen = {film for film, number in pairs if number == subject}
    if not seen:
        raise UserError(
            f"{path} names no film that subject {subject} saw: add its lines film,subject, or "
            "correct --subject"
        )
    return {film for film, _ in pairs} - seen
