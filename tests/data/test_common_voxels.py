"""Voxels in common: what several subjects' selections share."""

from __future__ import annotations

import numpy as np
import pytest

from neuroclips_cli.data.common_voxels import SELECTION, common_voxels, select_common
from neuroclips_cli.errors import UserError
from neuroclips_cli.signal.reproducibility import Selection

COLUMNS = np.arange(5, 25)


def _folder(root, subject, columns, reproducible):
    folder = root / f"sub-{subject:02d}"
    folder.mkdir()
    np.savez(folder / SELECTION, columns=columns, reproducible=reproducible)
    return folder


def test_the_intersection_of_any_number_of_subjects_is_taken(tmp_path):
    rng = np.random.default_rng(0)
    masks = rng.random((4, len(COLUMNS))) < 0.8
    folders = {s: _folder(tmp_path, s, COLUMNS, m) for s, m in enumerate(masks, start=1)}
    wanted = [c for i, c in enumerate(COLUMNS.tolist()) if all(m[i] for m in masks)]
    assert common_voxels(folders).tolist() == wanted
    assert common_voxels({3: folders[3]}).tolist() == COLUMNS[masks[2]].tolist()


def test_subjects_without_a_space_or_voxel_in_common_are_refused(tmp_path):
    every, none = np.ones(len(COLUMNS), bool), np.zeros(len(COLUMNS), bool)
    first = _folder(tmp_path, 1, COLUMNS, every)
    with pytest.raises(UserError, match="no reproducible voxel in common"):
        common_voxels({1: first, 2: _folder(tmp_path, 2, COLUMNS, none)})
    with pytest.raises(UserError, match="subjects 1 and 3 were not preprocessed in one space"):
        common_voxels({1: first, 3: _folder(tmp_path, 3, COLUMNS + 1, every)})
    np.savez(first / SELECTION, columns=COLUMNS)
    with pytest.raises(UserError, match="does not tell which voxels are reproducible"):
        common_voxels({1: first})


def test_a_subject_takes_all_of_them_or_none():
    count = len(COLUMNS)
    own = Selection(
        *(np.zeros(count) for _ in range(3)), np.zeros(count, bool), p_threshold=0.1, tested=count
    )
    common, usable = COLUMNS[[2, 7, 9]], np.ones(count, bool)
    found = select_common(own, usable, COLUMNS, common)
    assert np.flatnonzero(found.selected).tolist() == [2, 7, 9]
    usable[7] = False
    for columns, good in ((COLUMNS, usable), (COLUMNS + 3, np.ones(count, bool))):
        with pytest.raises(UserError, match="1 of the 3 voxels in common carry no signal"):
            select_common(own, good, columns, common)
