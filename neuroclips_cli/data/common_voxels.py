"""The voxels that several subjects have in common: one space for all of them.

What is in common are places of a template (vertices of fsLR, voxels of MNI space) that the test of
reproducibility selected in every one of these subjects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.errors import UserError
from neuroclips_cli.signal.reproducibility import Selection

SELECTION = "selection.npz"


def common_voxels(folders: Mapping[int, Path]) -> NDArray[np.int64]:
    """Return the columns of a run that are reproducible in every subject.

    Parameters
    ----------
    folders : mapping
        Subject -> its finished preprocess folder.

    Returns
    -------
    numpy.ndarray
        int64 (voxels,), in rising order.

    Raises
    ------
    UserError
        If a folder keeps no reproducible voxels, the subjects' runs have different voxels, or
        none is in common.
    """
    tested: dict[int, NDArray[np.int64]] = {}
    found: dict[int, NDArray[np.int64]] = {}
    for subject, folder in folders.items():
        path = folder / SELECTION
        if not path.is_file():
            raise UserError(f"{path} is missing: preprocess subject {subject} again")
        with np.load(path, allow_pickle=False) as selection:
            if "reproducible" not in selection.files:
                raise UserError(
                    f"{path} does not tell which voxels are reproducible: preprocess subject "
                    f"{subject} again"
                )
            tested[subject] = selection["columns"]
            found[subject] = selection["columns"][selection["reproducible"]]
    first = next(iter(folders))
    for subject, columns in tested.items():
        if not np.array_equal(columns, tested[first]):
            raise UserError(
                f"subjects {first} and {subject} were not preprocessed in one space ("
                f"{len(tested[first])} and {len(columns)} voxels): take runs on one template, such "
                "as fsLR, and one mask"
            )
    common = found[first]
    for columns in found.values():
        common = np.intersect1d(common, columns)
    if not len(common):
        names = ", ".join(map(str, folders))
        raise UserError(f"subjects {names} have no reproducible voxel in common: choose others")
    return common


def select_common(
    own: Selection,
    usable: NDArray[np.bool_],
    columns: NDArray[np.int64],
    common: NDArray[np.int64],
) -> Selection:
    """Replace a subject's selected voxels by those in common.

    Parameters
    ----------
    own : Selection
        Of the subject by itself.
    usable : numpy.ndarray
        bool (voxels,), which voxels carry a signal in all of its runs.
    columns : numpy.ndarray
        int64 (voxels,), the tested columns of a run.
    common : numpy.ndarray
        int64, see :func:`common_voxels`.

    Raises
    ------
    UserError
        If the subject's runs lack some of them, or these carry no signal.
    """
    selected = np.isin(columns, common)
    missing = len(common) - int((selected & usable).sum())
    if missing:
        raise UserError(
            f"{missing} of the {len(common)} voxels in common carry no signal in this subject's "
            "runs, or are not in them: leave the runs or the subject out"
        )
    return replace(own, selected=selected)
