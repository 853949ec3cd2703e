"""Look through the authors' scans for what is not a measurement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.data.released_tensors import ReleasedSplit
from neuroclips_cli.data.runs import require_valid_run
from neuroclips_cli.errors import UserError
from neuroclips_cli.signal.quality import combine_blocks, scan_block


@dataclass(frozen=True)
class Holes:
    """Where a split's scans are not finite.

    Attributes
    ----------
    by_film : bool (films, repetitions, voxels)
        Voxels with NaN or infinity in some clip of a film's repetition.
    warnings : tuple of str
        One for each film and repetition; each names file, clip, repetition and voxel.
    """

    by_film: NDArray[np.bool_]
    warnings: tuple[str, ...]


def find_holes(split: ReleasedSplit, path: Path) -> Holes:
    """Look through all scans of a split.

    Raises
    ------
    UserError
        If a film's scans hold no measurement at all, or numbers that no scanner writes.
    """
    films, warnings = [], []
    for rows in split.films():
        scans = split.scans(rows)
        lost = np.zeros(scans.shape[1:], bool)
        for repetition in range(scans.shape[1]):
            found = combine_blocks([scan_block(scans[:, repetition])])
            require_valid_run(path, found, scans.shape[2])
            lost[repetition] = bad = ~found.finite
            if bad.any():
                voxel = int(np.flatnonzero(bad)[0])
                clip = rows.start + int(found.first_bad[voxel])
                warnings.append(
                    f"{path}: {int(bad.sum())} voxels with NaN or infinity (first: clip {clip}, "
                    f"repetition {repetition + 1}, voxel {voxel})"
                )
        films.append(lost)
    return Holes(np.array(films), tuple(warnings))


def usable_voxels(train: Holes, path: Path) -> NDArray[np.bool_]:
    """Return the voxels, bool (voxels,), that are finite in all training scans.

    Raises
    ------
    UserError
        If there is none.
    """
    usable = ~train.by_film.any(axis=(0, 1))
    if not usable.any():
        raise UserError(f"{path} holds NaN or infinity in every voxel: fetch the file again")
    return np.asarray(usable)
