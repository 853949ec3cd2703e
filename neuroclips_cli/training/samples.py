"""Training samples: scans and targets of a clip, and the order in which they come."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from neuroclips_cli.errors import UserError


def scan_size(fmri: np.ndarray) -> tuple[int, int]:
    """Return the voxels of a scan and the volumes of a clip.

    Parameters
    ----------
    fmri : numpy.ndarray
        ``(clips, repetitions, voxels)`` or ``(clips, repetitions, window, voxels)``.

    Examples
    --------
    >>> scan_size(np.zeros((9, 2, 5))), scan_size(np.zeros((9, 2, 3, 5)))
    ((5, 1), (5, 3))
    """
    return int(fmri.shape[-1]), int(fmri.shape[2]) if fmri.ndim == 4 else 1


def flat_scans(fmri: np.ndarray) -> np.ndarray:
    """Return scans with the volumes of a window one after the other, (clips, repetitions, all).

    Parameters
    ----------
    fmri : numpy.ndarray
        float (clips, repetitions, voxels) or (clips, repetitions, window, voxels).

    Examples
    --------
    >>> flat_scans(np.zeros((4, 2, 3, 100))).shape
    (4, 2, 300)
    """
    return fmri.reshape(*fmri.shape[:2], -1)


def derived_seed(*parts: Any) -> int:
    """Derive a seed from anything printable, such as ``(seed, phase, epoch)``.

    Parameters
    ----------
    *parts : object
        Joined as text.

    Returns
    -------
    int
        0 .. 2**63 - 1, the first 63 bits of a SHA-256 digest.

    Examples
    --------
    >>> derived_seed("order", 0, "prior", 1) == derived_seed("order", 0, "prior", 1)
    True
    >>> derived_seed("order", 0, "prior", 1) == derived_seed("order", 0, "prior", 2)
    False
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class SeededOrder(Sampler[int]):
    """A new permutation each epoch that depends on seed, phase and epoch only.

    A resumed run thus sees the samples in the order of an undisturbed one.

    Parameters
    ----------
    length : int
        Number of samples.
    seed : int
        Of the run.
    phase : str
        Name of the training phase.

    Examples
    --------
    >>> order = SeededOrder(4, seed=0, phase="prior")
    >>> sorted(order), list(order) == list(order)
    ([0, 1, 2, 3], True)
    """

    def __init__(self, length: int, seed: int, phase: str) -> None:
        self.length, self.seed, self.phase = length, seed, phase
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.length

    def __iter__(self) -> Iterator[int]:
        """Yield every sample once, in this epoch's order."""
        seed = derived_seed("order", self.seed, self.phase, self.epoch)
        generator = torch.Generator().manual_seed(seed)
        yield from torch.randperm(self.length, generator=generator).tolist()


class ClipSamples(Dataset[Any]):
    """Samples of a training set: every repetition of every clip is one.

    Test scans are the mean of ten repetitions: the same signal with less noise than a single
    repetition. So that the model also meets cleaner scans, a share of the samples is a random
    convex combination of the clip's repetitions (weights uniform on the simplex); in units and
    signal it equals a repetition, only the noise shrinks. No test statistics are involved.

    Fresh Gaussian noise on every training scan keeps the models from overfitting the few scans; for
    a linear model it is exactly a ridge penalty (Bishop 1995).

    Parameters
    ----------
    fmri : numpy.ndarray
        float32 (clips, repetitions, voxels), standardized; (clips, repetitions, window, voxels)
        where a clip has several volumes.
    clips : numpy.ndarray
        int (n,), the clips to draw from.
    targets : mapping
        Name -> array whose first axis is the clip.
    repetition_mix_prob : float
        Probability of a combination of repetitions instead of one, 0..1.
    noise : float
        Standard deviation of the added noise, in units of the standardized scans, at least 0.
    frame_targets : sequence of str
        Names of targets ``(clips, frames, ...)`` of which a random frame is taken each time, the
        same one of all of them (the keyframe of paper 3.2).

    Notes
    -----
    Sample ``i`` is repetition ``i % repetitions`` of clip ``clips[i // repetitions]``. Order of the
    random draws of a batch: (1) weights of the repetitions, (2) noise, (3) keyframes.

    Examples
    --------
    >>> fmri = np.arange(4, dtype=np.float32).reshape(2, 2, 1)
    >>> samples = ClipSamples(fmri, np.array([0, 1]), {"latents": np.array([10.0, 20.0])})
    >>> len(samples), {name: values.tolist() for name, values in samples[3].items()}
    (4, {'fmri': [[3.0]], 'latents': [20.0]})
    """

    def __init__(
        self,
        fmri: np.ndarray,
        clips: np.ndarray,
        targets: Mapping[str, np.ndarray],
        *,
        repetition_mix_prob: float = 0.0,
        noise: float = 0.0,
        frame_targets: Sequence[str] = (),
    ) -> None:
        self.fmri, self.clips, self.targets = fmri, clips, dict(targets)
        self.repetition_mix_prob, self.noise = repetition_mix_prob, noise
        self.frame_targets = tuple(frame_targets)
        self.repetitions = fmri.shape[1]

    def __len__(self) -> int:
        """Return clips times repetitions."""
        return len(self.clips) * self.repetitions

    def order(self, seed: int, phase: str, size: int) -> SeededOrder:
        """Return the order of a phase's samples, whatever the size of its batches."""
        return SeededOrder(len(self), seed, phase)

    def clips_of(self, samples: Sequence[int]) -> np.ndarray:
        """Return the clips that samples belong to.

        Parameters
        ----------
        samples : sequence of int
            0 .. ``len(self) - 1``.

        Returns
        -------
        numpy.ndarray
            int (len(samples),).
        """
        return self.clips[np.asarray(samples) // self.repetitions]

    def __getitem__(self, sample: int) -> dict[str, Tensor]:
        """Return one sample as a batch of one."""
        return self.__getitems__([sample])

    def __getitems__(self, samples: Sequence[int]) -> dict[str, Tensor]:
        """Return a batch as :meth:`batch` draws it from torch's global generator, all float32."""
        return {name: values.float() for name, values in self.batch(samples).items()}

    def batch(
        self, samples: Sequence[int], generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Draw a batch.

        Parameters
        ----------
        samples : sequence of int
            Which ones.
        generator : torch.Generator, optional
            On the CPU; torch's global one where absent.

        Returns
        -------
        dict of str to Tensor
            ``fmri`` float32 (batch, voxels) or (batch, window, voxels), and the targets: in float16
            where they are kept so, which a device turns into float32 faster than this process,
            else in float32.
        """
        clips = self.clips_of(samples)
        weights = self._weights(np.asarray(samples) % self.repetitions, generator)
        fmri = torch.from_numpy(np.ascontiguousarray(self.fmri[clips])).float()
        scans = (weights.view(*weights.shape, *[1] * (fmri.ndim - 2)) * fmri).sum(1)
        if self.noise:
            scans = scans + self.noise * torch.randn(scans.shape, generator=generator)
        batch = {"fmri": scans}
        keyframes: np.ndarray | None = None
        for name, array in self.targets.items():
            rows: Any = clips
            if name in self.frame_targets:
                if keyframes is None:
                    shape = (len(clips),)
                    drawn = torch.randint(0, array.shape[1], shape, generator=generator)
                    keyframes = drawn.numpy()
                rows = (clips, keyframes)
            values = torch.from_numpy(np.ascontiguousarray(array[rows]))
            batch[name] = values if values.dtype == torch.float16 else values.float()
        return batch

    def _weights(self, chosen: np.ndarray, generator: torch.Generator | None) -> Tensor:
        shape = (len(chosen), self.repetitions)
        single = torch.nn.functional.one_hot(torch.from_numpy(chosen), self.repetitions).float()
        drawn = -torch.rand(shape, generator=generator).clamp(min=1e-12).log()
        combined = drawn / drawn.sum(1, keepdim=True)
        use = torch.rand(len(chosen), 1, generator=generator) < self.repetition_mix_prob
        return torch.where(use, combined, single)


def repetition_mean(fmri: np.ndarray, clips: np.ndarray) -> Tensor:
    """Average the repetitions of some clips.

    Parameters
    ----------
    fmri : numpy.ndarray
        float32 (clips, repetitions, ..., voxels), no NaN; may be memory-mapped.
    clips : numpy.ndarray
        int (n,), rows of ``fmri``.

    Returns
    -------
    Tensor
        float32 ``(n, ..., voxels)``.

    See Also
    --------
    neuroclips_cli.signal.reproducibility.mean_over_repetitions : Around missing repetitions.

    Examples
    --------
    >>> repetition_mean(np.array([[[1.0], [3.0]], [[5.0], [7.0]]]), np.array([1])).tolist()
    [[6.0]]
    """
    return torch.from_numpy(np.asarray(fmri[clips], dtype=np.float32).mean(axis=1))


def split_segments(
    segments: np.ndarray, wanted: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Hold whole segments out: neighboring clips share scenes, so random clips would leak.

    Parameters
    ----------
    segments : numpy.ndarray
        int (clips,), the film segment of every training clip.
    wanted : sequence of int
        Segments to hold out. Those that the data set lacks are passed over; if none is left, the
        last segment is held out.

    Returns
    -------
    train, validation : numpy.ndarray
        int64 clip numbers, disjoint, together all clips.
    held_out : tuple of int
        The segments held out.

    Raises
    ------
    UserError
        If holding out would leave nothing to train on.
    """
    present = sorted(set(segments.tolist()))
    if len(present) < 2:
        raise UserError(
            f"the data has {len(present)} training segment and training needs at least 2, one of "
            "them held out for validation: give the data set more training segments"
        )
    held_out = tuple(s for s in present if s in set(wanted)) or (present[-1],)
    if len(held_out) == len(present):
        raise UserError(
            f"validation_segments {list(wanted)} holds out all {len(present)} training segments: "
            "leave at least one to train on"
        )
    outside = np.isin(segments, held_out)
    return np.flatnonzero(~outside), np.flatnonzero(outside), held_out


FEWEST_CLIPS = 12
"""Fewer clips than these are not enough to train on some and choose by the others."""
HELD_OUT_PART = 6
"""One in so many of the given minutes' clips, the last ones, chooses the checkpoint."""


def first_minutes(segments: np.ndarray, minutes: float, clip_s: float, subject: int) -> np.ndarray:
    """Return the clips of the first minutes of a subject's training films.

    The rule: segments in the order of their numbers, each from its beginning, as many clips as
    the minutes hold; so whole segments come first, and of the last one the beginning. Every
    repetition of these clips counts; the minutes are of film, not of scanning.

    Parameters
    ----------
    segments : numpy.ndarray
        int (clips,), the film segment of every training clip, in the order of the film.
    minutes : float
        Of film; 0 takes all.
    clip_s : float
        Length of a clip, in s.
    subject : int
        For messages.

    Returns
    -------
    numpy.ndarray
        int64 (n,), clip numbers in that order.

    Raises
    ------
    UserError
        If there are not as many minutes, or too few clips in them.

    Examples
    --------
    >>> first_minutes(np.repeat([2, 1], 10), 0.5, 2.0, subject=4).tolist()
    [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 0, 1, 2, 3, 4]
    """
    order = np.argsort(segments, kind="stable")
    there = len(segments) * clip_s / 60
    wanted = len(segments) if not minutes else int(minutes * 60 / clip_s + 1e-9)
    if wanted > len(segments):
        whole = int(100 * there + 1e-6) / 100
        raise UserError(
            f"--minutes {minutes:g} is more than there is: the training films of subject {subject} "
            f"are {whole:g} minutes long; ask for at most these, or leave --minutes out for all"
        )
    if wanted < FEWEST_CLIPS:
        raise UserError(
            f"--minutes {minutes:g} are {wanted} clips of subject {subject}, and at least "
            f"{FEWEST_CLIPS} are needed ({FEWEST_CLIPS * clip_s / 60:g} minutes): ask for more"
        )
    return order[:wanted]


def split_minutes(clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hold out the last sixth of some minutes' clips; nothing beyond the minutes is looked at.

    Parameters
    ----------
    clips : numpy.ndarray
        int (n,), see :func:`first_minutes`.

    Returns
    -------
    train, validation : numpy.ndarray
        int64 clip numbers.
    """
    held = max(len(clips) // HELD_OUT_PART, 2)
    return clips[:-held], clips[-held:]
