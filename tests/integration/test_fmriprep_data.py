"""From fMRIPrep's files, written by nibabel and json, to arrays: answers by numpy and scipy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import nibabel as nib
import numpy as np
import pytest
from helpers.bids_tree import (
    BidsTree,
    film_rows,
    write_cifti,
    write_hemisphere,
    write_volumes,
)
from helpers.movie_runs import RATE, VOXELS, facts, film_signal, write_film
from nibabel.cifti2 import BrainModelAxis
from numpy.typing import NDArray
from scipy import stats
from scipy.interpolate import CubicSpline

from neuroclips_cli.data.new_scans import FilmTiming, open_new_run, read_trained_voxels
from neuroclips_cli.data.region_files import read_region_file
from neuroclips_cli.data.regions import inside_models
from neuroclips_cli.data.scan_files import scan_row
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.load import load_settings
from neuroclips_cli.stages import preprocess as stage
from neuroclips_cli.stages.decode import ScanReader

FILMS = {1: "train", 2: "train", 3: "train", 4: "train", 5: "test"}
REPETITIONS, FILM_S, ONSET_S, AFTER_S = 2, 36.0, 6.0, 12.0
DELAY_S, CLIP_S = 4.0, 2.0
SILENT = 12
"""Voxels that answer to nothing, the last ones."""
DEAD = 3
"""Voxels of all zeros in every run (fMRIPrep #2364), the first ones; one more in a single run."""
ONCE_DEAD = DEAD
Array = NDArray[np.float64]


@dataclass
class Study:
    """A raw tree, its derivative, and what every run measured.

    The first volume was measured `first_s` after a scan began (StartTime).
    `series` is (film, repetition) -> (volumes, voxels) as stored, `confounds` the regressors.
    """

    tree: BidsTree
    tr_s: float
    first_s: float = 0.0
    series: dict[tuple[int, int], Array] = field(default_factory=dict)
    confounds: dict[tuple[int, int], Array] = field(default_factory=dict)

    def stem(self, film: int, repetition: int) -> str:
        task = FILMS[film]
        return f"sub-01_ses-{repetition}_task-{task}_run-{film:02d}"


def made(folder: Path, tr_s: float, *, moving: bool = False, first_s: float = 0.0) -> Study:
    """Write films, events and sidecars, and make the series of all runs."""
    study = Study(BidsTree(folder), tr_s, first_s)
    volumes = int((ONSET_S + FILM_S + AFTER_S) / tr_s)
    times_s = first_s + np.arange(volumes) * tr_s
    for film in FILMS:
        write_film(folder / "stimuli" / f"film{film}.mp4", film, FILM_S)
        for repetition in range(1, REPETITIONS + 1):
            rng = np.random.default_rng([film, repetition])
            moment = times_s - DELAY_S - ONSET_S
            answer = film_signal(film, moment) * ((moment >= -4) & (moment <= FILM_S))[:, None]
            answer[:, -SILENT:] = 0
            drift = np.linspace(0, 1, volumes)[:, None] * rng.normal(0, 3, VOXELS)
            series = 1000 + 10 * (answer + drift + rng.normal(0, 0.2, answer.shape))
            if moving:
                table = rng.normal(0, 1, (volumes, 6))
                series += 100 * table @ rng.normal(0, 1, (6, VOXELS))
                study.confounds[film, repetition] = write_confounds(study, film, repetition, table)
            series[:, :DEAD] = 0
            if (film, repetition) == (2, 2):
                series[:, ONCE_DEAD] = 0
            study.series[film, repetition] = series.astype(np.float32).astype(np.float64)
            study.tree.events(
                f"{study.stem(film, repetition)}_events.tsv",
                film_rows((ONSET_S, FILM_S, f"film{film}.mp4")),
            )
    for task in ("train", "test"):
        study.tree.sidecar(study.tree.raw / f"task-{task}_bold.json", RepetitionTime=tr_s)
        corrected = {"SliceTimingCorrected": True, "StartTime": first_s} if first_s else {}
        study.tree.sidecar(study.tree.root / f"task-{task}_space-fsLR_bold.json", **corrected)
    return study


def write_confounds(study: Study, film: int, repetition: int, table: Array) -> Array:
    """Write six motion parameters as fMRIPrep does; return what the strategy motion makes of it."""
    names = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
    columns = {}
    for name, values in zip(names, table.T, strict=True):
        step = np.r_[np.nan, np.diff(values)]
        columns |= {
            name: values,
            f"{name}_derivative1": step,
            f"{name}_power2": values**2,
            f"{name}_derivative1_power2": step**2,
        }
    rows = [list(columns), *np.stack(list(columns.values()), axis=1).tolist()]
    stem = study.stem(film, repetition)
    text = "\n".join("\t".join("n/a" if v != v else str(v) for v in row) for row in rows)
    (study.tree.func(stem) / f"{stem}_desc-confounds_timeseries.tsv").write_text(text, "utf-8")
    taken = np.stack(list(columns.values()), axis=1)
    taken[0] = np.where(np.isnan(taken[0]), taken[1], taken[0])
    return taken


def as_cifti(study: Study, name: str, series: Array) -> None:
    path = study.tree.func(name) / f"{name}_space-fsLR_den-91k_bold.dtseries.nii"
    write_cifti(path, series, step_s=1.0)  # a wrong step, as #3216 and #3270 report of headers


def as_grayordinates(study: Study, name: str, series: Array) -> None:
    """Write cortex and both hippocampi, and in between a brain stem that nobody asks for."""
    path = study.tree.func(name) / f"{name}_space-fsLR_den-91k_bold.dtseries.nii"
    write_cifti(path, np.insert(series, [30] * 5, 0.0, axis=1), 1.0, models=GRAYORDINATES)


def as_hemispheres(single: bool) -> Callable[[Study, str, Array], None]:
    def write(study: Study, name: str, series: Array) -> None:
        wall = np.where(series == 0, np.nan if single else 0, series)  # --medial-surface-nan
        for side, half in zip("LR", np.split(wall, 2, axis=1), strict=True):
            path = study.tree.func(name) / f"{name}_hemi-{side}_space-fsaverage5_bold.func.gii"
            write_hemisphere(path, half, single=single)

    return write


def as_volumes(study: Study, name: str, series: Array) -> None:
    inside = np.zeros((6, 5, 4), bool)
    inside.ravel()[:: inside.size // VOXELS][:VOXELS] = True
    stem = f"{name}_space-MNI152NLin2009cAsym"
    folder = study.tree.func(name)
    write_volumes(folder / f"{stem}_desc-preproc_bold.nii.gz", series, inside, 0.0)
    mask = inside[None].reshape(1, -1).astype(float)
    write_volumes(folder / f"{stem}_desc-brain_mask.nii.gz", mask[:, mask[0] > 0], inside, 1.0)


def _structure(name: str, count: int, slab: int) -> BrainModelAxis:
    if name.startswith("Cortex"):
        return BrainModelAxis.from_surface(np.arange(count), 50, name)
    voxels = np.stack([np.arange(count), np.full(count, slab), np.zeros(count, int)], axis=1)
    return BrainModelAxis(name, voxels, affine=np.diag([2, 2, 2, 1]), volume_shape=(10, 4, 2))


CHOSEN = ("cortex", "hippocampus")
GRAYORDINATES = (
    _structure("CortexLeft", 30, 0)
    + _structure("brain_stem", 5, 1)
    + _structure("CortexRight", 30, 0)
    + _structure("hippocampus_left", 10, 2)
    + _structure("hippocampus_right", 10, 3)
)

FORMATS: dict[str, Callable[[Study, str, Array], None]] = {
    "cifti": as_cifti,
    "cortex and hippocampus": as_grayordinates,
    "hemispheres": as_hemispheres(False),
    "hemispheres in one array": as_hemispheres(True),
    "volumes": as_volumes,
}


def preprocess(study: Study, workdir: Path, **data: object) -> Path:
    flags: dict[str, object] = {
        "run.profile": "tiny",
        "data.window": 1,
        "data.detrend_order": 1,
        "run.workdir": str(workdir),
        "run.dataset": str(study.tree.raw),
        "data.frame_size": 32,
        "data.selection_p": 1.0,
        "data.test_films": ["film5"],
    }
    flags |= {f"data.{name}": value for name, value in data.items()}
    with mock.patch("os.fsync"):
        return stage.run(load_settings(flags, folder=workdir, environ={}))


def standardized(series: Array) -> Array:
    """Remove a line and bring to unit deviation."""
    time = np.arange(len(series))
    design = np.stack([np.ones(len(series)), time], axis=1)
    left = series - design @ np.linalg.lstsq(design, series, rcond=None)[0]
    deviation = left.std(axis=0, ddof=1)
    return left / np.where(deviation > 0, deviation, 1)


def cleaned(study: Study, film: int, repetition: int) -> Array:
    series = study.series[film, repetition]
    if not study.confounds:
        return series
    design = np.c_[np.ones(len(series)), study.confounds[film, repetition]]
    return series - design @ np.linalg.lstsq(design, series, rcond=None)[0]


def responses(study: Study, film: int, repetition: int) -> Array:
    """Return (clips, voxels): cubic between the volumes that the film's responses span."""
    times_s = ONSET_S + CLIP_S * np.arange(int(FILM_S / CLIP_S)) + DELAY_S
    places = (times_s - study.first_s) / study.tr_s
    places = np.where(np.abs(places - places.round()) < 1e-6, places.round(), places)
    first, last = int(np.floor(places.min())), int(np.ceil(places.max()))
    z = standardized(cleaned(study, film, repetition)[first : last + 1])
    return np.asarray(CubicSpline(np.arange(len(z)), z, bc_type="not-a-knot")(places - first))


def selection(study: Study) -> tuple[NDArray[np.bool_], Array]:
    """Return which voxels are selected and their t, from volumes while the films ran."""
    times_s = study.first_s + np.arange(len(study.series[1, 1])) * study.tr_s
    end_s = ONSET_S + FILM_S - study.tr_s
    during = (times_s >= ONSET_S - 1e-6) & (times_s <= end_s + 1e-6)
    z = []
    for film in (1, 2, 3, 4):
        first, second = (standardized(cleaned(study, film, r)[during]) for r in (1, 2))
        product = (first * second).sum(axis=0)
        norm = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
        z.append(np.arctanh(product / np.where(norm > 0, norm, 1)))
    usable = np.ones(VOXELS, bool)
    usable[: ONCE_DEAD + 1] = False
    with np.errstate(invalid="ignore", divide="ignore"):
        t, p = stats.ttest_1samp(np.array(z), 0.0)
    return usable & (t > 0) & (p < 1.0 / (VOXELS - DEAD)), t


def excluded_map(done: Path) -> list[int]:
    """Return where the map of excluded voxels is set: the last one of ``selection``."""
    image = nib.load(next(done.glob("selection.*nii")))
    values = np.asarray(image.dataobj)
    if values.ndim == 4:
        values = values.reshape(-1, values.shape[3]).T
        return np.flatnonzero(values[-1][:: values.shape[1] // VOXELS][:VOXELS]).tolist()
    assert image.header.get_axis(0).name[-1] == "excluded"
    return np.flatnonzero(values[-1]).tolist()


def pictures(study: Study, film: int, clips: int) -> NDArray[np.int64]:
    """Return the pictures on screen every third of a second, as PyAV decodes them."""
    import av

    with av.open(str(study.tree.raw / "stimuli" / f"film{film}.mp4")) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.array(shown, np.int64)[: clips * 2 * RATE : RATE // 3]


@pytest.mark.parametrize(
    ("name", "tr_s", "first_s", "confounds"),
    [
        ("cifti", 1.5, 0.735, ""),
        ("cifti", 0.8, 0.0, "motion"),
        ("cortex and hippocampus", 1.0, 0.0, ""),
        ("hemispheres", 1.49, 0.0, ""),
        ("hemispheres in one array", 2.0, 0.0, ""),
        ("volumes", 0.8, 0.0, ""),
    ],
)
def test_arrays_equal_what_numpy_makes_of_the_files(
    tmp_path: Path, name: str, tr_s: float, first_s: float, confounds: str
) -> None:
    study = made(tmp_path / "study", tr_s, moving=bool(confounds), first_s=first_s)
    for (film, repetition), series in study.series.items():
        FORMATS[name](study, study.stem(film, repetition), series)
    structures = CHOSEN if name == "cortex and hippocampus" else ("cortex",)
    done = preprocess(study, tmp_path, confounds=confounds, structures=structures)
    wanted, t = selection(study)
    with np.load(done / "selection.npz", allow_pickle=False) as found:
        assert np.array_equal(found["selected"], wanted)
        assert np.flatnonzero(found["excluded"]).tolist() == list(range(ONCE_DEAD + 1))
        assert np.allclose(found["t"][wanted], t[wanted], rtol=1e-3)
    assert 0.5 * VOXELS < wanted.sum() < VOXELS - DEAD
    train = np.load(done / "fmri_train.npy")
    tests = np.load(done / "fmri_test_repetitions.npy")
    clips = int(FILM_S / CLIP_S)
    for film in FILMS:
        for repetition in range(1, REPETITIONS + 1):
            array = tests if FILMS[film] == "test" else train
            rows = slice(0, clips) if film == 5 else slice((film - 1) * clips, film * clips)
            expected = responses(study, film, repetition)[:, wanted]
            assert np.abs(array[rows, repetition - 1] - expected).max() < 1e-4
    known = facts(done)
    assert known["layout"]["name"] == "fmriprep"
    decisions = " ".join(known["layout"]["decisions"])
    assert f"10 runs have a TR of {tr_s:g} s by sidecars such as" in decisions
    assert "data.test_films names them (film5)" in decisions
    assert known["tr"] == {"seconds": [tr_s], "source": {"sidecar": 10}}
    source = "StartTime" if first_s else "no sidecar speaks of slice timing correction"
    assert known["first_volume"] == {"seconds": [first_s], "source": {source: 10}}
    assert known["voxels_tested"] == VOXELS - DEAD
    assert known["voxels_excluded"] == DEAD + 1
    _decoded_alike(study, name, done, confounds)
    frames = np.load(done / "frames_test.npy").astype(int)
    assert excluded_map(done) == list(range(ONCE_DEAD + 1))
    assert np.abs(frames.reshape(-1, 32, 32, 3) - pictures(study, 5, clips)).max() <= 1


def _decoded_alike(study: Study, name: str, done: Path, confounds: str) -> None:
    """New scans of the kind come out as ``preprocess`` has the test runs, bit for bit."""
    endings = {
        "cifti": "dtseries.nii",
        "cortex and hippocampus": "dtseries.nii",
        "volumes": "desc-preproc_bold.nii.gz",
    }
    stems = [study.stem(5, repetition) for repetition in (1, 2)]
    ending = endings.get(name, "hemi-R*")
    scans = [next(study.tree.func(stem).glob(f"{stem}*{ending}")) for stem in stems]
    flags = {"run.profile": "tiny", "data.window": 1, "data.detrend_order": 1}
    flags |= {"data.confounds": confounds}
    reader = ScanReader(
        load_settings(flags, folder=done, environ={}), done, FilmTiming(ONSET_S, FILM_S)
    )
    assert np.array_equal(reader.read(scans), np.load(done / "fmri_test.npy"))
    assert [step["source"] for step in reader.facts["tr"].values()] == ["sidecar"] * 2
    moments = [first["seconds"] for first in reader.facts["first_volume"].values()]
    assert moments == [study.first_s] * 2
    tables = [Path(table).name for table in reader.facts["confounds"].values() if table]
    assert tables == [f"{s}_desc-confounds_timeseries.tsv" for s in stems if confounds]


def test_maps_and_new_scans_lie_on_the_structures_that_were_chosen(tmp_path: Path) -> None:
    study = made(tmp_path / "study", 2.0)
    for (film, repetition), series in study.series.items():
        as_grayordinates(study, study.stem(film, repetition), series)
    labels = tmp_path / "areas.dlabel.nii"
    keys = np.zeros((1, len(GRAYORDINATES)), np.float32)
    keys[0, :10], keys[0, -15:] = 1, 2  # 10 vertices; half of one hippocampus, and the other
    table = {0: ("???", (0, 0, 0, 0)), 1: ("V1", (1, 0, 0, 1)), 2: ("CA1", (1, 0, 0, 1))}
    axes = (nib.cifti2.LabelAxis(["areas"], [table]), GRAYORDINATES)
    nib.cifti2.Cifti2Image(keys, header=axes).to_filename(labels)
    done = preprocess(study, tmp_path, structures=CHOSEN, mask=str(labels), selection="atlas")
    models = nib.load(done / "selection.dscalar.nii").header.get_axis(1)
    kept = np.r_[0:30, 35:85]
    assert models == GRAYORDINATES[kept]
    with np.load(done / "selection.npz", allow_pickle=False) as found:
        assert found["columns"].tolist() == kept.tolist()
        assert found["index"].tolist() == [*range(ONCE_DEAD + 1, 10), *range(70, 85)]
    assert facts(done)["voxels_by_structure"] == {
        "CORTEX_LEFT": 9 - ONCE_DEAD, "HIPPOCAMPUS_LEFT": 5, "HIPPOCAMPUS_RIGHT": 10
    }  # fmt: skip
    voxels = read_trained_voxels(done)
    run = study.tree.func(study.stem(5, 1)) / f"{study.stem(5, 1)}_space-fsLR_den-91k_bold"
    row, data = scan_row(run.with_name(f"{run.name}.dtseries.nii")), load_settings(environ={}).data
    new = open_new_run(row, voxels, data)
    assert np.array_equal(new.read(), study.series[5, 1].astype(np.float32))
    chosen = {"structures": CHOSEN, "selection": "atlas", "parcels": str(labels)}
    done = preprocess(study, tmp_path / "parcels", **chosen)
    assert (done / "parcels.csv").read_text().split() == [
        "parcel,name,voxels",
        "0,V1,10",
        "1,CA1,15",
    ]
    means = open_new_run(row, read_trained_voxels(done), replace(data, **chosen)).read()
    series = study.series[5, 1]
    wanted = np.stack([series[:, DEAD:10].mean(axis=1), series[:, 65:].mean(axis=1)], axis=1)
    np.testing.assert_allclose(means, wanted, rtol=1e-6)
    assert np.load(done / "fmri_train.npy").shape[-1] == 2
    swapped = replace(data, **chosen | {"parcels": str(tmp_path / "other.dlabel.nii")})
    axes = (nib.cifti2.LabelAxis(["areas"], [{**table, 2: ("CA3", (1, 0, 0, 1))}]), GRAYORDINATES)
    nib.cifti2.Cifti2Image(keys, header=axes).to_filename(swapped.parcels)
    with pytest.raises(UserError, match="has other parcels than that of the training runs"):
        open_new_run(row, read_trained_voxels(done), swapped)
    cortical = tmp_path / "cortex.dlabel.nii"
    axes = (axes[0], GRAYORDINATES[np.r_[0:30, 35:65]])
    nib.cifti2.Cifti2Image(keys[:, :60], header=axes).to_filename(cortical)
    kept = inside_models(read_region_file([cortical]), ["V1"], models)
    assert np.flatnonzero(kept.mask).tolist() == [*range(10), *range(60, 80)]
    assert "says nothing of the subcortical voxels: all 20 are kept" in kept.notes[0]


def test_structures_that_are_not_there_are_refused_with_those_that_are(tmp_path: Path) -> None:
    study = made(tmp_path / "study", 2.0)
    for (film, repetition), series in study.series.items():
        as_grayordinates(study, study.stem(film, repetition), series)
    there = "it has brain_stem, cortex, hippocampus; name some of these, all or subcortex"
    with pytest.raises(UserError, match=f"no structure 'amygdala'.*: {there}"):
        preprocess(study, tmp_path, structures=["cortex", "amygdala"])
    for path in study.tree.root.rglob("*.dtseries.nii"):
        path.unlink()
    for (film, repetition), series in study.series.items():
        as_hemispheres(False)(study, study.stem(film, repetition), series)
    with pytest.raises(UserError, match="holds the cortical surface alone: take CIFTI runs"):
        preprocess(study, tmp_path, structures=["all"])


def test_a_wrong_header_is_a_warning_that_says_which_won(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """fMRIPrep #3216: 1 s in the header, the truth in the sidecar."""
    study = made(tmp_path / "study", 1.5)
    for (film, repetition), series in study.series.items():
        as_cifti(study, study.stem(film, repetition), series)
    done = preprocess(study, tmp_path)
    assert facts(done)["tr"]["seconds"] == [1.5]
    said = "".join(capsys.readouterr()).replace("\n", " ")
    assert "its sidecar states 1.5 s between volumes, its series step 1 s" in " ".join(said.split())


def test_confounds_that_a_run_table_does_not_name_are_asked_for(tmp_path: Path) -> None:
    study = made(tmp_path / "study", 2.0)
    for (film, repetition), series in study.series.items():
        as_cifti(study, study.stem(film, repetition), series)
    done = preprocess(study, tmp_path)
    with pytest.raises(UserError, match="has no table of confounds, which data.confounds = simple"):
        preprocess(study, tmp_path / "again", runs=str(done / "runs.tsv"), confounds="simple")


def test_events_past_the_end_of_the_run_and_of_the_film_are_refused(tmp_path: Path) -> None:
    study = made(tmp_path / "study", 2.0)
    for (film, repetition), series in study.series.items():
        as_cifti(study, study.stem(film, repetition), series)
    name = f"{study.stem(3, 1)}_events.tsv"
    study.tree.events(name, film_rows((40.0, FILM_S, "film3.mp4")))
    with pytest.raises(UserError, match=r"run-03_space.* ends after 54 s \(27 volumes"):
        preprocess(study, tmp_path)
    for key in ("raw", "films"):
        with pytest.raises(UserError, match=rf"there is no folder .*nowhere \(data.{key}\)"):
            preprocess(study, tmp_path, **{key: str(tmp_path / "nowhere")})
    study.tree.events(name, film_rows((ONSET_S, FILM_S + 10, "film3.mp4")))
    other = f"{study.stem(3, 2)}_events.tsv"
    study.tree.events(other, film_rows((ONSET_S, FILM_S + 10, "film3.mp4")))
    with pytest.raises(UserError, match=r"film3.mp4 lasts 36 s, but"):
        preprocess(study, tmp_path)
