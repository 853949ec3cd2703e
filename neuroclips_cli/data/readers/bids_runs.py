"""Runs of a BIDS derivative by their names: which copies of every run there are, which to read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from neuroclips_cli.data.bids import BidsName, parse_name
from neuroclips_cli.data.run_table import is_subject
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.folders import Tree, natural_order

OUTPUT = ("space", "den", "res", "cohort", "desc", "hemi")
"""Entities that tell copies of one run from each other."""
_ENDINGS = {
    "_bold.dtseries.nii": "cifti",
    "_bold.func.gii": "gifti",
    "_bold.func.gii.gz": "gifti",
    "_bold.nii.gz": "volumes",
    "_bold.nii": "volumes",
}
KINDS = {"cifti": "CIFTI", "gifti": "GIFTI", "volumes": "volumes"}
_HEMISPHERES = ("L", "R")
_SPACES = ("fsLR", "fsaverage", "fsnative", "MNI152NLin2009cAsym", "MNI152NLin6Asym", "MNI", "T1w")
"""Spaces in the order in which they are preferred, each with those whose names begin with it."""


@dataclass(frozen=True)
class OutputSpace:
    """What tells copies of a run from each other: where its samples lie, and in which format.

    Attributes
    ----------
    kind : str
        ``cifti``, ``gifti`` or ``volumes``.
    entities : tuple of (str, str)
        ``space``, ``den``, ``res``, ``cohort`` and ``desc``, as far as the name has them, sorted.
    """

    kind: str
    entities: tuple[tuple[str, str], ...]

    def get(self, key: str) -> str:
        """Return the value of an entity; empty if there is none."""
        return dict(self.entities).get(key, "")

    @property
    def called(self) -> str:
        """Name it in messages: ``space-fsLR_den-91k (CIFTI)``."""
        order = sorted(self.entities, key=lambda one: OUTPUT.index(one[0]))
        name = "_".join(f"{key}-{value}" for key, value in order) or "no space"
        return f"{name} ({KINDS[self.kind]})"

    @property
    def rank(self) -> tuple[int, int, int, int, int, str]:
        """Order the spaces by preference; the least is taken.

        Grayordinates come first, 91k before 170k, then surfaces that subjects share (fsaverage6,
        fsaverage5 and fsaverage, in this order), the subject's own surface, volumes in MNI space,
        in the space of the T1w image, and as they were acquired.
        """
        space = self.get("space")
        place = next((n for n, name in enumerate(_SPACES) if space.startswith(name)), len(_SPACES))
        meshes = ("fsaverage6", "fsaverage5", "fsaverage")
        mesh = meshes.index(space) if space in meshes else len(meshes)
        size = re.search(r"\d+", self.get("den") or self.get("res"))
        kinds = ("cifti", "gifti", "volumes")
        return (
            kinds.index(self.kind),
            place,
            mesh,
            int(size[0]) if size else 0,
            ("", "preproc").index(self.get("desc")) if self.get("desc") in ("", "preproc") else 2,
            self.called,
        )

    def fits(self, wanted: str) -> bool:
        """Tell whether it is what a user named, such as ``fsLR``, ``fsLR:den-170k`` or ``T1w``.

        ``func`` is fMRIPrep's word for volumes as they were acquired.
        """
        first, *more = re.split(r"[:_]", wanted)
        known = dict(self.entities)
        space = first.removeprefix("space-").lower().replace("func", "")
        pairs = [part.partition("-")[::2] for part in more]
        return known.get("space", "").lower() == space and all(
            known.get(key, "") == value for key, value in pairs
        )


@dataclass
class BidsRun:
    """One run with all its copies.

    Attributes
    ----------
    name : BidsName
        Of its first file.
    folder : Path
        Where its files lie.
    copies : dict
        Space -> files by hemisphere (``L``, ``R``; empty for files of the whole brain).
    """

    name: BidsName
    folder: Path
    copies: dict[OutputSpace, dict[str, Path]] = field(default_factory=dict)

    @property
    def key(self) -> frozenset[tuple[str, str]]:
        """Return the entities of the run, without those of its copies."""
        return self.name.without(*OUTPUT)

    def get(self, key: str) -> str:
        """Return the value of an entity; empty if there is none."""
        return self.name.entities.get(key, "")

    @property
    def stem(self) -> str:
        """Return the run's entities as they are written: ``sub-01_ses-001_task-film_run-2``."""
        pairs = ((k, v) for k, v in self.name.entities.items() if k not in OUTPUT)
        return "_".join(f"{key}-{value}" for key, value in pairs)

    @property
    def order(self) -> list[tuple[tuple[int, int | str], ...]]:
        """Order runs as they were acquired: by session, then run and task, numbers as numbers."""
        keys = ("ses", "task", "run", "acq", "dir")
        return [natural_order(self.get(key)) for key in keys] + [natural_order(self.stem)]


def is_output(path: Path) -> bool:
    """Tell whether a file is a run after preprocessing, in some space; raw runs are not."""
    return path.name.endswith(tuple(_ENDINGS)) and _output(path.name) is not None


def _output(text: str) -> tuple[BidsName, str] | None:
    """Return the parsed name and the kind of a preprocessed run; None for anything else.

    Raw runs have no ``desc``. Single echoes are left out: their combination, in its own file, is
    the run.
    """
    name = parse_name(text) if text.startswith("sub-") else None
    if name is None or name.get("part") == "phase" or name.get("echo"):
        return None
    kind = next(kind for end, kind in _ENDINGS.items() if text.endswith(end))
    if kind == "volumes" and not name.get("desc"):
        return None
    if kind == "gifti" and name.get("hemi") not in _HEMISPHERES:
        return None
    return name, kind


@lru_cache(maxsize=1)
def outputs(tree: Tree) -> Mapping[str, Sequence[tuple[Path, BidsName, str]]]:
    """Return the preprocessed runs below a folder, links to nothing too: by subject's label.

    Each is a path, its parsed name, and its kind (a key of `KINDS`). Nothing is opened.
    """
    found: dict[str, list[tuple[Path, BidsName, str]]] = defaultdict(list)
    endings = tuple(_ENDINGS)
    for path in (*tree.files, *tree.dead_links):
        text = path.name
        if text.endswith(endings) and (output := _output(text)) is not None:
            found[output[0].get("sub")].append((path, *output))
    return found


def derivative_of(path: Path, root: Path) -> Path:
    """Return the folder of the derivative that a run belongs to: the one above ``sub-...``."""
    parts = path.relative_to(root).parts[:-1]
    depth = next((n for n, part in enumerate(parts) if part.startswith("sub-")), 0)
    return root.joinpath(*parts[:depth])


def find_runs(tree: Tree, subject: int) -> dict[Path, list[BidsRun]]:
    """Return a subject's preprocessed runs by derivative; links to nothing are listed too.

    Raises
    ------
    UserError
        If one file is there twice, as with and without leading zeros of the run's number.
    """
    found: dict[Path, dict[frozenset[tuple[str, str]], BidsRun]] = defaultdict(dict)
    own = [
        one for label, those in outputs(tree).items() if is_subject(label, subject) for one in those
    ]
    for path, name, kind in own:
        runs = found[derivative_of(path, tree.root)]
        run = runs.setdefault(name.without(*OUTPUT), BidsRun(name, path.parent))
        pairs = ((k, v) for k, v in name.entities.items() if k in OUTPUT and k != "hemi")
        copy = run.copies.setdefault(OutputSpace(kind, tuple(sorted(pairs))), {})
        before = copy.setdefault(name.entities.get("hemi", ""), path)
        if before != path:
            raise UserError(f"the same run exists twice, {before} and {path}: keep one of them")
    return {root: sorted(runs.values(), key=lambda run: run.order) for root, runs in found.items()}


def choose_space(
    runs: Sequence[BidsRun], wanted: str, volumetric: bool, missing: Iterable[Path]
) -> OutputSpace:
    """Choose the copies to read: one space that every run has.

    Parameters
    ----------
    runs
        At least one.
    wanted
        The user's choice; empty: the most preferred one (`OutputSpace.rank`) whose files are all
        there, else that of which some are, else the most preferred one.
    volumetric
        Volumes only: the region mask is of voxels.
    missing
        Files that were not fetched.

    Raises
    ------
    UserError
        If a run lacks the space or a hemisphere; the message lists what there is.
    """
    lost = set(missing)
    spaces: dict[OutputSpace, list[BidsRun]] = defaultdict(list)
    for run in runs:
        for space in run.copies:
            if space.kind == "volumes" or not volumetric:
                spaces[space].append(run)
    offered = [
        space
        for space in sorted(spaces, key=lambda one: one.rank)
        if (space.fits(wanted) if wanted else space.rank[4] < 2)
    ]
    if not offered:
        there = {space for run in runs for space in run.copies}
        raise UserError(
            f"no run of {runs[0].stem.split('_')[0]} is there "
            f"{f'in the space {wanted!r}' if wanted else 'as preprocessed'}"
            f"{' as volumes, which the mask needs' if volumetric else ''}: set data.space to one "
            f"of {_list(there, spaces)}"
        )
    complete = [space for space in offered if len(spaces[space]) == len(runs)]
    if not complete:
        space = offered[0]
        lacking = next(run for run in runs if run not in spaces[space])
        raise UserError(
            f"the {len(runs)} runs have no space in common: {_list(offered, spaces)}, while "
            f"{lacking.stem} lacks {space.called}; write that file with fMRIPrep too, or read "
            "some of the runs with data.task, data.session or data.space"
        )

    def absent(space: OutputSpace) -> int:
        return sum(not lost.isdisjoint(run.copies[space].values()) for run in runs)

    chosen = min(complete, key=lambda space: (_stage(absent(space), len(runs)), space.rank))
    for run in runs:
        _require_hemispheres(run, chosen)
    return chosen


def _stage(absent: int, runs: int) -> int:
    """Return 0 where all runs are there, 1 where some are, 2 where none is."""
    return 0 if not absent else 1 if absent < runs else 2


def _list(spaces: Iterable[OutputSpace], runs: Mapping[OutputSpace, Sequence[BidsRun]]) -> str:
    ordered = sorted(spaces, key=lambda space: space.rank)
    return ", ".join(
        f"{space.called}{f' for {len(runs[space])} runs' if space in runs else ''}"
        for space in ordered
    )


def _require_hemispheres(run: BidsRun, space: OutputSpace) -> None:
    if space.kind != "gifti":
        return
    for side in _HEMISPHERES:
        if side not in run.copies[space]:
            other = next(iter(run.copies[space].values()))
            raise UserError(
                f"{other} has no file of the other hemisphere (hemi-{side}) beside it: add it, or "
                "choose another space with data.space"
            )


def files_of(run: BidsRun, space: OutputSpace) -> tuple[Path, ...]:
    """Return the files of a run's copy; of hemispheres the left one first."""
    copy = run.copies[space]
    return tuple(copy[side] for side in _HEMISPHERES) if space.kind == "gifti" else (copy[""],)


def tables_of_confounds(
    names: Iterable[tuple[BidsName, Path]], key: frozenset[tuple[str, str]]
) -> list[Path]:
    """Return the tables of confounds of a run among files: its entities, but those of its copies.

    Parameters
    ----------
    names
        Parsed names of a folder's files, and their paths.
    key
        Entities of the run, without `OUTPUT`.
    """
    found = [
        path
        for name, path in names
        if name.suffix in ("timeseries", "regressors")
        and name.extension == ".tsv"
        and name.get("desc") == "confounds"
        and name.without(*OUTPUT) == key
    ]
    # fMRIPrep renamed them in 20.2; a run that was preprocessed before and after has both.
    return [path for path in found if path.name.endswith("_timeseries.tsv")] or found
