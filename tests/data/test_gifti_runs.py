"""Hemisphere pairs of GIFTI time series, written by nibabel, against the arrays put in."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.bids_tree import write_hemisphere
from numpy.typing import NDArray

from neuroclips_cli.data.gifti_runs import GiftiRun
from neuroclips_cli.data.run_table import RunRow
from neuroclips_cli.data.runs import open_row
from neuroclips_cli.data.scan_files import scan_row
from neuroclips_cli.errors import UserError

VOLUMES, LEFT, RIGHT = 9, 12, 15


@pytest.fixture
def series() -> NDArray[np.float32]:
    """Return (volumes, vertices of both hemispheres)."""
    shape = (VOLUMES, LEFT + RIGHT)
    return np.random.default_rng(0).normal(100, 10, shape).astype(np.float32)


def pair(
    folder: Path,
    series: NDArray[np.float32],
    *,
    single: bool = False,
    structures: tuple[str, str] = ("", ""),
) -> tuple[Path, Path]:
    halves = (series[:, :LEFT], series[:, LEFT:])
    left, right = (
        write_hemisphere(
            folder / f"sub-01_hemi-{side}_bold.func.gii", half, structure=name, single=single
        )
        for side, half, name in zip("LR", halves, structures, strict=True)
    )
    return left, right


def refused(*paths: Path) -> str:
    with pytest.raises(UserError) as caught:
        GiftiRun(paths)
    return str(caught.value)


@pytest.mark.parametrize("single", [False, True], ids=["array per volume", "one array"])
@pytest.mark.parametrize("structures", [("", ""), ("CortexLeft", "CortexRight")])
def test_both_forms_are_read(
    tmp_path: Path, series: NDArray[np.float32], single: bool, structures: tuple[str, str]
) -> None:
    run = GiftiRun(pair(tmp_path, series, single=single, structures=structures))
    assert (run.volumes, run.step_s) == (VOLUMES, None)
    assert np.array_equal(run.read(), series)
    assert run.columns.tolist() == list(range(LEFT + RIGHT))
    assert run.models.nvertices == {
        "CIFTI_STRUCTURE_CORTEX_LEFT": LEFT,
        "CIFTI_STRUCTURE_CORTEX_RIGHT": RIGHT,
    }
    needed = np.zeros(LEFT + RIGHT, bool)
    needed[[3, 25]] = True
    pieces = {piece.start: part for piece, part in run.blocks(10, needed)}
    assert sorted(pieces) == [0, 20]
    assert np.array_equal(pieces[20], series[:, 20:27])


def test_a_row_of_the_run_table_opens_them(tmp_path: Path, series: NDArray[np.float32]) -> None:
    packed = []
    for path in pair(tmp_path, series):
        packed.append(path.with_name(path.name + ".gz"))
        packed[-1].write_bytes(gzip.compress(path.read_bytes()))
    row = RunRow("01", "", tuple(packed), "", Path("x.mp4"), 0.0, 0.0, None, 2.0, "train", 1)
    run = open_row(row)
    assert np.array_equal(run.read(), series)
    assert run.share_geometry(GiftiRun(pair(tmp_path, series)))
    other = GiftiRun(pair(tmp_path / "other", series[:, :-1]))
    assert not run.share_geometry(other)


def test_one_hemisphere_is_found_beside_the_other(
    tmp_path: Path, series: NDArray[np.float32]
) -> None:
    left, right = pair(tmp_path, series)
    assert np.array_equal(open_row(scan_row(left)).read(), series)
    assert scan_row(right).files == (left, right)
    whole = left.with_name("sub-01_bold.func.gii")
    whole.write_bytes(left.read_bytes())
    with pytest.raises(UserError, match="is no hemisphere by its name"):
        scan_row(whole)
    right.unlink()
    with pytest.raises(UserError, match="has no sub-01_hemi-R_bold.func.gii beside it"):
        open_row(scan_row(left))


def test_what_does_not_go_together_is_refused(tmp_path: Path, series: NDArray[np.float32]) -> None:
    left, right = pair(tmp_path, series)
    assert "is one hemisphere" in refused(left)
    short = write_hemisphere(tmp_path / "short_hemi-R_bold.func.gii", series[:-1, LEFT:])
    assert f"holds {VOLUMES} volumes" in refused(left, short)
    swapped = pair(tmp_path / "swapped", series, structures=("CortexRight", "CortexLeft"))
    assert "is of the right hemisphere according to its own metadata" in refused(*swapped)


def test_damaged_files_and_other_kinds_are_refused(
    tmp_path: Path, series: NDArray[np.float32]
) -> None:
    left, right = pair(tmp_path, series)
    whole = right.read_bytes()
    right.write_bytes(whole[: len(whole) // 2])
    assert "not a complete GIFTI file" in refused(left, right)
    right.write_text("not XML", "utf-8")
    assert "not a complete GIFTI file" in refused(left, right)
    points = nib.gifti.GiftiDataArray(
        np.zeros((RIGHT, 3), np.float32), intent="NIFTI_INTENT_POINTSET"
    )
    nib.save(nib.GiftiImage(darrays=[points]), right)
    assert "NIFTI_INTENT_POINTSET" in refused(left, right)
    nib.save(nib.GiftiImage(darrays=[]), right)
    assert "holds no time series" in refused(left, right)
    arrays = [
        nib.gifti.GiftiDataArray(np.zeros(n, np.float32), intent="NIFTI_INTENT_TIME_SERIES")
        for n in (RIGHT, RIGHT - 1)
    ]
    nib.save(nib.GiftiImage(darrays=arrays), right)
    assert "arrays of different sizes" in refused(left, right)
    right.unlink()
    right.symlink_to("../.git/annex/objects/a/b/c.func.gii")
    assert "run `datalad get" in refused(left, right)
