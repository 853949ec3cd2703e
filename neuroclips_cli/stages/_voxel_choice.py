"""Which voxels ``preprocess`` keeps where training films were not repeated (``data.selection``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli import console
from neuroclips_cli.data.clip_features import clip_features, with_neighbors
from neuroclips_cli.errors import UserError
from neuroclips_cli.signal.detrend import standardize
from neuroclips_cli.signal.reproducibility import Selection
from neuroclips_cli.signal.selection import (
    Blocks,
    EncodingModel,
    PooledCorrelation,
    choose,
    choose_all,
)

ResponseBlocks = Iterator[tuple[slice, list[NDArray[np.floating]]]]
"""Some voxels, and the standardized responses of every repetition, (clips, voxels) each."""

FEWEST_CLIPS = 4
"""Fewer clips of a film leave nothing once its mean and slope are taken out."""


@dataclass(frozen=True)
class TrainingFilm:
    """What voxels are chosen by: one stretch of a training film.

    Attributes
    ----------
    name : str
    repetitions : int
        How often the subject saw it.
    responses : callable
        Returns an iterator over blocks of voxels; the file is read again at every call.
    frames : callable
        Returns its clips, uint8 (clips, frames, h, w, 3).
    others : callable
        Returns the same as ``responses`` of all other subjects who saw it, on the same voxels.
    """

    name: str
    repetitions: int
    responses: Callable[[], ResponseBlocks]
    frames: Callable[[], NDArray[np.uint8]]
    others: Callable[[], ResponseBlocks]


@dataclass(frozen=True)
class Candidates:
    """Voxels among which is chosen, and how strictly.

    Attributes
    ----------
    usable, tested : numpy.ndarray
        bool (voxels,): with a signal in all training runs; with one in any.
    region : numpy.ndarray or None
        bool (voxels,), inside the user's mask.
    level : float
        Family-wise error rate.
    order : int
        Degree of the polynomial that was removed from the responses.
    """

    usable: NDArray[np.bool_]
    tested: NDArray[np.bool_]
    region: NDArray[np.bool_] | None
    level: float
    order: int


def choose_voxels(how: str, films: Sequence[TrainingFilm], among: Candidates) -> Selection:
    """Choose voxels by training films alone; no test film is looked at.

    Parameters
    ----------
    how : str
        ``atlas``: every voxel of the mask. ``test-reliability``: what repeats, over the training
        films that were seen more than once. ``encoding``: what follows color, contrast and motion
        of the films. ``intersubject``: what other subjects show, too.
    films : sequence of TrainingFilm
        All of them.
    among : Candidates
        The voxels.

    Returns
    -------
    Selection

    Raises
    ------
    UserError
        If the films do not allow it.
    """
    if how == "atlas":
        return choose_all(usable=among.usable, region=among.region, tested=among.tested)
    measure = {
        "test-reliability": _reliability,
        "encoding": _encoding,
        "intersubject": _intersubject,
    }[how]
    mean_z, t = measure(films, among)
    return choose(
        mean_z, t, among.level, usable=among.usable, region=among.region, tested=among.tested
    )


def _reliability(
    films: Sequence[TrainingFilm], among: Candidates
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlate every pair of repetitions of the films that have some."""
    repeated = [film for film in films if film.repetitions > 1]
    if not repeated:
        raise UserError(
            "no training film was seen twice, so data.selection = test-reliability has nothing to "
            "go by: choose atlas, encoding or intersubject"
        )
    test = PooledCorrelation(len(among.usable), among.order)
    with console.progress("reliability", len(repeated), unit="film") as advance:
        for film in repeated:
            for columns, repetitions in film.responses():
                for first, second in combinations(repetitions, 2):
                    test.add(columns, first, second)
            advance(1)
    return test.statistic()


def _encoding(
    films: Sequence[TrainingFilm], among: Candidates
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit an encoding model on one half of the films, and test it on the other."""
    if len(films) < 2:
        raise UserError(
            "data.selection = encoding fits one half of the training films and tests on the other, "
            "and there is only one: choose atlas or intersubject"
        )
    features = []
    for film in films:
        wide = with_neighbors(clip_features(film.frames()))
        if len(wide) < FEWEST_CLIPS:
            raise UserError(
                f"{film.name} has {len(wide)} clips, too few for an encoding model: choose voxels "
                "by data.selection = atlas or test-reliability"
            )
        features.append(standardize(wide, min(among.order, len(wide) - 2))[0])
    model = EncodingModel(len(among.usable), features[0].shape[1], among.order)
    with console.progress("encoding model", 2 * len(films), unit="film") as advance:
        for step in (model.learn, model.score):
            for number, film in enumerate(films):
                step(number, features[number], _means(film.responses()))
                advance(1)
    return model.statistic()


def _intersubject(
    films: Sequence[TrainingFilm], among: Candidates
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlate the subject's responses with the mean of all others'."""
    test = PooledCorrelation(len(among.usable), among.order)
    with console.progress("inter-subject correlation", len(films), unit="film") as advance:
        for film in films:
            for (columns, own), (_, theirs) in zip(film.responses(), film.others(), strict=False):
                if theirs:
                    clips = min(len(own[0]), *map(len, theirs))
                    shared = np.mean([z[:clips] for z in theirs], axis=0)
                    test.add(columns, np.mean(own, axis=0)[:clips], shared)
            advance(1)
    return test.statistic()


def _means(blocks: ResponseBlocks) -> Blocks:
    """Average the repetitions of every block."""
    for columns, repetitions in blocks:
        yield columns, np.mean(repetitions, axis=0)
