"""Find the films and runs of a data set shaped like cc2017, however its folders are arranged."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from neuroclips_cli.data.video_checks import SUFFIXES
from neuroclips_cli.data.viewers import VIEWERS, unseen_films
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.atomic import sha256
from neuroclips_cli.io.folders import Tree, walk
from neuroclips_cli.io.placeholders import what_to_fetch

TRAINING = "seg"
SPLITS = {TRAINING: "train", "test": "test"}
_FILM = re.compile(r"^(seg|test)0*(\d+)$", re.IGNORECASE)
_CIFTI_RUN = re.compile(r"^(seg|test)0*(\d+)_0*(\d+)(_.*)?\.dtseries\.nii$", re.IGNORECASE)
_VOLUME_RUN = re.compile(r"^(seg|test)0*(\d+)_0*(\d+)([_.].*)?\.nii(\.gz)?$", re.IGNORECASE)
_SUBJECT = re.compile(r"^(?:subject|subj|sub)[-_]?0*(\d+)$", re.IGNORECASE)
_ARCHIVES = (".zip", ".7z", ".tar", ".tgz", ".tar.gz")

Key = tuple[str, int]
"""``("seg", 3)`` or ``("test", 3)``."""


@dataclass(frozen=True)
class Segment:
    """One film and the runs recorded while it was shown.

    Attributes
    ----------
    split
        ``train`` or ``test``.
    number
        From 1.
    film
        The video.
    runs
        Repetition (from 1) -> file.
    """

    split: str
    number: int
    film: Path
    runs: Mapping[int, Path]

    @property
    def name(self) -> str:
        """``seg3`` or ``test3``, as the files are called."""
        return f"{'seg' if self.split == 'train' else 'test'}{self.number}"


@dataclass(frozen=True)
class Layout:
    """All segments of a subject, in order.

    `train_repetitions` and `test_repetitions` are the largest repetition numbers found;
    `missing` names the test runs that do not exist; `volumetric` tells that the runs are volumes;
    `unseen` are films, as (split, number), that only other subjects saw.
    """

    train: tuple[Segment, ...]
    test: tuple[Segment, ...]
    train_repetitions: int
    test_repetitions: int
    missing: tuple[str, ...]
    volumetric: bool = False
    unseen: frozenset[tuple[str, int]] = frozenset()


def film_name(path: Path) -> str:
    """Return how a film is called: ``seg3`` for ``Seg03.mp4``, any other by its own name."""
    match = _FILM.match(path.stem)
    return f"{match[1].lower()}{int(match[2])}" if match else path.stem


def film_number(path: Path) -> int | None:
    """Return the number in a film's name, 3 for ``seg3.mp4``; None for other names."""
    match = _FILM.match(path.stem)
    return int(match[2]) if match else None


def is_run_name(path: Path) -> bool:
    """Tell whether a file is called as cc2017's runs are, be it a surface or a volume."""
    return any(_run_key(path, volumetric) for volumetric in (False, True))


def find_layout(
    dataset: Path,
    subject: int,
    *,
    volumetric: bool = False,
    space: str = "",
    test_only: bool = False,
    tree: Tree | None = None,
) -> Layout:
    """Discover a subject's segments.

    Runs are searched by name under folders of the subject (``subject1``, ``sub-01`` ...) at any
    depth, films under the whole data set: archives may lie as they were unpacked, side by side.
    The number of segments and repetitions is what the files say.

    Parameters
    ----------
    dataset
        Folder of the data set.
    subject
        Subject's number.
    volumetric
        Look for NIfTI volumes (``seg1_1_mni.nii.gz``) instead of ``*.dtseries.nii``.
    space
        Which of several copies of the runs to take: part of a folder's or a file's name, such as
        ``mni`` or ``raw``. Empty: MNI volumes before others, and raw ones last.
    test_only
        A subject with test runs alone will do; the training films are then those of others.
    tree
        Everything below ``dataset``, where it was listed already.

    Raises
    ------
    UserError
        If the folder, the subject, a film, or a training run is missing or was not fetched, or a
        run is there twice.
    """
    if not str(dataset) or not dataset.is_dir():
        raise UserError(
            f"no dataset folder at {dataset}: give --dataset, or write one with neuroclips simulate"
        )
    tree = walk(dataset) if tree is None else tree
    folder = _subject_folder(tree, subject)
    _require_readable(tree, subject)
    films = _films(tree)
    kind = "NIfTI volumes" if volumetric else "*.dtseries.nii"
    runs, elsewhere = _runs(tree, subject, volumetric, space)
    if not runs:
        raise UserError(_no_runs(tree, subject, folder, volumetric))
    if not films:
        raise UserError(
            f"{dataset} holds no films such as stimuli/seg1.mp4: put the stimuli there, or give "
            "the folder that holds their archive's folder too"
        )
    unseen = _leave_unseen_out(films, runs, subject)
    if test_only and not any(prefix == TRAINING for prefix, _ in runs):
        others = {key for key in films if key[0] == TRAINING}
        unseen, films = unseen | others, {k: film for k, film in films.items() if k not in others}
    _check_pairs(films, runs, folder, kind, unseen)
    segments = {
        split: tuple(
            Segment(
                split, number, films[prefix, number], dict(sorted(runs[prefix, number].items()))
            )
            for name, number in sorted(films)
            if name == prefix
        )
        for prefix, split in SPLITS.items()
    }
    for split, found in segments.items():
        if not found and not (test_only and split == "train"):
            raise UserError(f"{folder} holds no {split} segments: the data set is incomplete")
    train_repetitions = max((max(s.runs) for s in segments["train"]), default=0)
    _check_train(segments["train"], max(2, train_repetitions), folder, elsewhere)
    test_repetitions = max(max(s.runs) for s in segments["test"])
    missing = tuple(
        f"{s.name}_{repetition}"
        for s in segments["test"]
        for repetition in range(1, test_repetitions + 1)
        if repetition not in s.runs
    )
    repetitions = (train_repetitions, test_repetitions)
    left_out = frozenset((SPLITS[prefix], number) for prefix, number in unseen)
    return Layout(segments["train"], segments["test"], *repetitions, missing, volumetric, left_out)


def kinds_of_runs(tree: Tree, subject: int) -> set[str]:
    """Return which kinds of runs a subject has: ``surface``, ``volume``, or both."""
    own = [path for path in tree.files if _subject_of(path, tree.root) == subject]
    kinds = {"surface": False, "volume": True}
    return {name for name, kind in kinds.items() if any(_run_key(path, kind) for path in own)}


def _subject_of(path: Path, root: Path) -> int | None:
    """Return the subject whose folder a path lies in, the innermost one; None if there is none."""
    names = (*reversed(path.relative_to(root).parts), Path(os.path.abspath(root)).name)
    return next((int(match[1]) for name in names if (match := _SUBJECT.match(name))), None)


def _subject_folder(tree: Tree, subject: int) -> Path:
    """Return the outermost folder of a subject."""
    found: dict[int, Path] = {}
    for folder in sorted((tree.root, *tree.folders), key=lambda path: len(path.parts)):
        match = _SUBJECT.match(Path(os.path.abspath(folder)).name)
        if match:
            found.setdefault(int(match[1]), folder)
    if subject in found:
        return found[subject]
    known = ", ".join(str(number) for number in sorted(found)) or "none"
    raise UserError(
        f"{tree.root} holds no folder of subject {subject} such as subject{subject} "
        f"(subjects found: {known}{_packed(tree)}): check --dataset and --subject"
    )


def _packed(tree: Tree) -> str:
    """Name an archive that was not unpacked, for a message about what is missing."""
    packed = [path for path in tree.files if path.name.lower().endswith(_ARCHIVES)]
    return f"; {packed[0]} is not unpacked" if packed else ""


def _require_readable(tree: Tree, subject: int) -> None:
    """Refuse folders that may hold the subject's runs, or films, but cannot be listed."""
    for folder in tree.unreadable:
        if _subject_of(folder, tree.root) in (subject, None):
            raise UserError(
                f"the folder {folder} cannot be read: give yourself access to it, or move it away"
            )


def _require_fetched(links: Iterable[Path]) -> None:
    """Refuse links to nothing that bear the name of a film or run."""
    dead = list(links)
    if dead:
        more = f" ({len(dead)} files are missing so)" if len(dead) > 1 else ""
        raise UserError(what_to_fetch(dead[0]) + more)


def _film_key(path: Path) -> Key | None:
    match = _FILM.match(path.stem)
    if not match or path.suffix.lower() not in (*SUFFIXES, ".gif"):
        return None
    return match[1].lower(), int(match[2])


def _films(tree: Tree) -> dict[Key, Path]:
    """Return the films; those in a folder ``stimuli`` before others."""
    _require_fetched(path for path in tree.dead_links if _film_key(path))
    films: dict[Key, Path] = {}
    for path in tree.files:
        key = _film_key(path)
        if key is None:
            continue
        before = films.setdefault(key, path)
        mine, theirs = (p.parent.name.lower() == "stimuli" for p in (path, before))
        if mine and not theirs:
            films[key] = path
        elif mine == theirs and not same_file(before, path):
            raise UserError(f"two films have the same name, {before} and {path}: remove one")
    return films


def unseen_segments(films: Path, subject: int) -> frozenset[tuple[str, int]]:
    """Return the films, as (split, number), that only other subjects saw.

    Parameters
    ----------
    films
        Folder of the films, where the table of who saw what lies.
    subject
        Number of the subject.
    """
    return frozenset((SPLITS[prefix], n) for prefix, n in _unseen_keys(films / VIEWERS, subject))


def _unseen_keys(table: Path, subject: int) -> frozenset[Key]:
    known = (_FILM.match(name) for name in unseen_films(table, subject))
    return frozenset((match[1].lower(), int(match[2])) for match in known if match)


def _leave_unseen_out(
    films: dict[Key, Path], runs: Mapping[Key, Mapping[int, Path]], subject: int
) -> frozenset[Key]:
    """Leave out the films that this subject did not see, as a table beside them says."""
    table = next(iter(films.values())).parent / VIEWERS
    unseen = _unseen_keys(table, subject)
    for key in unseen:
        if key in runs:
            raise UserError(
                f"subject {subject} has runs of {key[0]}{key[1]}, such as "
                f"{next(iter(runs[key].values()))}, but {table} says that it did not see this "
                "film: correct the table"
            )
        films.pop(key, None)
    return unseen


def same_file(one: Path, other: Path) -> bool:
    """Tell whether two paths lead to one file, or to copies of it."""
    if one.samefile(other):
        return True
    return one.stat().st_size == other.stat().st_size and sha256(one) == sha256(other)


def _run_key(path: Path, volumetric: bool) -> tuple[Key, int] | None:
    match = (_VOLUME_RUN if volumetric else _CIFTI_RUN).match(path.name)
    if not match or (volumetric and ".dtseries." in path.name.lower()):
        return None
    return (match[1].lower(), int(match[2])), int(match[3])


def _words(path: Path, root: Path) -> set[str]:
    """Return the words that may tell a run's space: of the file's ending, and the folders'."""
    ending = re.split(r"[_.]", path.name.lower())[2:]
    return {*ending, *(part.lower() for part in path.relative_to(root).parent.parts)}


def _rank(words: set[str]) -> int:
    """Order copies of a run: MNI volumes, then unknown ones, then raw ones."""
    if any(word.startswith("mni") for word in words):
        return 0
    return 2 if "raw" in words else 1


def _runs(
    tree: Tree, subject: int, volumetric: bool, space: str
) -> tuple[dict[Key, dict[int, Path]], dict[tuple[Key, int], Path]]:
    """Return the subject's runs by segment and repetition, all of one space, and other copies."""

    def is_run(path: Path) -> bool:
        return bool(_run_key(path, volumetric)) and _subject_of(path, tree.root) == subject

    copies = {
        path: _words(path, tree.root) for path in (*tree.files, *tree.dead_links) if is_run(path)
    }
    if space:
        chosen = [path for path, words in copies.items() if space.lower() in words]
        if copies and not chosen:
            raise UserError(
                f"no run under {tree.root} has {space} in its folder's or its own name, such as "
                f"{next(iter(copies))}: correct data.space"
            )
    else:
        best = min(map(_rank, copies.values()), default=0)
        chosen = [path for path, words in copies.items() if _rank(words) == best]
    _require_fetched(path for path in chosen if not path.exists())
    runs: dict[Key, dict[int, Path]] = {}
    for path in chosen:
        key, repetition = _run_key(path, volumetric) or (("", 0), 0)
        before = runs.setdefault(key, {}).setdefault(repetition, path)
        if before != path and not before.samefile(path):
            raise UserError(
                f"the same run exists twice, {before} and {path}: keep only one of them, or "
                "name its folder as data.space"
            )
    others = {_run_key(path, volumetric): path for path in copies if path not in chosen}
    return runs, {key: path for key, path in others.items() if key is not None}


def _no_runs(tree: Tree, subject: int, folder: Path, volumetric: bool) -> str:
    """Say that a subject has no runs of one kind, and what there is instead."""
    wanted, other = "NIfTI volumes", "*.dtseries.nii"
    advice = "leave data.mask empty, or give a mask of the cortical surface"
    if not volumetric:
        wanted, other = other, wanted
        advice = "give a volume mask on their grid with --mask"
    if any(
        _run_key(path, not volumetric) and _subject_of(path, tree.root) == subject
        for path in tree.files
    ):
        return f"{folder} holds no runs such as seg1_1 as {wanted}, but as {other}: {advice}"
    return f"{folder} holds no runs such as seg1_1 ({wanted}{_packed(tree)}): check --dataset"


def _check_pairs(
    films: Mapping[tuple[str, int], Path],
    runs: Mapping[tuple[str, int], Mapping[int, Path]],
    folder: Path,
    kind: str,
    unseen: Collection[Key],
) -> None:
    """Every film needs runs, every run needs a film, and the numbers have no gaps."""
    for prefix in SPLITS:
        numbers = {n for name, n in (*films, *runs) if name == prefix}
        for number in range(1, max(numbers, default=0) + 1):
            if (prefix, number) in unseen:
                continue
            if (prefix, number) not in films:
                raise UserError(
                    f"the film {prefix}{number} is missing although runs of it or of later ones "
                    f"exist under {folder}: add {prefix}{number}.mp4 to the stimuli"
                )
            if (prefix, number) not in runs:
                raise UserError(
                    f"no run of segment {prefix}{number} ({kind}) under {folder} although its film "
                    f"{films[prefix, number]} exists: add {prefix}{number}_1 or remove the film"
                )


def _check_train(
    segments: Iterable[Segment],
    repetitions: int,
    folder: Path,
    elsewhere: Mapping[tuple[Key, int], Path],
) -> None:
    for segment in segments:
        for repetition in range(1, repetitions + 1):
            if repetition not in segment.runs:
                other = elsewhere.get((("seg", segment.number), repetition))
                where = f", in the other runs' space ({other} is in another one)" if other else ""
                raise UserError(
                    f"the training run {segment.name}_{repetition} is missing under {folder}"
                    f"{where}: every training segment needs {repetitions} repetitions"
                )
