"""From a data set's folder, or the user's own table, to the run table of one subject."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neuroclips_cli.data.layout import kinds_of_runs
from neuroclips_cli.data.readers import ReaderOptions, recognize, tree_of
from neuroclips_cli.data.region_files import RegionFile
from neuroclips_cli.data.run_table import (
    RunRow,
    check_run_table,
    read_run_table,
    rows_of_subject,
)
from neuroclips_cli.data.structures import CORTEX_ALONE
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.folders import Tree
from neuroclips_cli.settings.schema import DataSettings

OWN = "run table"
"""Name of the layout where the user gives the table."""


@dataclass(frozen=True)
class RunSource:
    """The runs of a subject and where they were found.

    Attributes
    ----------
    rows : tuple of RunRow
        Checked.
    layout : str
        The reader's name, or `OWN`.
    reason : str
        Why it is that layout.
    others : tuple of str
        Layouts that it could have been, too.
    table : Path or None
        The user's table.
    folder : Path
        What paths are counted from: the data set's folder, or the table's.
    notes : tuple of str
        What the reader decided where the user did not.
    """

    rows: tuple[RunRow, ...]
    layout: str
    reason: str
    others: tuple[str, ...]
    table: Path | None
    folder: Path
    notes: tuple[str, ...] = ()

    @property
    def in_words(self) -> str:
        """Return which layout was recognized and why, as a sentence."""
        if self.table is not None:
            return f"{len(self.rows)} rows of the run table {self.table}"
        also = f"; it could also be {' or '.join(self.others)} (--layout)" if self.others else ""
        return f"layout {self.layout} ({self.reason}): {len(self.rows)} rows of the run table{also}"


def find_runs(
    dataset: Path,
    subject: int,
    data: DataSettings,
    regions: RegionFile | None,
    *,
    tr_stated: bool,
) -> RunSource:
    """Return the run table of a subject.

    Parameters
    ----------
    dataset
        Folder of the data set; not looked at where ``data.runs`` gives the table.
    subject
        Its number.
    data
        ``layout``, ``runs``, ``raw``, ``films``, ``space``, ``task``, ``session``,
        ``structures`` and ``confounds``.
    regions
        The user's mask: one of voxels asks for volumes, unless ``data.structures`` does for CIFTI.
    tr_stated
        The user set ``data.tr_s``.

    Raises
    ------
    UserError
        If no layout fits, the subject is not there, or the table contradicts itself.
    """
    if data.runs:
        table = Path(data.runs)
        rows = rows_of_subject(read_run_table(table), subject, str(table))
        check_run_table(rows, test_only=bool(data.common))
        return RunSource(tuple(rows), OWN, "as you gave it", (), table, table.parent)
    for key, folder in (("data.raw", data.raw), ("data.films", data.films)):
        if folder and not Path(folder).is_dir():
            raise UserError(f"there is no folder {folder} ({key}): correct the path")
    tree = tree_of(dataset)
    found = recognize(tree, data.layout)
    notes: list[str] = []
    options = ReaderOptions(
        raw=Path(data.raw) if data.raw else None,
        films=Path(data.films) if data.films else None,
        space=data.space,
        task=data.task,
        session=data.session,
        confounds=data.confounds,
        test_films=data.test_films,
        test_only=bool(data.common),
        say=notes.append,
        tr_s=data.tr_s if tr_stated else None,
        volumetric=tuple(data.structures) == CORTEX_ALONE
        and _wants_volumes(regions, tree, subject),
    )
    rows = found.reader.run_table(tree, str(subject), options)
    check_run_table(rows, test_only=options.test_only)
    name, reason = found.reader.name, found.reason
    return RunSource(tuple(rows), name, reason, found.others, None, dataset, tuple(notes))


def _wants_volumes(regions: RegionFile | None, tree: Tree, subject: int) -> bool:
    """Tell whether volumes are wanted: the mask is of voxels, or of both and only they exist."""
    if regions is None or regions.volume is None:
        return False
    return not regions.surfaces or kinds_of_runs(tree, subject) == {"volume"}
