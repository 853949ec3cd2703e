"""Broken scans and films: each is found, named with its file, and repaired or refused."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.simulation_world import CORTEX, copy_of, settings_for, simulated

from neuroclips_cli.data.region_files import read_region_file
from neuroclips_cli.data.runs import VolumeMask, check_values, open_row
from neuroclips_cli.data.scan_files import scan_row
from neuroclips_cli.data.stimuli import open_stimulus
from neuroclips_cli.errors import UserError
from neuroclips_cli.signal import quality
from neuroclips_cli.stages import preprocess

FMRI = "subject1/fmri"


def run_path(root: Path, segment: str, repetition: int) -> Path:
    return root / FMRI / segment / "cifti" / f"{segment}_{repetition}_Atlas.dtseries.nii"


def rewrite(path: Path, change) -> None:
    """Change the values of a run in place."""
    import nibabel as nib

    image = nib.load(path)
    data = np.array(image.dataobj)
    header = image.header
    data = change(data)
    path.unlink()
    nib.cifti2.Cifti2Image(data, header=header).to_filename(path)


def all_of(shape: tuple[int, ...]) -> VolumeMask:
    return VolumeMask(np.ones(shape, bool), np.eye(4))


@pytest.fixture
def dataset(tmp_path) -> Path:
    return copy_of(simulated(), tmp_path / "dataset")


def test_broken_vertices_and_scaled_runs_are_left_out_with_a_warning_that_names_them(
    dataset, tmp_path
):
    def spoil(data):
        data[3, 5] = np.nan
        data[4, 6] = np.inf
        data[:, 7] = 3.0
        data[:9, 8] = data[:, 8].max() + 1.0
        return data

    rewrite(run_path(dataset, "seg2", 1), spoil)
    rewrite(run_path(dataset, "test1", 2), lambda data: data * 1000.0)
    folder = preprocess.run(settings_for(dataset, tmp_path))
    warnings = json.loads((folder / "manifest.json").read_text())["facts"]["warnings"]
    said = " ".join(w for w in warnings if "seg2_1" in w)
    assert "2 voxels with NaN or infinity (first: volume 3, voxel 5)" in said
    assert "1 constant voxels" in said and "1 saturated voxels" in said
    assert any("test1_2" in w and "scaled by about" in w for w in warnings)
    with np.load(folder / "selection.npz", allow_pickle=False) as selection:
        assert selection["excluded"][5:9].all() and selection["excluded"].sum() == 4
    assert np.isfinite(np.load(folder / "fmri_train.npy")).all()


@pytest.mark.parametrize("twin", [("seg5", 1), ("seg5", 2)])
def test_runs_swapped_between_segments_are_named(dataset, tmp_path, twin):
    first, second = run_path(dataset, "seg2", 1), run_path(dataset, *twin)
    shutil.move(first, tmp_path / "aside")
    shutil.move(second, first)
    shutil.move(tmp_path / "aside", second)
    with pytest.raises(UserError, match="seg2, seg5 correlate nowhere") as caught:
        preprocess.run(settings_for(dataset, tmp_path))
    other = 3 - twin[1]
    assert f"seg2_1 answers like seg5_{other}" in str(caught.value)
    assert str(first) in str(caught.value)


def test_an_undisturbed_data_set_has_no_warnings(tmp_path):
    folder = preprocess.run(settings_for(simulated(), tmp_path))
    assert json.loads((folder / "manifest.json").read_text())["facts"]["warnings"] == []


def test_a_swapped_test_repetition_is_found_among_good_ones():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((40, 1, 60))
    responses = shared + rng.standard_normal((40, 5, 60))
    assert quality.inconsistent_repetitions(responses) == []
    responses[:, 3] = rng.standard_normal((40, 60))
    assert quality.inconsistent_repetitions(responses) == [3]
    responses[:, 1] = np.nan
    assert quality.inconsistent_repetitions(responses) == [3]


def test_noise_without_any_signal_accuses_nobody():
    rng = np.random.default_rng(1)
    z = rng.standard_normal((18, 3000)) / 15
    assert quality.inconsistent_segments(z, np.ones(3000, bool))[0] == []
    assert quality.inconsistent_repetitions(rng.standard_normal((40, 5, 60))) == []


def test_a_byte_swapped_header_is_read_and_swapped_values_are_refused(dataset):
    import nibabel as nib

    path = run_path(dataset, "seg1", 1)
    image = nib.load(path)
    data = np.array(image.dataobj, np.float32)
    swapped = nib.cifti2.Cifti2Image(data, header=image.header, nifti_header=image.nifti_header)
    big = path.with_name("big.dtseries.nii")
    raw = swapped.nifti_header.as_byteswapped(">")
    swapped = nib.cifti2.Cifti2Image(data, header=image.header, nifti_header=raw)
    swapped.to_filename(big)
    assert np.array_equal(open_row(scan_row(big)).read(), data[:, :CORTEX])

    content = bytearray(path.read_bytes())
    offset = int(nib.load(path).dataobj.offset)
    content[offset:] = np.frombuffer(bytes(content[offset:]), "<f4").astype(">f4").tobytes()
    path.write_bytes(content)
    run = open_row(scan_row(path))
    with pytest.raises(UserError, match=r"seg1_1.* impossible size .*bytes swapped"):
        check_values(path, run.read())


def test_slope_and_intercept_of_a_header_are_applied(tmp_path):
    import nibabel as nib

    values = np.random.default_rng(0).integers(0, 2000, (3, 3, 3, 4)).astype(np.int16)
    image = nib.Nifti1Image(values, np.eye(4))
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((1, 1, 1, 2))
    image.header.set_slope_inter(0.5, 10)
    image.to_filename(tmp_path / "seg1_1.nii")
    stored = open_row(scan_row(tmp_path / "seg1_1.nii"), all_of((3, 3, 3))).read()
    assert np.array_equal(stored, np.moveaxis(values, 3, 0).reshape(4, 27) * 0.5 + 10)


def test_a_run_without_any_signal_is_refused():
    with pytest.raises(UserError, match=r"a\.nii holds no signal \(5 constant voxels\)"):
        check_values(Path("a.nii"), np.ones((30, 5), np.float32))


def test_other_brain_models_and_another_tr_are_refused(dataset, tmp_path):
    import nibabel as nib

    path = run_path(dataset, "seg3", 2)
    image = nib.load(path)
    series, models = (image.header.get_axis(i) for i in range(2))
    data = np.array(image.dataobj)
    keep = np.r_[1 : data.shape[1]]
    path.unlink()
    nib.cifti2.Cifti2Image(data[:, keep], header=(series, models[keep])).to_filename(path)
    with pytest.raises(UserError, match="seg3_2.* other voxels than .*seg1_1"):
        preprocess.run(settings_for(dataset, tmp_path))
    slow = nib.cifti2.SeriesAxis(0, 1.5, len(data), "SECOND")
    path.unlink()
    nib.cifti2.Cifti2Image(data, header=(slow, models)).to_filename(path)
    with pytest.raises(
        UserError, match=r"seg3_2.* volume every 1.5 s by its header, not every 2 s"
    ):
        preprocess.run(settings_for(dataset, tmp_path))


def _volumes(path: Path, volumes: int = 6) -> bytes:
    import nibabel as nib

    values = np.random.default_rng(0).normal(size=(4, 4, 4, volumes)).astype(np.float32)
    image = nib.Nifti1Image(values, np.eye(4))
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((1, 1, 1, 2))
    image.to_filename(path)
    return path.read_bytes()


def test_a_gzip_that_ends_early_is_named(tmp_path):
    path = tmp_path / "seg1_1.nii.gz"
    content = _volumes(path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"seg1_1\.nii\.gz is damaged or cut short"):
        open_row(scan_row(path), all_of((4, 4, 4))).read()


@pytest.mark.parametrize("packed", [True, False])
def test_a_header_that_claims_more_than_the_file_can_hold_gets_no_memory(tmp_path, packed):
    content = bytearray(_volumes(tmp_path / "a.nii"))
    content[40:56] = np.array([4, 30000, 30000, 30000, 30000, 1, 1, 1], "<i2").tobytes()
    path = tmp_path / ("mask.nii.gz" if packed else "mask.nii")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(UserError, match="is cut short"):
        read_region_file([path])
    with pytest.raises(UserError, match="cut short|a different grid"):
        open_row(scan_row(path), all_of((4, 4, 4)))


def test_a_film_of_variable_rate_is_taken_by_time_with_a_warning(tmp_path):
    from fractions import Fraction

    import av

    from neuroclips_cli.data.quality_checks import QualityReport

    path = tmp_path / "seg1.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        time = 0
        for i in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 5 * i, np.uint8), "rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 100)
            time += 10 if i < 20 else 20
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    film = open_stimulus(path)
    assert not film.steady and film.duration_s == pytest.approx(5.9, abs=0.3)
    checked = QualityReport()
    checked.films([film])
    assert "frame rate varies (longest picture 0.20 s)" in checked.warnings()[0]
