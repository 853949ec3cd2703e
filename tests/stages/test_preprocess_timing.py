"""preprocess at any timing, against responses that scipy and numpy make of the same files."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json

import nibabel as nib
import numpy as np
import pytest
from helpers.movie_runs import (
    HEADER,
    RATE,
    VOXELS,
    WrittenRun,
    facts,
    preprocess,
    row,
    settings,
    write_film,
    write_table,
)
from scipy.interpolate import CubicSpline, interp1d

from neuroclips_cli.data.run_table import read_run_table
from neuroclips_cli.data.time_step import first_volume_beside
from neuroclips_cli.errors import UserError
from neuroclips_cli.settings.load import load_settings
from neuroclips_cli.signal.detrend import standardize
from neuroclips_cli.stages import preprocess as stage
from neuroclips_cli.stages._training_data import training_clips

ORDER = 2
"""Of the polynomial that profile tiny removes."""


def answer(run, place, clips, *, clip_s=2.0, delay_s=4.0, window=1, method="cubic", whole=False):
    """Return a stretch's responses (clips, window, voxels), made without any of our functions."""
    _, _, scan_start_s, _ = run.stretches[place]
    offsets = np.arange(window) - (window - 1) // 2
    times_s = scan_start_s + clip_s * np.arange(clips)[:, None] + delay_s + offsets * run.tr_s
    places = times_s / run.tr_s
    places = np.where(np.abs(places - np.round(places)) < 1e-3, np.round(places), places)
    first, last = int(np.floor(places.min())), int(np.ceil(places.max()))
    if whole:
        first, last = 0, run.volumes - 1
    there = run.data[first : last + 1].astype(np.float64)
    count = np.arange(len(there))
    fit = np.polynomial.Polynomial.fit
    left = np.stack([s - fit(count, s, ORDER)(count) for s in there.T], axis=1)
    left /= left.std(axis=0, ddof=1)
    if method == "cubic":
        spline = CubicSpline(count, left, bc_type="not-a-knot")
    else:
        spline = interp1d(count, left, axis=0)
    return spline(places - first)


def _study(folder, tr_s, starts, *, duration_s=60.0, tail_s=12.0, header_s=None):
    """Write three training films seen twice and a test film seen three times."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, runs = [], {}
    for film, (split, repetitions) in enumerate([("train", 2)] * 3 + [("test", 3)], 1):
        write_film(folder / "films" / f"film{film}.mp4", film, duration_s)
        for repetition in range(1, repetitions + 1):
            start_s = starts[(film + repetition) % len(starts)]
            volumes = int((start_s + duration_s + tail_s) / tr_s)
            stretch = (film, 0.0, start_s, duration_s)
            run = WrittenRun(
                f"r{film}{repetition}",
                volumes,
                tr_s,
                [stretch],
                10 * film + repetition,
                header_s=header_s,
            )
            run.write(folder / "scans")
            rows.append(row(run, 0, split, repetition))
            runs[film, repetition] = run
    return write_table(folder, rows), runs


TIMINGS = [
    (tr_s, clip_s, delay_s, window, method)
    for (tr_s, clip_s), (delay_s, window, method) in itertools.product(
        ((0.8, 2.0), (0.8, 4.0), (1.0, 1.0), (1.49, 2.0), (2.0, 2.0), (2.5, 3.0)),
        ((4.0, 1, "cubic"), (4.7, 3, "linear"), (5.0, 5, "cubic")),
    )
]


@pytest.mark.parametrize(("tr_s", "clip_s", "delay_s", "window", "method"), TIMINGS)
def test_responses_at_any_timing(tmp_path, tr_s, clip_s, delay_s, window, method):
    starts = (10.0, 9.3, 12.345)
    table, runs = _study(tmp_path / "d", tr_s, starts, duration_s=36.0, tail_s=18.0)
    timing = {"clip_s": clip_s, "delay_s": delay_s, "window": window}
    done = preprocess(
        table,
        tmp_path,
        data__interpolation=method,
        **{f"data__{name}": value for name, value in timing.items()},
    )
    with np.load(done / "selection.npz", allow_pickle=False) as selection:
        index = selection["index"]
    clips = int(36 / clip_s)
    train, tests = np.load(done / "fmri_train.npy"), np.load(done / "fmri_test_repetitions.npy")
    several = (window,) if window > 1 else ()
    assert train.shape == (3 * clips, 2, *several, len(index)) and len(index) > VOXELS / 4
    assert tests.shape == (clips, 3, *several, len(index))
    for (film, repetition), run in runs.items():
        expected = answer(run, 0, clips, method=method, **timing)[..., index]
        expected = expected if window > 1 else expected[:, 0]
        rows = slice((film - 1) * clips, film * clips) if film < 4 else slice(None)
        found = (train if film < 4 else tests)[rows, repetition - 1]
        assert np.abs(found - expected).max() < 1e-4
    assert np.allclose(np.load(done / "fmri_test.npy"), tests.mean(axis=1), atol=1e-6)
    assert facts(done)["tr"] == {"seconds": [tr_s], "source": {"series step": 9}}


FIRST_S = 0.625
STATED = {
    "run table": {},
    "StartTime": {"SliceTimingCorrected": True, "StartTime": FIRST_S, "SliceTiming": [0.0, 0.1]},
    "SliceTiming": {"SliceTimingCorrected": True, "SliceTiming": [1.0, 0.0, 0.875]},
    "half a TR, as SliceTimingCorrected is true": {"SliceTimingCorrected": True},
}
"""What sidecars say of a run of TR 1.25 s."""


@pytest.mark.parametrize("source", STATED)
def test_the_first_volume_is_measured_when_sidecar_or_table_say(tmp_path, source):
    """Films begin with the scan, half a TR before the first volume, or a little later."""
    starts = (-FIRST_S, 0.7)
    table, runs = _study(tmp_path / "d", 2 * FIRST_S, starts, duration_s=24.0)
    lines = [line.split("\t") for line in table.read_text("utf-8").splitlines()]
    for line in lines[1:]:
        line[HEADER.index("scan_start_s")] = str(
            float(line[HEADER.index("scan_start_s")]) + FIRST_S
        )
        if source == "run table":
            line[HEADER.index("first_volume_s")] = str(FIRST_S)
    table.write_text("\n".join("\t".join(line) for line in lines) + "\n", encoding="utf-8")
    for run in runs.values() if STATED[source] else ():
        path = tmp_path / "d" / "scans" / f"{run.name}.dtseries.json"
        path.write_text(json.dumps(STATED[source]), encoding="utf-8")
    done = preprocess(table, tmp_path)
    with np.load(done / "selection.npz", allow_pickle=False) as selection:
        index = selection["index"]
    train = np.load(done / "fmri_train.npy")
    for (film, repetition), run in list(runs.items())[:6]:
        found = train[12 * (film - 1) : 12 * film, repetition - 1]
        assert np.abs(found - answer(run, 0, 12)[:, 0, index]).max() < 1e-4
    assert facts(done)["first_volume"] == {"seconds": [FIRST_S], "source": {source: 9}}
    assert len(index) > VOXELS / 4
    if source == "StartTime":
        again = preprocess(done / "runs.tsv", tmp_path / "again")
        assert np.array_equal(np.load(again / "fmri_train.npy"), train)


@pytest.mark.parametrize("value", [-0.5, "soon", True, None, [0.5]])
def test_a_start_time_that_is_none_is_refused(tmp_path, value):
    path = tmp_path / "x_bold.dtseries.json"
    path.write_text(json.dumps({"StartTime": value}), encoding="utf-8")
    with pytest.raises(UserError, match=r"x_bold\.dtseries\.json has StartTime .*correct it"):
        first_volume_beside(tmp_path / "x_bold.dtseries.nii", 2.0)
    path.write_text(json.dumps({"SliceTimingCorrected": False, "SliceTiming": [0, 1]}), "utf-8")
    assert first_volume_beside(tmp_path / "x_bold.dtseries.nii", 2.0).seconds == 0


def _rests(folder):
    """Write three runs of two films each between rests; each film's second half is seen last."""
    folder.mkdir()
    for film in (1, 2, 3, 4):
        write_film(folder / "films" / f"film{film}.mp4", film, 60.0)
    one = WrittenRun("one", 150, 1.0, [(1, 0.0, 20.0, 40.0), (2, 10.0, 80.0, 40.0)], 1)
    two = WrittenRun("two", 160, 1.0, [(2, 10.0, 15.5, 40.0), (1, 0.0, 75.25, 40.0)], 2)
    three = WrittenRun("three", 150, 1.0, [(3, 4.0, 10.0, 30.0), (4, 0.0, 60.0, 60.0)], 3)
    for run in (one, two, three):
        run.write(folder / "scans")
    rows = [
        row(one, 0, "train", 1),
        row(one, 1, "train", 1),
        row(two, 0, "train", 2),
        row(two, 1, "train", 2),
        row(three, 0, "test", 1),
        row(three, 1, "val", 1),
    ]
    return write_table(folder, rows), {"one": one, "two": two, "three": three}


@pytest.fixture(scope="module")
def rests(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rests")
    table, runs = _rests(folder / "d")
    return table, runs, preprocess(table, folder)


def test_several_films_and_rests_per_run(rests):
    _, runs, done = rests
    with np.load(done / "selection.npz", allow_pickle=False) as selection:
        index = selection["index"]
    train, tests = np.load(done / "fmri_train.npy"), np.load(done / "fmri_test_repetitions.npy")
    assert train.shape[:2] == (20 + 20 + 30, 2) and tests.shape[:2] == (15, 1)
    places = {(0, 0): ("one", 0), (20, 0): ("one", 1), (20, 1): ("two", 0), (0, 1): ("two", 1)}
    for (start, repetition), (name, place) in places.items():
        expected = answer(runs[name], place, 20)[:, 0, index]
        assert np.abs(train[start : start + 20, repetition] - expected).max() < 1e-4
    assert np.abs(tests[:, 0] - answer(runs["three"], 0, 15)[:, 0, index]).max() < 1e-4


def test_frames_are_those_of_the_stretch(rests):
    _, _, done = rests
    frames = np.load(done / "frames_train.npy")
    for start, film, film_start_s in ((0, 1, 0), (20, 2, 10), (40, 4, 0)):
        pictures = 10 * film + film_start_s * RATE + 2 * RATE * 7 + np.arange(6) * 2
        assert np.abs(frames[start + 7].mean(axis=(1, 2, 3)) - pictures % 250).max() < 2
    tests = np.load(done / "frames_test.npy")
    assert abs(tests[0, 0].mean() - (30 + 4 * RATE)) < 2


def test_a_repetition_that_is_missing_is_the_mean_of_the_others(rests):
    _, _, done = rests
    train = np.load(done / "fmri_train.npy")
    assert np.array_equal(train[40:, 0], train[40:, 1])
    assert facts(done)["missing_training_runs"] == ["film4_2"]


def test_the_clip_table_knows_stretches_and_who_validates(rests):
    _, _, done = rests
    with (done / "clips.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    chosen = [rows[i] for i in (0, 20, 40, 70)]
    assert [(r["segment"], r["film"], r["onset_s"], r["held_out"]) for r in chosen] == [
        ("1", "film1.mp4", "0", "0"),
        ("2", "film2.mp4", "10", "0"),
        ("3", "film4.mp4", "0", "1"),
        ("1", "film3.mp4", "4", "0"),
    ]
    clips = training_clips(done, (1,))
    assert clips.held_out == (3,) and clips.validation.tolist() == list(range(40, 70))


def test_the_table_that_was_used_gives_the_same_again(rests, tmp_path):
    _, _, done = rests
    used = read_run_table(done / "runs.tsv")
    assert [r.tr_s for r in used] == [1.0] * 6 and used[5].duration_s == 60
    again = preprocess(done / "runs.tsv", tmp_path)
    for name in ("fmri_train", "fmri_test", "frames_train", "frames_test"):
        assert np.array_equal(np.load(done / f"{name}.npy"), np.load(again / f"{name}.npy"))
    assert facts(again)["tr"]["source"] == {"run table": 3}


def test_standardizing_over_the_run(tmp_path):
    table, runs = _rests(tmp_path / "d")
    with pytest.raises(UserError, match=r"three.*val film film4.*data.standardize=stretch"):
        preprocess(table, tmp_path, data__standardize="run")
    lines = [line for line in table.read_text().splitlines() if "film4" not in line]
    table.write_text("\n".join(lines) + "\n")
    done = preprocess(table, tmp_path, data__standardize="run")
    with np.load(done / "selection.npz", allow_pickle=False) as selection:
        index = selection["index"]
    expected = answer(runs["two"], 1, 20, whole=True)[:, 0, index]
    assert np.abs(np.load(done / "fmri_train.npy")[:20, 1] - expected).max() < 1e-4


def test_clips_whose_response_was_not_recorded_are_left_out(tmp_path):
    table, _ = _study(tmp_path / "d", 1.0, (5.0,), tail_s=0.5)
    done = preprocess(table, tmp_path)
    assert facts(done)["clips_without_response"] == {f"film{n}": 2 for n in (1, 2, 3, 4)}
    assert "8 in all" in " ".join(facts(done)["warnings"])
    assert len(np.load(done / "fmri_test.npy")) == len(np.load(done / "frames_test.npy")) == 28


def test_a_silent_vertex_of_any_film_is_left_out_of_all(tmp_path):
    table, runs = _study(tmp_path / "d", 1.0, (5.0,))
    plain = preprocess(table, tmp_path / "plain")
    with np.load(plain / "selection.npz", allow_pickle=False) as selection:
        before = selection["index"].tolist()
    training, film, single = before[1], before[4], before[7]
    silent = {training: [(1, 1)], film: [(4, 1), (4, 2), (4, 3)], single: [(4, 2)]}
    for vertex, places in silent.items():
        for place in places:
            runs[place].data[:, vertex] = 0
            runs[place].write(tmp_path / "d" / "scans")
    done = preprocess(table, tmp_path / "silent")
    with np.load(done / "selection.npz", allow_pickle=False) as selection:
        assert set(before) - set(selection["index"].tolist()) == {training, film}
        assert np.flatnonzero(selection["excluded"]).tolist() == sorted([training, film])
        column = selection["index"].tolist().index(single)
    known = facts(done)
    assert known["voxels_excluded"] == 1 and known["voxels_without_test_signal"] == 1
    tests = np.load(done / "fmri_test_repetitions.npy")
    assert (
        np.isnan(tests[:, 1, column]).all() and np.isfinite(np.load(done / "fmri_test.npy")).all()
    )


@pytest.mark.parametrize(
    ("changes", "more", "said"),
    [
        ({"duration_s": 90}, {}, r"film1.mp4 lasts 60 s, but .*r11.* up to 90 s"),
        (
            {"scan_start_s": 20},
            {},
            r"r11.* ends after 77 s .*up to 80 s: correct onset or dur",
        ),
        ({"film": "films/other.mp4"}, {}, r"film .*other.mp4 of the run table is not there"),
        ({"tr_s": 1.1}, {}, "the repetitions of film1 correlate nowhere"),
        ({"scan_start_s": "n/a", "tr_s": 1.1}, {"data__tr_s": 2.0}, "no scan_start_s"),
        ({}, {"data__window": 21}, r"data.window.*begins 1 volumes before"),
        ({}, {"data__clip_s": 100.0}, "has no clip of 100 s"),
        ({}, {"data__detrend_order": 10, "data__clip_s": 10.0, "data__delay_s": 0.0}, None),
    ],
)
def test_what_contradicts_itself_is_one_sentence(tmp_path, changes, more, said):
    table, _ = _study(tmp_path / "d", 1.0, (5.0,))
    first = read_run_table(table)[0]
    lines = table.read_text().splitlines()
    names = lines[0].split("\t")
    cells = dict(zip(names, lines[1].split("\t"), strict=True)) | {
        k: str(v) for k, v in changes.items()
    }
    lines[1] = "\t".join(cells[name] for name in names)
    table.write_text("\n".join(lines) + "\n")
    assert first.film.exists()
    if said is None:
        assert preprocess(table, tmp_path, **more).is_dir()
        return
    with pytest.raises(UserError, match=said) as error:
        preprocess(table, tmp_path, **more)
    assert "\n" not in str(error.value)


def test_films_seen_once_need_another_choice_of_voxels(tmp_path):
    table, _ = _study(tmp_path / "d", 1.0, (5.0,))
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:4], lines[5], *lines[7:]]) + "\n")
    with pytest.raises(UserError, match="data.selection = atlas, test-reliability, encoding or"):
        preprocess(table, tmp_path)


def test_the_sidecar_wins_over_the_series_step_over_the_setting(tmp_path):
    table, _ = _study(tmp_path / "d", 1.0, (5.0,), header_s=1.5)
    scans = tmp_path / "d" / "scans"
    for path in scans.glob("r[123]*.dtseries.nii"):
        path.with_name(path.name.replace(".dtseries.nii", ".json")).write_text(
            '{"RepetitionTime": 1.0}'
        )
    for path in scans.glob("r4*.dtseries.nii"):
        path.with_name(path.name.replace(".nii", ".json")).write_text('{"RepetitionTime": 1.0}')
    done = preprocess(table, tmp_path, data__tr_s=2.0)
    known = facts(done)
    assert known["tr"] == {"seconds": [1.0], "source": {"sidecar": 9}}
    said = " ".join(known["warnings"])
    assert "its sidecar states 1 s between volumes, its series step 1.5 s; the sidecar was" in said
    assert "its setting data.tr_s 2 s; the sidecar was believed" in said
    sidecar = scans / "r11.json"
    for text, words in (
        ('{"RepetitionTime": 1490}', "1490, which is not a time in seconds"),
        ("{", "not a readable JSON"),
    ):
        sidecar.write_text(text)
        with pytest.raises(UserError, match=words):
            preprocess(table, tmp_path)


def test_nothing_that_states_the_tr_is_one_sentence(tmp_path):
    table, _ = _study(tmp_path / "d", 1.0, (5.0,), header_s=0.0)
    with pytest.raises(UserError, match="give the TR in s with --tr"):
        preprocess(table, tmp_path)
    assert facts(preprocess(table, tmp_path, data__tr_s=1.0))["tr"]["source"] == {"data.tr_s": 9}


def test_a_changed_table_makes_the_stage_stale(tmp_path, capsys):
    table, _ = _study(tmp_path / "d", 1.0, (5.0,))
    done = preprocess(table, tmp_path)
    stamp = (done / "fmri_train.npy").stat().st_mtime_ns
    preprocess(table, tmp_path)
    assert (done / "fmri_train.npy").stat().st_mtime_ns == stamp
    table.write_text(table.read_text().replace("\t5.0\t", "\t5.5\t"))
    preprocess(table, tmp_path)
    assert (done / "fmri_train.npy").stat().st_mtime_ns != stamp


def test_the_dry_run_writes_nothing_and_says_what_would_be(tmp_path, capsys):
    table, _ = _study(tmp_path / "d", 1.0, (5.0,))
    stage.dry_run(settings(table, tmp_path / "runs"))
    out, err = capsys.readouterr()
    assert out.count("film1.mp4") == 2 and "scans/r43.dtseries.nii" in out
    assert f"9 rows of the run table {table}" in err and "read: 14 files" in err
    assert "fmri_train: 90 clips x 2 repetitions; fmri_test: 30 clips x 3 repetitions" in err
    assert not (tmp_path / "runs").exists()


CC2017 = {
    "fmri_train": "2d77759bdf74de40f30b9bc26c86de9a",
    "fmri_test": "2100af5692ab474c21de0c44b2c37a62",
    "fmri_test_repetitions": "cea632af00d5636c2133f29a094a7332",
    "frames_train": "941b41d56b65f6ff23858fb3a7672afb",
    "frames_test": "63f9435f283149922a07ba36fa9afa89",
    "index": "d598f2328206aa806561e8480b731949",
    "t": "6b2201b42d1df342dc906f1987289daa",
    "p": "d40493985dc65560e6fbab2342e82938",
}
"""Half the SHA-256 of the arrays that commit 8dce6f7, before the run table, made of `INPUTS`."""
INPUTS = "6d4724ee5abb84cfb9cbce933ee6d0c0"
CANARY = "3cc836a6bf1021faac3d798c6dce1032"
"""Of what `standardize` makes of fixed numbers: another BLAS rounds otherwise."""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _canary() -> str:
    numbers = np.random.default_rng(0).normal(1e4, 50, (14, 500)).astype(np.float32)
    return _digest(standardize(numbers, ORDER)[0].tobytes())


def write_cc2017(root):
    """Write a subject called and timed as cc2017's are; return the bytes of runs and films."""
    content = hashlib.sha256()
    for film in range(1, 7):
        word, repetitions = (f"seg{film}", 2) if film < 6 else ("test1", 3)
        path = write_film(root / "stimuli" / f"{word}.mp4", film, 36.0)
        content.update(path.read_bytes())
        for repetition in range(1, repetitions + 1):
            leading = 1 + film % 2
            stretch = (film, 0.0, 2.0 * leading, 36.0)
            name = f"{word}_{repetition}_Atlas"
            run = WrittenRun(name, 18 + leading + 4, 2.0, [stretch], 10 * film + repetition)
            if (film, repetition) == (3, 2):
                run.data[:, 7], run.data[4, 8] = 900.0, np.nan
            content.update(run.data.tobytes())
            run.write(root / "subject1" / "fmri")
    return content.hexdigest()[:32]


def digests(done):
    """Return digests of everything that preprocess makes of cc2017's layout."""
    names = ("fmri_train", "fmri_test", "fmri_test_repetitions", "frames_train", "frames_test")
    found = {name: _digest(np.load(done / f"{name}.npy").tobytes()) for name in names}
    with np.load(done / "selection.npz", allow_pickle=False) as selection:
        return found | {name: _digest(selection[name].tobytes()) for name in ("index", "t", "p")}


def test_cc2017_is_what_it_was_bit_for_bit(tmp_path):
    content = write_cc2017(tmp_path / "d")
    done = stage.run(cc2017_settings(tmp_path))
    with np.load(done / "selection.npz", allow_pickle=False) as selection:
        index = selection["index"]
    train = np.load(done / "fmri_train.npy")
    for film, repetition in ((1, 1), (4, 2)):
        path = tmp_path / f"d/subject1/fmri/seg{film}_{repetition}_Atlas.dtseries.nii"
        start = 1 + film % 2 + 2
        volumes = np.asarray(nib.load(path).dataobj)[start : start + 18]
        expected = standardize(volumes[:, index], ORDER)[0].astype(np.float32)
        pred = train[18 * (film - 1) : 18 * film, repetition - 1]
        np.testing.assert_allclose(pred, expected, atol=1e-5)  # blocks of voxels in float32
    if (content, _canary()) != (INPUTS, CANARY):
        pytest.skip("this machine's encoder or BLAS rounds otherwise than the recording one")
    assert digests(done) == CC2017


def cc2017_settings(folder):
    """Return the settings for `write_cc2017`'s data set in ``folder/d``."""
    flags = {
        "run.profile": "tiny",
        "data.window": 1,
        "run.workdir": str(folder),
        "run.dataset": str(folder / "d"),
        "data.frame_size": 32,
        "data.selection_p": 1.0,
    }
    return load_settings(flags, folder=folder, environ={})
