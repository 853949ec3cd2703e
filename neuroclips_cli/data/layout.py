"""Find the films and runs of a data set shaped like cc2017, however its folders are arranged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from neuroclips_cli.errors import UserError

FILM_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v")
SPLITS = {"seg": "train", "test": "test"}
_FILM = re.compile(r"^(seg|test)0*(\d+)$", re.IGNORECASE)
_CIFTI_RUN = re.compile(r"^(seg|test)0*(\d+)_0*(\d+)(_.*)?\.dtseries\.nii$", re.IGNORECASE)
_VOLUME_RUN = re.compile(r"^(seg|test)0*(\d+)_0*(\d+)([_.].*)?\.nii(\.gz)?$", re.IGNORECASE)
_SUBJECT = re.compile(r"^(?:subject|subj|sub)[-_]?0*(\d+)$", re.IGNORECASE)


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
    `missing` names the test runs that do not exist.
    """

    train: tuple[Segment, ...]
    test: tuple[Segment, ...]
    train_repetitions: int
    test_repetitions: int
    missing: tuple[str, ...]


def find_layout(dataset: Path, subject: int, *, volumetric: bool = False) -> Layout:
    """Discover a subject's segments.

    Runs are searched by name under the subject's folder (``subject1``, ``sub-01`` ...), films
    under the whole data set. The number of segments and repetitions is what the files say.

    Parameters
    ----------
    dataset
        Folder of the data set.
    subject
        Subject's number.
    volumetric
        Look for NIfTI volumes (``seg1_1_mni.nii.gz``) instead of ``*.dtseries.nii``.

    Raises
    ------
    UserError
        If the folder, the subject, a film, or a training run is missing, or a run is there twice.
    """
    if not str(dataset) or not dataset.is_dir():
        raise UserError(
            f"no dataset folder at {dataset}: give --dataset, or write one with neuroclips simulate"
        )
    folder = _subject_folder(dataset, subject)
    films = _films(dataset)
    runs = _runs(folder, volumetric)
    kind = "NIfTI volumes" if volumetric else "*.dtseries.nii"
    if not runs:
        raise UserError(f"{folder} holds no runs such as seg1_1 ({kind}): check --dataset")
    if not films:
        raise UserError(f"{dataset} holds no films such as stimuli/seg1.mp4: put the stimuli there")
    _check_pairs(films, runs, folder, kind)
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
        if not found:
            raise UserError(f"{folder} holds no {split} segments: the data set is incomplete")
    train_repetitions = max(max(s.runs) for s in segments["train"])
    _check_train(segments["train"], max(2, train_repetitions), folder)
    test_repetitions = max(max(s.runs) for s in segments["test"])
    missing = tuple(
        f"{s.name}_{repetition}"
        for s in segments["test"]
        for repetition in range(1, test_repetitions + 1)
        if repetition not in s.runs
    )
    return Layout(segments["train"], segments["test"], train_repetitions, test_repetitions, missing)


def _subject_folder(dataset: Path, subject: int) -> Path:
    candidates = [dataset, *_folders(dataset), *(g for f in _folders(dataset) for g in _folders(f))]
    found: dict[int, Path] = {}
    for folder in candidates:
        match = _SUBJECT.match(folder.name)
        if match:
            found.setdefault(int(match[1]), folder)
    if subject in found:
        return found[subject]
    known = ", ".join(str(number) for number in sorted(found)) or "none"
    raise UserError(
        f"{dataset} holds no folder of subject {subject} such as subject{subject} "
        f"(subjects found: {known}): check --dataset and --subject"
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _visible(folder: Path) -> Iterable[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))


def _films(dataset: Path) -> dict[tuple[str, int], Path]:
    films: dict[tuple[str, int], Path] = {}
    for path in _visible(dataset):
        match = _FILM.match(path.stem)
        if not match or path.suffix.lower() not in FILM_SUFFIXES:
            continue
        key = (match[1].lower(), int(match[2]))
        before = films.get(key)
        if before is None or path.parent.name == "stimuli" != before.parent.name:
            films[key] = path
        elif before.parent.name != "stimuli" or path.parent.name == "stimuli":
            raise UserError(f"two films are called alike, {before} and {path}: remove one")
    return films


def _runs(folder: Path, volumetric: bool) -> dict[tuple[str, int], dict[int, Path]]:
    runs: dict[tuple[str, int], dict[int, Path]] = {}
    for path in _visible(folder):
        match = (_VOLUME_RUN if volumetric else _CIFTI_RUN).match(path.name)
        if not match or (volumetric and ".dtseries." in path.name):
            continue
        repetitions = runs.setdefault((match[1].lower(), int(match[2])), {})
        repetition = int(match[3])
        if repetition in repetitions:
            raise UserError(
                f"the same run is there twice, {repetitions[repetition]} and {path}: "
                f"keep only one of them under {folder}"
            )
        repetitions[repetition] = path
    return runs


def _check_pairs(
    films: Mapping[tuple[str, int], Path],
    runs: Mapping[tuple[str, int], Mapping[int, Path]],
    folder: Path,
    kind: str,
) -> None:
    """Every film needs runs, every run needs a film, and the numbers have no gaps."""
    for prefix in SPLITS:
        numbers = {n for name, n in (*films, *runs) if name == prefix}
        for number in range(1, max(numbers, default=0) + 1):
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


def _check_train(segments: Iterable[Segment], repetitions: int, folder: Path) -> None:
    for segment in segments:
        for repetition in range(1, repetitions + 1):
            if repetition not in segment.runs:
                raise UserError(
                    f"the training run {segment.name}_{repetition} is missing under {folder}: "
                    f"every training segment needs {repetitions} repetitions"
                )
