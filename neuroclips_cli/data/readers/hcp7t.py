"""HCP 7T movies: four runs per subject, excerpts of films between rests, the last one repeated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from neuroclips_cli.data.brain_images import read_or_raise
from neuroclips_cli.data.readers.options import ReaderOptions
from neuroclips_cli.data.run_table import RunRow, is_subject, subject_number
from neuroclips_cli.errors import UserError
from neuroclips_cli.io.folders import Tree
from neuroclips_cli.io.placeholders import require_content, what_to_fetch

TR_S = 1.0
_RUN = re.compile(r"^tfMRI_MOVIE([1-4])_7T_(AP|PA)_Atlas(.*)\.dtseries\.nii$")
_VOLUMES = re.compile(r"^tfMRI_MOVIE([1-4])_7T_(AP|PA).*\.nii(\.gz)?$")
_FILM = re.compile(r"^7T_MOVIE([1-4])_(CC1|HO1|CC2|HO2)(_v2)?$", re.IGNORECASE)
_FILM_ENDINGS = (".mp4", ".avi", ".mov", ".mkv")
_SPACES = {"1.6mm": "1.6mm", "170k": "1.6mm", "2mm": "2mm", "91k": "2mm"}


@dataclass(frozen=True)
class Movie:
    """One of the four runs.

    Attributes
    ----------
    volumes : int
        Of a whole run at TR 1 s, which is how long its film lasts in s.
    excerpts : tuple of (float, float)
        Beginning and end of every excerpt in s of the film, which began with the first volume.
        The last one shows the same in all four films.
    """

    volumes: int
    excerpts: tuple[tuple[float, float], ...]


MOVIES = {
    1: Movie(921, ((20, 264), (284, 506), (526, 714), (734, 798), (818, 901))),
    2: Movie(918, ((20, 247), (267, 525), (546, 795), (815, 898))),
    3: Movie(915, ((20, 201), (221, 405), (426, 629), (650, 792), (812, 895))),
    4: Movie(901, ((20, 252), (273, 502), (523, 777), (798, 881))),
}
"""Whole seconds that lie inside the excerpts, of the HCP's table of clips (wiki, "7T Movie watching
task clip info"); published analyses differ from each other by 1 s at single borders."""


class Hcp7t:
    """``100610/MNINonLinear/Results/tfMRI_MOVIE1_7T_AP/...``, films ``7T_MOVIE1_CC1_v2.mp4``."""

    name = "hcp7t"

    def recognizes(self, tree: Tree) -> str:
        """See :class:`neuroclips_cli.data.readers.Reader`."""
        runs = [path for path in (*tree.files, *tree.dead_links) if _RUN.match(path.name)]
        return f"{len(runs)} runs such as {runs[0].name}" if runs else ""

    def run_table(self, tree: Tree, subject: str, options: ReaderOptions) -> list[RunRow]:
        """See :class:`neuroclips_cli.data.readers.Reader`.

        The four showings of the last excerpt are repetitions of one stretch, that of the first
        film; all other excerpts are for training. Rests between excerpts are left out.
        """
        number = subject_number(subject)
        runs = _runs_of(tree, number, options)
        films = _films(tree, runs, options)
        for movie in sorted(set(MOVIES) - set(runs)):
            options.say(f"subject {number} has no run of MOVIE{movie}: the others are taken")
        rows = [
            _row(number, runs[movie], films[movie], start, start, end - start, options)
            for movie in sorted(runs)
            for start, end in MOVIES[movie].excerpts[:-1]
        ]
        reference = min(runs)
        film_start = MOVIES[reference].excerpts[-1][0]
        for repetition, movie in enumerate(sorted(runs), start=1):
            start, end = MOVIES[movie].excerpts[-1]
            rows.append(
                _row(
                    number,
                    runs[movie],
                    films[reference],
                    film_start,
                    start,
                    end - start,
                    options,
                    repetition,
                )
            )
        options.say(
            f"the last excerpt, which all films share, is for testing ({len(runs)} repetitions); "
            "the others are for training"
        )
        return rows


def _row(
    number: int,
    run: Path,
    film: Path,
    film_start_s: float,
    scan_start_s: float,
    duration_s: float,
    options: ReaderOptions,
    test_repetition: int = 0,
) -> RunRow:
    return RunRow(
        subject=str(number),
        session="",
        files=(run,),
        key="",
        film=film,
        film_start_s=float(film_start_s),
        scan_start_s=float(scan_start_s),
        duration_s=float(duration_s),
        tr_s=TR_S if options.tr_s is None else options.tr_s,
        split="test" if test_repetition else "train",
        repetition=test_repetition or 1,
    )


def _subject_label(path: Path, root: Path) -> str:
    """Return the subject: the folder that holds ``MNINonLinear``, else one that is a number."""
    names = path.relative_to(root.parent).parts[:-1]
    if "MNINonLinear" in names[1:]:
        return names[names.index("MNINonLinear") - 1]
    return next((name for name in reversed(names) if name.isdecimal() and len(name) == 6), "")


def _runs_of(tree: Tree, number: int, options: ReaderOptions) -> dict[int, Path]:
    """Return the subject's runs by movie, all of them of one kind of file."""
    everything = (*tree.files, *tree.dead_links)
    found = [
        (path, match)
        for path in everything
        if (match := _RUN.match(path.name)) and is_subject(_subject_label(path, tree.root), number)
    ]
    if options.volumetric and found:
        raise UserError(
            f"{found[0][0].parent} is read as *.dtseries.nii, not as volumes: leave data.mask "
            "empty, give a mask of the cortical surface, or list the volumes in a run table"
        )
    if not found:
        raise UserError(_no_runs(tree, number))
    kinds: dict[str, dict[int, Path]] = {}
    for path, match in found:
        before = kinds.setdefault(match[3], {}).setdefault(int(match[1]), path)
        if before != path and not before.samefile(path):
            raise UserError(f"the same run exists twice, {before} and {path}: keep one of them")
    kind = _choose(kinds, options.space, number)
    options.say(f"the runs are *_Atlas{kind}.dtseries.nii ({_resolution(kind)})")
    runs = kinds[kind]
    dead = [path for path in runs.values() if not path.exists()]
    if dead:
        raise UserError(
            f"{what_to_fetch(dead[0])} ({len(dead)} of {len(runs)} runs are missing so)"
        )
    for movie, path in runs.items():
        _check_volumes(movie, path)
    return runs


def _resolution(kind: str) -> str:
    return "1.6 mm, 170k grayordinates" if "1.6mm" in kind else "2 mm, 91k grayordinates"


def _choose(kinds: dict[str, dict[int, Path]], space: str, number: int) -> str:
    """Choose one kind of file for all runs: most runs, cleaned, MSMAll, 2 mm before others."""
    allowed = list(kinds)
    if space:
        wanted = _SPACES.get(space.lower().replace(" ", ""))
        if wanted is None:
            raise UserError(f"data.space = {space!r} is unknown here: write 1.6mm or 2mm")
        allowed = [kind for kind in kinds if ("1.6mm" in kind) == (wanted == "1.6mm")]
        if not allowed:
            raise UserError(
                f"subject {number} has no runs of {wanted}, but *_Atlas{next(iter(kinds))}"
                ".dtseries.nii: change data.space or fetch them"
            )

    def rank(kind: str) -> tuple[int, bool, bool, bool, str]:
        return (
            -len(kinds[kind]),
            not kind.endswith("_clean"),
            "MSMAll" not in kind,
            "1.6mm" in kind,
            kind,
        )

    return min(allowed, key=rank)


def _no_runs(tree: Tree, number: int) -> str:
    labels = {
        _subject_label(path, tree.root)
        for path in (*tree.files, *tree.dead_links)
        if _RUN.match(path.name) or _VOLUMES.match(path.name)
    }
    if any(is_subject(label, number) for label in labels):
        return (
            f"subject {number} has volumes only: fetch its tfMRI_MOVIE*_Atlas*.dtseries.nii, or "
            "list the volumes in a run table"
        )
    known = ", ".join(sorted(labels - {""})[:5]) or "none"
    return (
        f"{tree.root} holds no movie run of subject {number} (subjects found: {known}): check "
        "--dataset and --subject, or name another layout with --layout"
    )


def _check_volumes(movie: int, path: Path) -> None:
    """Compare the number of volumes, by the first bytes of the file, with a whole run's."""
    require_content(path)
    shape = read_or_raise(path, partial(_shape, path))
    volumes, whole = (int(shape[4]) if len(shape) > 5 else 0), MOVIES[movie].volumes
    if volumes != whole:
        raise UserError(
            f"{path} holds {volumes} volumes, a whole run of MOVIE{movie} {whole}: fetch it again, "
            "or list what it shows in a run table"
        )


def _shape(path: Path) -> tuple[int, ...]:
    from nibabel.nifti2 import Nifti2Header

    with path.open("rb") as stream:
        return tuple(Nifti2Header.from_fileobj(stream).get_data_shape())


def _films(tree: Tree, runs: Iterable[int], options: ReaderOptions) -> dict[int, Path]:
    """Return a film for every run; version 2 where both versions are there."""
    paths: Sequence[Path] = (*tree.files, *tree.dead_links)
    if options.films is not None:
        paths = [path for path in options.films.rglob("*") if not path.name.startswith(".")]
    found: dict[int, list[Path]] = {}
    for path in paths:
        match = _FILM.match(path.stem)
        if match and path.suffix.lower() in _FILM_ENDINGS:
            found.setdefault(int(match[1]), []).append(path)
    chosen, where = {}, options.films or tree.root
    for movie in runs:
        films = sorted(found.get(movie, []), key=lambda path: "_v2" not in path.stem.lower())
        if not films:
            name = {1: "CC1", 2: "HO1", 3: "CC2", 4: "HO2"}[movie]
            raise UserError(
                f"no film 7T_MOVIE{movie}_{name}_v2.mp4 under {where}: fetch the HCP's movie "
                "stimuli, or name their folder with --films"
            )
        chosen[movie] = films[0]
        if not films[0].exists():
            raise UserError(what_to_fetch(films[0]))
    old = any("_v2" not in film.stem.lower() for film in chosen.values())
    options.say(
        f"films of version {1 if old else 2} are taken; subjects scanned before 2014-08-22 saw "
        "version 1, the later ones version 2"
    )
    return chosen
