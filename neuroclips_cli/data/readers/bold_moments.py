"""BOLD Moments (OpenNeuro ds005165): videos of 3 s, one per trial, tasks ``train`` and ``test``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from neuroclips_cli.data.readers.bids_films import ODDBALL
from neuroclips_cli.data.readers.bids_runs import is_output
from neuroclips_cli.data.readers.fmriprep import Fmriprep, number_repetitions
from neuroclips_cli.data.readers.options import ReaderOptions
from neuroclips_cli.data.run_table import RunRow
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.folders import Tree

TR_S = 1.75
CLIP_S = 3.0
_VERSIONS = ("versionB", "versionA")
"""Its derivatives, the recommended one first."""


class BoldMoments:
    """``derivatives/versionB/fmriprep/sub-01/ses-02/func/...task-train_run-1...bold...``."""

    name = "bold-moments"

    def recognizes(self, tree: Tree) -> str:
        """See :class:`neuroclips_cli.data.readers.Reader`."""
        runs = [
            path for path in (*tree.files, *tree.dead_links) if _version(path) and is_output(path)
        ]
        return f"{len(runs)} preprocessed runs in {_version(runs[0])}" if runs else ""

    def run_table(self, tree: Tree, subject: str, options: ReaderOptions) -> list[RunRow]:
        """See :class:`neuroclips_cli.data.readers.Reader`.

        Every trial is a stretch of its own: the responses to videos that follow each other 4 s
        apart overlap. Oddballs, to which subjects pressed a button, are left out.
        """
        found = {_version(path) for path in (*tree.files, *tree.dead_links) if is_output(path)}
        version = next((one for one in _VERSIONS if one in found), "")
        if not version:
            raise UserError(
                f"{tree.root} holds no derivatives/versionB or versionA of BOLD Moments: give the "
                "data set's own folder, or read its fMRIPrep outputs with --layout fmriprep"
            )
        others = [one for one in _VERSIONS if one in found and one != version]
        if others:
            options.say(f"{version} is read, not {', '.join(others)}")
        one = Tree(
            tree.root,
            _without(tree.files, version),
            tree.folders,
            _without(tree.dead_links, version),
            tree.unreadable,
        )
        stated = options if options.task else replace(options, task="train,test")
        rows = Fmriprep().run_table(one, subject, stated)
        kept = [row for row in rows if not ODDBALL.search(row.film.stem)]
        if len(kept) < len(rows):
            options.say(f"{len(rows) - len(kept)} oddballs are left out")
        options.say(
            f"videos last {CLIP_S:g} s: set data.clip_s to {CLIP_S:g} and data.standardize to run"
        )
        return number_repetitions(kept)


def _version(path: Path) -> str:
    return next((part for part in path.parts if part in _VERSIONS), "")


def _without(paths: tuple[Path, ...], version: str) -> tuple[Path, ...]:
    """Leave out the runs of other versions."""
    return tuple(path for path in paths if _version(path) in ("", version))
