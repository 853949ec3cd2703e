"""decode: new scans come out as reconstruct's, and what does not fit is refused in a sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import random_backbones as tiny
from helpers import simulation_world, trained_run
from helpers.trained_run import TEST, VERTICES, VOXELS
from PIL import Image

from neuroclips_cli.cli.main import run as command
from neuroclips_cli.data.new_scans import WHOLE_RUN, FilmTiming
from neuroclips_cli.errors import UserError
from neuroclips_cli.runs.stage import read_array, read_csv, read_json
from neuroclips_cli.settings.load import Settings
from neuroclips_cli.signal.detrend import standardize
from neuroclips_cli.stages import decode, preprocess, reconstruct

PARTS = ("blurry", "tokens_brain", "tokens_prior", "keyframes", "clips")
SERIES = 300 + np.random.default_rng(5).normal(0, 5, (9, VERTICES)).astype(np.float32)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory) -> Settings:
    """Return the settings of a run of random networks that is reconstructed."""
    backbones = tiny.save_all(tmp_path_factory.mktemp("backbones"))
    workdir = tmp_path_factory.mktemp("work") / "runs"
    workdir.mkdir()
    settings = trained_run.settings(workdir, backbones)
    trained_run.write(settings)
    reconstruct.run(settings)
    return settings


@pytest.fixture(scope="module")
def preprocessed(tmp_path_factory) -> tuple[Settings, Path]:
    """Return settings and preprocess stage of the simulated data set."""
    settings = simulation_world.settings_for(
        simulation_world.simulated(), tmp_path_factory.mktemp("runs")
    )
    return settings, preprocess.run(settings)


def _cifti(path: Path, series: np.ndarray = SERIES, **more: object) -> Path:
    return trained_run.write_scans(path, series, **more)


def _runs(film: str) -> list[Path]:
    folder = simulation_world.simulated() / "subject1" / "fmri" / film / "cifti"
    return sorted(folder.glob("*.dtseries.nii"))


def test_scans_are_those_of_preprocess_bit_for_bit(preprocessed):
    settings, folder = preprocessed
    expected = read_array(folder / "fmri_test.npy")
    repetitions = read_array(folder / "fmri_test_repetitions.npy")
    for film, start_s, rows in (("test1", 2.0, slice(0, 8)), ("test2", 4.0, slice(8, 16))):
        timing = FilmTiming(start_s, 16.0)
        scans = decode.ScanReader(settings, folder, timing).read(_runs(film))
        assert np.array_equal(scans, expected[rows]), film
        alone = decode.ScanReader(settings, folder, timing).read(_runs(film)[1:2])
        assert np.array_equal(alone, repetitions[rows, 1]), film


def test_the_clips_are_those_of_reconstruct_bit_for_bit(chosen, tmp_path):
    scans = read_array(Path(chosen.run.workdir) / "sub-01" / "preprocess" / "fmri_test.npy")
    np.save(tmp_path / "scans.npy", scans)
    folder = decode.run(chosen, scans=[tmp_path / "scans.npy"])
    for part in PARTS:
        there = read_array(folder.with_name("reconstruct") / f"{part}.npy")
        assert np.array_equal(read_array(folder / f"{part}.npy"), there), part
    assert len(list((folder / "videos").glob("*.mp4"))) == TEST
    before = (folder / "manifest.json").stat().st_mtime_ns
    decode.run(chosen, scans=[tmp_path / "scans.npy"])
    assert (folder / "manifest.json").stat().st_mtime_ns == before


def test_a_run_is_standardized_over_its_own_volumes_and_copied_where_it_is_asked_for(
    chosen, tmp_path, capsys
):
    _cifti(tmp_path / "new.dtseries.nii")
    place = Path(chosen.run.workdir) / "sub-01"
    changed = [f"--set={key}={chosen.value(key)}" for key in ("run.device",)]
    words = ["decode", str(tmp_path / "new.dtseries.nii"), "--run", str(place), *changed]
    words += ["--start", "2", "--duration", "10", "--first-clip", "3", "--name", "film-a"]
    assert command([*words, "--out", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    expected = standardize(SERIES[3:8, :VOXELS], chosen.data.detrend_order)[0]
    folder = place / "decode-film-a"
    np.testing.assert_allclose(read_array(folder / "scans.npy"), expected, atol=1e-5)
    assert [row["onset_s"] for row in read_csv(folder / "clips.csv")] == ["2", "4", "6", "8", "10"]
    assert read_array(folder / "index.npy").tolist() == [3, 4, 5, 6, 7]
    assert (tmp_path / "out" / "videos" / "clip-0007.mp4").is_file()
    assert (tmp_path / "out" / "captions.csv").is_file()
    assert [row["volume"] for row in read_csv(folder / "clips.csv")] == ["3", "4", "5", "6", "7"]
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    for row in read_csv(folder / "clips.csv"):
        source = f"videos/clip-{int(row['clip']):04d}.mp4"
        assert f'src="{source}"' in page and (tmp_path / "out" / source).is_file()
        assert f"<td>{row['onset_s']}</td><td>{row['volume']}</td>" in page.replace("\n", "")
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.size == (6 + 5 * 134 + 300, 40 + 5 * 134)
    assert set(read_json(folder / "manifest.json")["inputs"]) == {
        *("preprocess", "train-pr", "train-sr", "scans_1")
    }
    other = decode.ScanReader(chosen, place / "preprocess", WHOLE_RUN)
    assert other.read([tmp_path / "new.dtseries.nii"]).shape == (7, VOXELS)


def test_a_short_run_takes_the_statistics_of_training(preprocessed, tmp_path):
    settings, folder = preprocessed
    image = nib.load(_runs("test1")[0])
    series, models = np.asarray(image.dataobj)[:4], image.header.get_axis(1)
    short = _cifti(tmp_path / "short.dtseries.nii", series, models=models)
    reader = decode.ScanReader(settings, folder, FilmTiming(2.0))
    scans = reader.read([short])
    with np.load(folder / "selection.npz") as selection:
        index = selection["index"]
    files = [path for n in range(1, 9) for path in _runs(f"seg{n}")]
    raw = np.stack([np.asarray(nib.load(f).dataobj, float)[3:17, index] for f in files])
    left = [standardize(run, settings.data.detrend_order)[0] for run in raw]
    shares = [np.einsum("tv,tv->v", z, run) / 13 for z, run in zip(left, raw, strict=True)]
    deviation = np.sqrt(np.mean(np.square(shares), axis=0))
    order, places = settings.data.detrend_order, np.linspace(-1, 1, 14)
    level = np.mean([np.polynomial.legendre.legfit(places, run, order)[0] for run in raw], axis=0)
    assert np.allclose(scans, (series[3:4, index] - level) / deviation, atol=1e-3)
    assert "means and deviations of the training runs" in reader.warnings[0]
    shutil.copytree(folder, tmp_path / "old")
    (tmp_path / "old" / "training_statistics.npz").unlink()
    with pytest.raises(UserError, match=r"no training_statistics\.npz: run `neuroclips preprocess"):
        decode.ScanReader(settings, tmp_path / "old", FilmTiming(2.0)).read([short])


def _broken(kind: str) -> np.ndarray:
    series = SERIES.copy()
    if kind == "volume":
        series[5] = np.nan
    elif kind == "voxel":
        series[:, 0] = 7.0
    elif kind == "voxels":
        series[:, :2] = np.inf
    elif kind == "bytes":
        series = series.byteswap().view(series.dtype)
    return series


@pytest.mark.parametrize(
    ("kind", "timing", "message"),
    [
        ("volume", WHOLE_RUN, "10 of the 10 voxels|holds no signal"),
        ("voxels", WHOLE_RUN, "no signal .* in 2 of the 10 voxels"),
        ("bytes", WHOLE_RUN, "numbers of impossible size"),
        ("", FilmTiming(0.0, 1.0), "--duration 1 should be at least 0 s, and one clip of 2 s"),
        ("", FilmTiming(0.0, 60.0), "too short: 9 volumes of 2 s do not hold .* the 30 clips"),
        ("", FilmTiming(20.0), "too short: 9 volumes"),
        ("", FilmTiming(-2.0), "--start -2"),
        ("", FilmTiming(0.0, None, -1.0), "--tr -1 should be above 0 s"),
    ],
)
def test_runs_that_do_not_fit_are_refused_in_a_sentence(chosen, tmp_path, kind, timing, message):
    path = _cifti(tmp_path / "new.dtseries.nii", _broken(kind))
    place = Path(chosen.run.workdir) / "sub-01" / "preprocess"
    with pytest.raises(UserError, match=message) as told:
        decode.ScanReader(chosen, place, timing).read([path])
    assert "\n" not in str(told.value)


def test_one_voxel_without_a_signal_counts_as_0_and_is_told(chosen, tmp_path):
    path = _cifti(tmp_path / "new.dtseries.nii", _broken("voxel"))
    reader = decode.ScanReader(chosen, Path(chosen.run.workdir) / "sub-01/preprocess", WHOLE_RUN)
    assert not reader.read([path])[:, 0].any()
    assert "no signal in 1 of 10 voxels" in reader.warnings[0]


def test_headers_geometries_and_mixtures_that_do_not_fit_are_refused(chosen, tmp_path):
    place = Path(chosen.run.workdir) / "sub-01" / "preprocess"

    def read(*paths: Path, timing: FilmTiming = WHOLE_RUN) -> np.ndarray:
        return decode.ScanReader(chosen, place, timing).read(paths)

    fits = _cifti(tmp_path / "fits.dtseries.nii")
    slow = _cifti(tmp_path / "slow.dtseries.nii", step=1.5)
    with pytest.raises(
        UserError, match=r"a volume every 1\.5 s by its series step.*with --tr 1\.5 or --tr 2"
    ):
        read(slow)
    assert np.array_equal(read(slow, timing=FilmTiming(tr_s=2.0)), read(fits))
    right = nib.cifti2.BrainModelAxis.from_surface(np.arange(VERTICES), 32, "CortexRight")
    fewer = nib.cifti2.BrainModelAxis.from_surface(np.arange(VERTICES - 1), 32, "CortexLeft")
    mesh = nib.cifti2.BrainModelAxis.from_surface(np.arange(VERTICES), 64, "CortexLeft")
    for name, models in (("right", right), ("fewer", fewer), ("mesh", mesh)):
        path = tmp_path / f"{name}.dtseries.nii"
        _cifti(path, SERIES[:, : len(models)], models=models)
        with pytest.raises(UserError, match="another geometry"):
            read(path)
    volume = tmp_path / "volume.nii"
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2, 9), np.float32), np.eye(4)), volume)
    with pytest.raises(UserError, match="holds volumes, and the training runs were another kind"):
        read(volume)
    with pytest.raises(UserError, match=r"unequal numbers of clips \(7, 5\)"):
        read(fits, _cifti(tmp_path / "cut.dtseries.nii", SERIES[:7]))
    np.save(tmp_path / "scans.npy", np.zeros((3, VOXELS)))
    with pytest.raises(UserError, match="decode them one after the other"):
        read(fits, tmp_path / "scans.npy")


def test_a_run_of_another_tr_is_read_between_its_volumes(chosen, tmp_path):
    from scipy.interpolate import CubicSpline

    series = 300 + np.random.default_rng(6).normal(0, 5, (20, VERTICES)).astype(np.float32)
    path = _cifti(tmp_path / "fast.dtseries.nii", series, step=1.5)
    place = Path(chosen.run.workdir) / "sub-01" / "preprocess"
    scans = decode.ScanReader(chosen, place, FilmTiming(1.0, 10.0, 1.5)).read([path])
    times = (1.0 + 2.0 * np.arange(5) + chosen.data.delay_s) / 1.5
    over = slice(int(np.floor(times[0])), int(np.ceil(times[-1])) + 1)
    z = standardize(series[over, :VOXELS], chosen.data.detrend_order)[0]
    inside = np.arange(over.start, over.stop)
    assert np.allclose(scans, CubicSpline(inside, z, bc_type="not-a-knot")(times), atol=1e-4)


def test_windows_of_several_volumes_are_read_and_taken(chosen, tmp_path):
    from neuroclips_cli.settings.load import replace_settings

    wide = replace_settings(chosen, {"data.window": 3}, origin="test")
    place = Path(chosen.run.workdir) / "sub-01" / "preprocess"
    path = _cifti(tmp_path / "new.dtseries.nii")
    scans = decode.ScanReader(wide, place, FilmTiming(2.0, 8.0)).read([path])
    z = standardize(SERIES[2:8, :VOXELS], chosen.data.detrend_order)[0]
    assert np.allclose(scans, np.stack([z[k : k + 3] for k in range(4)]), atol=1e-6)
    np.save(tmp_path / "scans.npy", scans)
    assert np.array_equal(
        decode.ScanReader(wide, place, WHOLE_RUN).read([tmp_path / "scans.npy"]), scans
    )
    with pytest.raises(UserError, match=r"numbers \(clips, 10\)"):
        np.save(tmp_path / "flat.npy", np.zeros((2, 2, 2, VOXELS)))
        decode.ScanReader(chosen, place, WHOLE_RUN).read([tmp_path / "flat.npy"])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, VOXELS + 1)), r"\(3, 11\).*numbers \(clips, 10\)"),
        (np.zeros(VOXELS), r"decodes numbers"),
        (np.zeros((0, VOXELS)), r"decodes numbers"),
        (np.full((2, VOXELS), "a"), r"decodes numbers"),
        (np.full((2, 3, VOXELS), np.nan), "NaN or infinity in clip 0"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(chosen, tmp_path, array, message):
    np.save(tmp_path / "scans.npy", array)
    place = Path(chosen.run.workdir) / "sub-01" / "preprocess"
    with pytest.raises(UserError, match=message):
        decode.ScanReader(chosen, place, WHOLE_RUN).read([tmp_path / "scans.npy"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to decode"),
        (("no.npy",), "no.npy do not exist"),
        (("scans.npy", "--name", "../x"), "letters, digits and hyphens"),
        (("scans.npy", "--first-clip", "-1"), "at least 0"),
        (("scans.npy", "--run", "nowhere"), "nowhere is not a folder of a subject's results"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_sentence(chosen, capsys, words, message):
    np.save("scans.npy", np.zeros((2, VOXELS)))
    place = ("--run", str(Path(chosen.run.workdir) / "sub-01"))
    given = words if "--run" in words else (*words, *place)
    assert command(["decode", *given]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
