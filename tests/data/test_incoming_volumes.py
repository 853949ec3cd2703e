"""Volumes that arrive one by one: whole, half written, late, lost, and of another geometry."""

from __future__ import annotations

import os
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from neuroclips_cli.data.brain_maps import Geometry
from neuroclips_cli.data.incoming_volumes import SETTLE_S, open_incoming
from neuroclips_cli.data.new_scans import TrainedVoxels
from neuroclips_cli.errors import UserError

INSIDE = np.arange(24).reshape(4, 3, 2) % 3 != 0
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
SELECTED = np.arange(16) % 2 == 0
GRID = TrainedVoxels(np.flatnonzero(INSIDE), SELECTED, Geometry(None, INSIDE, AFFINE))
MODELS = nib.cifti2.BrainModelAxis.from_surface(np.arange(16), 32, "CortexLeft")
SURFACE = TrainedVoxels(np.arange(16), SELECTED, Geometry(MODELS, None, None))
VOLUMES = 100 + np.random.default_rng(0).normal(size=(5, 4, 3, 2)).astype(np.float32)
WANTED = VOLUMES[:, INSIDE][:, SELECTED]


def _nifti(path: Path, volume: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(volume, affine), path)
    return path


def _cifti(path: Path, values: np.ndarray, models=MODELS) -> Path:
    axis = nib.cifti2.SeriesAxis(0, 2, len(values), "SECOND")
    nib.cifti2.Cifti2Image(values.astype(np.float32), header=(axis, models)).to_filename(path)
    return path


def _age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def _values(arrived) -> list[np.ndarray]:
    return [volume.values for volume in arrived]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_single_volumes_come_in_the_order_of_their_numbers(tmp_path, suffix):
    source = open_incoming(tmp_path, GRID)
    assert source.poll() == []
    for number in (2, 1):
        _nifti(tmp_path / f"vol_{number:04d}{suffix}", VOLUMES[number - 1])
    (tmp_path / ".vol_0003.nii").write_bytes(b"temporary")
    (tmp_path / "notes.txt").write_text("not a volume")
    assert np.array_equal(_values(source.poll()), WANTED[:2])
    _nifti(tmp_path / f"vol_0003{suffix}", VOLUMES[2][..., None])
    arrived = source.poll()
    assert np.array_equal(_values(arrived), WANTED[2:3]) and time.time() - arrived[0].since < 5
    assert source.poll() == [] and source.warnings == []


def test_cifti_series_of_one_time_point_and_vectors_are_volumes(tmp_path):
    values = np.random.default_rng(1).normal(size=(4, 16)).astype(np.float32)
    source = open_incoming(tmp_path, SURFACE)
    _cifti(tmp_path / "a1.dtseries.nii", values[:1])
    _cifti(tmp_path / "a2.dtseries.nii", values[1:2])
    np.save(tmp_path / "a3.npy", values[2])
    np.save(tmp_path / "a4.npy", values[3, SELECTED].astype(float))
    assert np.array_equal(_values(source.poll()), values[:, SELECTED])


@pytest.mark.parametrize("cut", [0, 100, 360, -1])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".npy", ".dtseries.nii"])
def test_half_written_files_are_waited_for(tmp_path, suffix, cut):
    voxels = SURFACE if suffix in (".npy", ".dtseries.nii") else GRID
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".npy":
        np.save(whole, VOLUMES[0][INSIDE])
    elif suffix == ".dtseries.nii":
        _cifti(whole, VOLUMES[:1, INSIDE])
    else:
        _nifti(whole, VOLUMES[0])
    content = whole.read_bytes()
    whole.unlink()
    source, path = open_incoming(tmp_path, voxels), tmp_path / f"v1{suffix}"
    path.write_bytes(content[: min(cut, len(content) - 1)])
    assert source.poll() == []
    path.write_bytes(content)
    assert np.array_equal(_values(source.poll()), WANTED[:1]) and source.warnings == []


def test_what_stays_damaged_or_does_not_come_is_a_lost_volume(tmp_path, monkeypatch):
    source = open_incoming(tmp_path, GRID)
    _nifti(tmp_path / "v1.nii", VOLUMES[0])
    assert len(source.poll()) == 1
    _nifti(tmp_path / "v4.nii", VOLUMES[3])
    assert source.poll() == []
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + SETTLE_S + 1)
    arrived = source.poll()
    assert np.isnan(_values(arrived)[:2]).all() and np.array_equal(_values(arrived)[2], WANTED[3])
    assert "2 volumes before" in source.warnings[0]
    (tmp_path / "v5.nii").write_bytes(b"no volume at all")
    assert source.poll() == []
    monkeypatch.setattr("time.time", lambda: now + 3 * SETTLE_S)
    assert np.isnan(_values(source.poll())).all()
    assert "taken as a lost volume" in source.warnings[1]
    _nifti(tmp_path / "v2.nii", VOLUMES[1])
    assert source.poll() == [] and "after later volumes" in source.warnings[2]


def test_volumes_of_another_geometry_are_refused(tmp_path):
    (tmp_path / "grid").mkdir()
    _nifti(tmp_path / "grid" / "v1.nii", VOLUMES[0], np.diag([3.0, 3.0, 3.0, 1.0]))
    with pytest.raises(UserError, match="another geometry"):
        open_incoming(tmp_path / "grid", GRID).poll()
    (tmp_path / "mesh").mkdir()
    right = nib.cifti2.BrainModelAxis.from_surface(np.arange(16), 32, "CortexRight")
    _cifti(tmp_path / "mesh" / "v1.dtseries.nii", VOLUMES[:1, INSIDE], right)
    with pytest.raises(UserError, match="another geometry"):
        open_incoming(tmp_path / "mesh", SURFACE).poll()
    (tmp_path / "series").mkdir()
    _cifti(tmp_path / "series" / "v1.dtseries.nii", VOLUMES[:2, INSIDE])
    with pytest.raises(UserError, match="another geometry"):
        open_incoming(tmp_path / "series", SURFACE).poll()
    (tmp_path / "vectors").mkdir()
    np.save(tmp_path / "vectors" / "v1.npy", np.zeros(9))
    with pytest.raises(UserError, match="16 voxels, of which 8"):
        open_incoming(tmp_path / "vectors", SURFACE).poll()


@pytest.mark.parametrize("width", [16, 8])
@pytest.mark.parametrize("preallocated", [True, False])
def test_an_array_grows_row_by_row(tmp_path, width, preallocated):
    rows = np.ascontiguousarray(VOLUMES[:, INSIDE] if width == 16 else WANTED)
    np.save(tmp_path / "whole.npy", rows)
    content, path = (tmp_path / "whole.npy").read_bytes(), tmp_path / "scans.npy"
    begin = len(content) - rows.nbytes
    size = rows.nbytes // 5
    path.write_bytes(b"")
    source = open_incoming(path, SURFACE)
    assert source.poll() == []
    path.write_bytes(content[: begin - 3])
    assert source.poll() == []
    got = []
    # Places kept free are of zeros; a file that ends within a row has not got it yet.
    parts = (0, size, 3 * size, 5 * size)
    if not preallocated:
        parts = (0, size + 5, 3 * size, 5 * size - 1, 5 * size)
    for there in parts:
        free = bytes(rows.nbytes - there) if preallocated else b""
        path.write_bytes(content[: begin + there] + free)
        got += _values(source.poll())
        assert len(got) == there // size
    assert np.array_equal(got, WANTED)


@pytest.mark.parametrize("promised", [1, 5, 400])
def test_a_series_of_volumes_grows_whatever_its_header_promises(tmp_path, promised):
    image = nib.Nifti1Image(np.moveaxis(VOLUMES, 0, -1), AFFINE)
    image.header.set_slope_inter(2.0, 1.0)
    nib.save(image, tmp_path / "whole.nii")
    expected = np.asarray(nib.load(tmp_path / "whole.nii").dataobj, np.float32)
    content = bytearray((tmp_path / "whole.nii").read_bytes())
    content[48:50] = int(promised).to_bytes(2, "little")
    path = tmp_path / "run.nii"
    path.write_bytes(content[:100])
    source = open_incoming(path, GRID)
    assert source.poll() == []
    begin, size = 352, VOLUMES[0].nbytes
    got = []
    for there in (begin + size - 1, begin + size, begin + 3 * size + 7, len(content)):
        path.write_bytes(content[:there])
        got += _values(source.poll())
    moved = np.moveaxis(expected, -1, 0)[:, INSIDE][:, SELECTED]
    assert np.allclose(got, moved, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "voxels", "message"),
    [
        ("nothing", GRID, "does not exist"),
        ("run.dtseries.nii", SURFACE, "cannot grow volume by volume"),
        ("run.nii.gz", GRID, "cannot grow volume by volume"),
        ("run.nii", SURFACE, "trained on the cortical surface"),
    ],
)
def test_what_cannot_grow_is_refused(tmp_path, name, voxels, message):
    if name != "nothing":
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=message):
        open_incoming(tmp_path / name, voxels)


def test_growing_files_of_another_shape_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4)))
    with pytest.raises(UserError, match=r"\(2, 3, 4\)"):
        open_incoming(tmp_path / "a.npy", SURFACE).poll()
    np.save(tmp_path / "b.npy", np.ones((2, 9)))
    with pytest.raises(UserError, match="16 voxels"):
        open_incoming(tmp_path / "b.npy", SURFACE).poll()
    (tmp_path / "c.npy").write_bytes(b"something else altogether")
    _age(tmp_path / "c.npy", 60)
    with pytest.raises(UserError, match=r"is not a \.npy file"):
        open_incoming(tmp_path / "c.npy", SURFACE).poll()
    _nifti(tmp_path / "d.nii", np.moveaxis(VOLUMES, 0, -1), np.diag([3.0, 3, 3, 1]))
    with pytest.raises(UserError, match="a different grid"):
        open_incoming(tmp_path / "d.nii", GRID).poll()
