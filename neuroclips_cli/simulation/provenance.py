"""Whether films are those that ``neuroclips simulate`` made of the synthetic dataset.

The networks of this package know the synthetic dataset and nothing else; what they say of other
films means nothing. So the simulation leaves a record with the digests of its films, and a film
counts as one of them by its content, not by its name or place.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import read_json, sha256

RECORD = "simulation.json"
FILMS = "synthetic_films"


def is_synthetic(dataset: Path | str) -> bool:
    """Tell whether a data set says that its films are of the synthetic dataset; none is read."""
    return bool(dataset) and bool(_digests(Path(dataset)))


def shows_synthetic_films(dataset: Path, films: Iterable[Path]) -> bool:
    """Tell whether all films are, by their content, those that the simulation wrote.

    Parameters
    ----------
    dataset : Path
        Folder of the data set.
    films : iterable of Path
        The films in use.
    """
    known = _digests(dataset)
    return bool(known) and all(sha256(film) in known for film in films)


def film_digests(films: Iterable[Path]) -> list[str]:
    """Return what the record keeps of the films: their SHA-256, sorted."""
    return sorted(sha256(film) for film in films)


def _digests(dataset: Path) -> set[str]:
    path = dataset / RECORD
    if not path.is_file():
        return set()
    try:
        record: Any = read_json(path)
    except UserError:
        return set()
    if isinstance(record, dict) and record.get("state") == "done" and FILMS not in record:
        raise UserError(
            f"{path} is of an older version, whose films would be taken for real ones: write the "
            "data set again with `neuroclips simulate --overwrite`"
        )
    found = record.get(FILMS) if isinstance(record, dict) else None
    return set(map(str, found)) if isinstance(found, list) else set()
