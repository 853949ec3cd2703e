"""How simulated subjects differ: topography, gain, noise, and the films that they saw.

Subject 1 is the reference: its draw is the topography that the others share in part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from neuroclips_cli.settings.schema import SimulateSettings
from neuroclips_cli.simulation.encoding import Brain
from neuroclips_cli.simulation.films import film_names
from neuroclips_cli.simulation.noise import named_rng

DIFFERENCES = (
    "shared_topography",
    "tuning_difference",
    "gain_spread",
    "noise_spread",
    "seen_by_all",
    "seen_by_some",
)
"""Settings that say how subjects differ; they mean nothing for one subject alone."""


@dataclass(frozen=True)
class Scaling:
    """Two factors by which a subject differs from the reference.

    Attributes
    ----------
    gain : float
        On everything that the scanner records, above 0.
    noise : float
        On the noise, above 0: less signal to noise above 1.
    """

    gain: float = 1.0
    noise: float = 1.0


def draw_scaling(number: int, seed: int, simulate: SimulateSettings) -> Scaling:
    """Draw a subject's gain and noise.

    Parameters
    ----------
    number : int
        From 1, the reference, which has 1 for both.
    seed : int
        Of the data set.
    simulate : SimulateSettings
        ``gain_spread`` and ``noise_spread``, deviations of the factors' logarithms.

    Returns
    -------
    Scaling
        ``exp(spread n)`` with n standard normal.
    """
    if number == 1:
        return Scaling()
    rng = named_rng(seed, number, "scaling")
    gain, noise = rng.standard_normal(2)
    return Scaling(
        float(np.exp(simulate.gain_spread * gain)), float(np.exp(simulate.noise_spread * noise))
    )


def share_topography(
    own: Brain, reference: Brain, cortex: int, number: int, seed: int, simulate: SimulateSettings
) -> Brain:
    """Let a brain respond, in part of the vertices, much as the reference does there.

    Parameters
    ----------
    own, reference : Brain
        Drawn alike, so that row i of both is early or higher.
    cortex : int
        Number of cortical vertices.
    number, seed : int
        Of the subject and of the data set.
    simulate : SimulateSettings
        ``shared_topography``, the share of responding vertices that all brains have in common, and
        ``tuning_difference`` d between two brains there.

    Returns
    -------
    Brain
        Noise ceilings are its own. In the shared vertices, the same for every subject, loadings
        are ``sqrt(1 - d^2) reference + d own``, and receptive fields move by d times their size.
        All other vertices lie elsewhere.
    """
    count, difference = len(own.vertices), simulate.tuning_difference
    common = named_rng(seed, "topography").permutation(count)
    shared = np.zeros(count, bool)
    shared[common[: round(simulate.shared_topography * count)]] = True
    rng = named_rng(seed, number, "topography")
    elsewhere = rng.permutation(cortex)
    elsewhere = elsewhere[~np.isin(elsewhere, reference.vertices[shared])]
    vertices = reference.vertices.copy()
    vertices[~shared] = elsewhere[: int((~shared).sum())]
    shift = difference * reference.sizes[:, None] * rng.standard_normal((count, 2))
    keep = np.sqrt(1 - difference**2)

    def mixed(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        both = (keep * theirs + difference * ours).astype(ours.dtype)
        return np.where(shared[:, None], both, ours)

    return replace(
        own,
        vertices=vertices,
        centers=np.where(shared[:, None], reference.centers + shift, own.centers),
        sizes=np.where(shared, reference.sizes, own.sizes),
        channel_loadings=mixed(own.channel_loadings, reference.channel_loadings),
        attribute_loadings=mixed(own.attribute_loadings, reference.attribute_loadings),
    )


def viewers(simulate: SimulateSettings) -> dict[str, tuple[int, ...]]:
    """Deal the films out to the subjects.

    Parameters
    ----------
    simulate : SimulateSettings
        ``seen_by_all`` and ``seen_by_some``, shares of the training films; the rest is seen by one
        subject each.

    Returns
    -------
    dict of str to tuple of int
        Film to the subjects who saw it, in rising order. The first training films are everybody's,
        the next ones are seen by half of the subjects (at least two), the last ones by one, in
        turn. Everybody sees the test films.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from neuroclips_cli.settings.load import load_settings
    >>> simulate = replace(load_settings({}).simulate, subjects=3, train_segments=4)
    >>> films = viewers(replace(simulate, seen_by_all=0.25, seen_by_some=0.5))
    >>> [films[name] for name in ("seg1", "seg2", "seg3", "seg4", "test1")]
    [(1, 2, 3), (1, 2), (1, 3), (1,), (1, 2, 3)]
    """
    everybody = tuple(range(1, simulate.subjects + 1))
    train = simulate.train_segments
    all_end = round(simulate.seen_by_all * train)
    some_end = round((simulate.seen_by_all + simulate.seen_by_some) * train)
    half = min(len(everybody), max(2, (len(everybody) + 1) // 2))
    seen = {}
    for index, film in enumerate(film_names(train, simulate.test_segments)):
        size, turn = len(everybody), 0
        if all_end <= index < some_end:
            size, turn = half, (index - all_end) * half
        elif some_end <= index < train:
            size, turn = 1, index - some_end
        chosen = (everybody[(turn + step) % len(everybody)] for step in range(size))
        seen[film] = tuple(sorted(chosen))
    return seen
