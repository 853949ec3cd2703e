"""Labels of vertices and voxels, and the hemisphere that a file states, as interpret uses them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis
from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiLabel, GiftiLabelTable

from neuroclips_cli.data.region_files import read_region_file, region_paths
from neuroclips_cli.data.regions import is_nameless, labels_of, on_grid, on_models
from neuroclips_cli.data.surfaces import in_stated_order
from neuroclips_cli.data.volume_grid import onto_grid, same_grid
from neuroclips_cli.errors import UserError

MESH = 12
NAMES = {0: "???", 1: "V1", 2: "MT"}


def models():
    left, right = (
        BrainModelAxis.from_surface(np.arange(0, MESH, 2), MESH, f"Cortex{side}")
        for side in ("Left", "Right")
    )
    return left + right


def gifti(path: Path, side: str | None, array: GiftiDataArray, table: bool = False) -> Path:
    image = GiftiImage(darrays=[array])
    if side:
        image.meta["AnatomicalStructurePrimary"] = side
    if table:
        image.labeltable = GiftiLabelTable()
        for key, name in NAMES.items():
            label = GiftiLabel(key, 1, 0, 0, 1)
            label.label = name
            image.labeltable.labels.append(label)
    nib.save(image, path)
    return path


def labels(path: Path, side: str, keys: np.ndarray) -> Path:
    array = GiftiDataArray(keys.astype(np.int32), "NIFTI_INTENT_LABEL", "NIFTI_TYPE_INT32")
    return gifti(path, side, array, table=True)


def surface(path: Path, side: str | None) -> Path:
    points = np.random.default_rng(0).normal(size=(MESH, 3)).astype(np.float32)
    return gifti(path, side, GiftiDataArray(points, "NIFTI_INTENT_POINTSET"))


def test_gifti_labels_of_both_hemispheres_in_either_order(tmp_path):
    keys = np.arange(MESH) % 3
    one = labels(tmp_path / "x.label.gii", "CortexRight", keys)
    other = labels(tmp_path / "y.label.gii", "CortexLeft", np.zeros(MESH))
    axis = models()
    expected = ["" if key == 0 else NAMES[key] for key in keys[::2]]
    for given in (f"{one},{other}", f"{other},{one}"):
        file = read_region_file(region_paths(given))
        found = labels_of(file, on_models(file, 0, axis)).tolist()
        assert found == [""] * 6 + expected


def test_a_volume_of_labels_names_voxels_by_number_or_table(tmp_path):
    values = (np.arange(24).reshape(2, 3, 4) % 3).astype(np.int16)
    affine = np.diag([-2.0, 2, 2, 1])
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "atlas.nii.gz")
    other = nib.as_closest_canonical(nib.Nifti1Image(values, affine)).affine
    file = read_region_file([tmp_path / "atlas.nii.gz"])
    found = labels_of(file, on_grid(file, 0, values.shape, other))
    assert found.tolist() == np.where(values[::-1] > 0, values[::-1].astype(str), "").tolist()
    (tmp_path / "atlas.tsv").write_text("index\tname\n1\tV1\n2\tMT\n")
    file = read_region_file([tmp_path / "atlas.nii.gz"])
    names = labels_of(file, on_grid(file, 0, values.shape, affine))
    assert np.array_equal(names == "V1", values == 1) and np.array_equal(names == "MT", values == 2)


def test_a_surface_goes_where_it_says_it_belongs(tmp_path):
    left = surface(tmp_path / "a.surf.gii", "CortexLeft")
    right = surface(tmp_path / "b.surf.gii", "CortexRight")
    silent = surface(tmp_path / "L.surf.gii", None)
    assert in_stated_order(left, right) == in_stated_order(right, left) == (left, right)
    assert in_stated_order(silent, left) == (left, silent)
    assert in_stated_order(silent, right) == (silent, right)
    assert in_stated_order(silent, silent) == (silent, silent)
    with pytest.raises(UserError, match="both of the left hemisphere"):
        in_stated_order(left, left)


def test_grids_are_the_same_to_within_rounding_and_turned_ones_are_brought_over():
    affine = np.diag([2.0, 2, 2, 1])
    shape = (3, 4, 5)
    assert same_grid(shape, affine, shape, affine + 1e-6)
    assert not same_grid(shape, affine, (3, 4, 6), affine)
    assert not same_grid(shape, affine, shape, np.diag([2.1, 2, 2, 1]))
    assert not same_grid(shape, affine * np.nan, shape, affine)
    values = np.arange(60.0).reshape(shape)
    assert onto_grid(values, np.diag([2.0, 2, 0, 1]), shape, affine) is None
    assert onto_grid(values, affine, shape, np.diag([2.0, 2, 0, 1])) is None
    turned = np.array([[0.0, 0, 2, 0], [2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]])
    moved = onto_grid(values, turned, (5, 3, 4), affine)
    assert moved is not None and np.array_equal(moved, values.transpose(2, 0, 1))


@pytest.mark.parametrize("name", ["???", "", "L_Medial_wall", "unknown", "R_unknown", "None"])
def test_labels_of_no_region(name):
    assert is_nameless(name) and not is_nameless("V1")
