"""Samples of several subjects: a part of every batch is each one's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from neuroclips_cli.errors import UserError
from neuroclips_cli.models.subject_scans import SubjectScans
from neuroclips_cli.training.samples import ClipSamples, SeededOrder, derived_seed


def part_sizes(size: int, subjects: int) -> list[int]:
    """Return the rows of every subject's part of a batch; the first ones take the remainder.

    Raises
    ------
    UserError
        If there are fewer rows than subjects.

    Examples
    --------
    >>> part_sizes(8, 3)
    [3, 3, 2]
    """
    if size < subjects:
        raise UserError(
            f"a batch of {size} clips holds no part of each of {subjects} subjects: raise the "
            "batch size"
        )
    return [size // subjects + (place < size % subjects) for place in range(subjects)]


class PooledOrder(SeededOrder):
    """The batches of an epoch: equal parts of every subject, one after the other.

    An epoch has as many batches as the subjects' samples fill. Every subject's samples come in
    one permutation after another, without regard to epochs, so that each is seen as often as the
    subject's other samples; those of a subject with fewer of them come more often.

    Parameters
    ----------
    lengths : sequence of int
        Samples of each subject.
    size : int
        Samples of a batch.
    seed : int
        Of the run.
    phase : str
        Name of the training phase.

    Examples
    --------
    >>> order = PooledOrder([4, 4], 4, seed=0, phase="prior")
    >>> numbers = list(order)
    >>> sorted(numbers), [number // 4 for number in numbers]
    ([0, 1, 2, 3, 4, 5, 6, 7], [0, 0, 1, 1, 0, 0, 1, 1])
    """

    def __init__(self, lengths: Sequence[int], size: int, seed: int, phase: str) -> None:
        self.steps = max(sum(lengths) // size, 1)
        super().__init__(self.steps * size, seed, phase)
        self.lengths, self.parts = list(lengths), part_sizes(size, len(lengths))
        self.begins = [0, *accumulate(lengths)]

    def __iter__(self) -> Iterator[int]:
        """Yield sample numbers, counted through all subjects, batch by batch."""
        passes: dict[tuple[int, int], list[int]] = {}
        for step in range(self.epoch * self.steps, (self.epoch + 1) * self.steps):
            for subject, rows in enumerate(self.parts):
                for position in range(step * rows, (step + 1) * rows):
                    turn, index = divmod(position, self.lengths[subject])
                    if (subject, turn) not in passes:
                        passes[subject, turn] = self._permutation(subject, turn)
                    yield self.begins[subject] + passes[subject, turn][index]

    def _permutation(self, subject: int, turn: int) -> list[int]:
        seed = derived_seed("order", self.seed, self.phase, subject, turn)
        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(self.lengths[subject], generator=generator).tolist()


class PooledSamples:
    """Samples of several subjects, counted through all of them.

    Parameters
    ----------
    parts : sequence of ClipSamples
        One per subject, with targets of the same names.
    subject_dropout : float
        Probability that a row goes through the average subject's first layers instead of its own,
        0..1; more than 0 only where all subjects have the same voxels.
    """

    def __init__(self, parts: Sequence[ClipSamples], subject_dropout: float = 0.0) -> None:
        self.parts, self.subject_dropout = list(parts), subject_dropout
        self.begins = np.array([0, *accumulate(map(len, parts))])

    def __len__(self) -> int:
        """Return the samples of all subjects."""
        return int(self.begins[-1])

    def order(self, seed: int, phase: str, size: int) -> PooledOrder:
        """Return the order of a phase's batches."""
        return PooledOrder([len(part) for part in self.parts], size, seed, phase)

    def batch(
        self, samples: Sequence[int], generator: torch.Generator | None = None
    ) -> dict[str, Any]:
        """Draw a batch.

        Parameters
        ----------
        samples : sequence of int
            In the order of the subjects.
        generator : torch.Generator, optional
            On the CPU; torch's global one where absent.

        Returns
        -------
        dict
            ``fmri`` as :class:`SubjectScans`, and the targets of all rows as
            :meth:`ClipSamples.batch` has them.
        """
        numbers = np.asarray(samples)
        drawn = [
            part.batch((own - begin).tolist(), generator)
            for part, begin, own in zip(
                self.parts, self.begins[:-1], self._by_subject(numbers), strict=True
            )
        ]
        averaged = None
        if self.subject_dropout:
            averaged = torch.rand(len(numbers), generator=generator) < self.subject_dropout
        scans = SubjectScans(tuple(one["fmri"] for one in drawn), averaged)
        names = [name for name in drawn[0] if name != "fmri"]
        targets = {name: torch.cat([one[name] for one in drawn]) for name in names}
        return {**targets, "fmri": scans}

    def _by_subject(self, numbers: np.ndarray) -> list[np.ndarray]:
        subject = np.searchsorted(self.begins, numbers, side="right") - 1
        return [numbers[subject == place] for place in range(len(self.parts))]


Samples = ClipSamples | PooledSamples
