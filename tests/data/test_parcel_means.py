"""Means over an atlas's parcels, against sums by hand."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from helpers.bids_tree import write_cifti, write_volumes
from nibabel.cifti2 import BrainModelAxis, Cifti2Image, LabelAxis

from neuroclips_cli.data.common_voxels import SELECTION, common_voxels
from neuroclips_cli.data.parcel_means import ParcelMeans, find_parcels
from neuroclips_cli.data.parcel_runs import ParcelRun
from neuroclips_cli.data.region_files import read_region_file
from neuroclips_cli.data.runs import CiftiRun, VolumeMask, VolumeRun
from neuroclips_cli.errors import UserError

VERTICES, VOLUMES = 20, 7
NAMES = ("???", "V1", "V2", "MT", "FFA")
MODELS = BrainModelAxis.from_surface(
    np.arange(VERTICES), VERTICES, name="CortexLeft"
) + BrainModelAxis.from_surface(np.arange(VERTICES), VERTICES, name="CortexRight")


def atlas(path, keys, names=NAMES):
    table = {key: (name, (0, 0, 0, 1)) for key, name in enumerate(names)}
    axes = (LabelAxis(["areas"], [table]), MODELS)
    Cifti2Image(np.asarray(keys, np.float32)[None], header=axes).to_filename(path)
    return read_region_file([path])


def by_hand(series, keys, inside):
    """Return the mean of every named label's voxels that vary and are finite; NaN without any."""
    columns = []
    for key in range(1, len(NAMES)):
        kept = [
            series[:, voxel].astype(np.float64)
            for voxel in range(len(keys))
            if keys[voxel] == key and inside[voxel]
            if np.isfinite(series[:, voxel]).all() and len(set(series[:, voxel])) > 1
        ]
        columns.append(sum(kept) / len(kept) if kept else np.full(len(series), np.nan))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("case", range(24))
def test_a_parcel_is_the_mean_of_its_voxels_that_carry_a_signal(case, tmp_path):
    rng = np.random.default_rng(case)
    count = 2 * VERTICES
    series = (rng.normal(1000, 10, (VOLUMES, count))).astype(np.float32)
    keys = rng.integers(0, len(NAMES) - case % 2, count)
    series[:, rng.random(count) < 0.2] = 0
    series[rng.integers(VOLUMES), rng.random(count) < 0.2] = np.nan
    inside = rng.random(count) < 0.8 if case % 3 else np.ones(count, bool)
    if case % 4:
        run, mask = CiftiRun(write_cifti(tmp_path / "a.dtseries.nii", series, 2.0)), None
        file = atlas(tmp_path / "a.dlabel.nii", keys)
    else:
        grid = np.zeros((5, 4, 3), bool)
        grid.ravel()[rng.permutation(60)[:count]] = True
        mask = VolumeMask(grid, np.diag([2.0, 2.0, 2.0, 1.0]))
        run = VolumeRun(write_volumes(tmp_path / "a.nii", series, grid, 2.0), mask)
        labels = np.zeros(grid.shape, np.int16)
        labels[grid] = keys
        nib.save(nib.Nifti1Image(labels, mask.affine), tmp_path / "labels.nii")
        rows = "".join(f"{key}\t{name}\n" for key, name in enumerate(NAMES))
        (tmp_path / "labels.tsv").write_text("index\tname\n" + rows)
        file = read_region_file([tmp_path / "labels.nii"])
    means = ParcelMeans(run, find_parcels(file, run, mask, None if inside.all() else inside))
    np.testing.assert_allclose(means.read(), by_hand(series, keys, inside), rtol=1e-6)
    sizes = [int((inside & (keys == key)).sum()) for key in range(1, len(NAMES))]
    assert means.table() == list(zip(range(4), NAMES[1:], sizes, strict=True))


def test_parcels_of_unlike_atlases_are_never_taken_for_one_another(tmp_path):
    run = CiftiRun(write_cifti(tmp_path / "a.dtseries.nii", np.ones((3, 2 * VERTICES)), 2.0))
    keys = np.arange(2 * VERTICES) % len(NAMES)
    folders = {}
    for subject, names in enumerate((NAMES, NAMES, (*NAMES[:-1], "PPA")), start=1):
        file = atlas(
            tmp_path / f"{subject}.dlabel.nii", keys[::-1] if subject == 2 else keys, names
        )
        means = ParcelMeans(run, find_parcels(file, run, None, None))
        folders[subject] = tmp_path / f"sub-{subject:02d}"
        folders[subject].mkdir()
        found = {"columns": means.columns, "reproducible": np.ones(4, bool)}
        np.savez(folders[subject] / SELECTION, **found)
    assert len(common_voxels({s: folders[s] for s in (1, 2)})) == 4
    with pytest.raises(UserError, match="subjects 1 and 3 were not preprocessed in one space"):
        common_voxels({s: folders[s] for s in (1, 3)})


def test_runs_of_parcels_have_no_further_ones(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["run"] = np.ones((3, 5))
    keys = np.arange(2 * VERTICES) % len(NAMES)
    run = ParcelRun(tmp_path / "a.h5", "run")
    with pytest.raises(UserError, match="holds parcels already"):
        find_parcels(atlas(tmp_path / "a.dlabel.nii", keys), run, None, None)
