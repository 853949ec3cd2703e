"""Layouts that simulate writes: names, times, tables and truth, read with plain libraries."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.simulation_world import SIZES, settings_for, simulated_layout

from neuroclips_cli.data.readers import ReaderOptions, recognize, tree_of
from neuroclips_cli.data.run_table import check_run_table
from neuroclips_cli.data.runs import open_row
from neuroclips_cli.errors import UserError
from neuroclips_cli.signal.detrend import detrend
from neuroclips_cli.simulation import brain_files
from neuroclips_cli.simulation.attributes import image_descriptors
from neuroclips_cli.simulation.films import film_frames
from neuroclips_cli.simulation.layouts import LAYOUTS
from neuroclips_cli.simulation.scanner import FilmFeatures, Subject, scale_of
from neuroclips_cli.simulation.timeline import Showing
from neuroclips_cli.stages import simulate

FUNC = "derivatives/fmriprep/sub-01/ses-02/func"


def _table(path, delimiter="\t"):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter=delimiter))


def test_fmriprep_has_sidecars_events_and_volumes_that_agree():
    import nibabel as nib

    root = simulated_layout("fmriprep", tr_s=1.49)
    stem = "sub-01_ses-02_task-train_run-02"
    image = nib.load(root / FUNC / f"{stem}_space-fsLR_den-91k_bold.dtseries.nii")
    series = image.header.get_axis(0)
    sidecar = json.loads((root / FUNC / f"{stem}_space-fsLR_den-91k_bold.json").read_text())
    assert sidecar["RepetitionTime"] == pytest.approx(1.49) == pytest.approx(series.step)
    assert sidecar["StartTime"] == pytest.approx(0.745)
    (event,) = _table(root / "sub-01/ses-02/func" / f"{stem}_events.tsv")
    assert (event["onset"], event["duration"], event["stim_file"]) == ("6", "16", "seg2.mp4")
    assert len(series) == math.ceil((6 + 16 + 14) / 1.49)
    assert (root / "stimuli" / event["stim_file"]).is_file()
    raw, derived = (
        json.loads((root / folder / "dataset_description.json").read_text())
        for folder in (".", "derivatives/fmriprep")
    )
    assert (raw["DatasetType"], derived["DatasetType"]) == ("raw", "derivative")
    assert derived["GeneratedBy"][0]["Name"] == "fMRIPrep"


def test_fmriprep_confounds_have_a_line_per_volume_and_no_differences_in_the_first():
    root = simulated_layout("fmriprep", tr_s=1.49)
    (path, *_) = sorted((root / FUNC).glob("*confounds_timeseries.tsv"))
    lines = _table(path)
    assert {lines[0]["framewise_displacement"], lines[0]["trans_x_derivative1"]} == {"n/a"}
    assert "n/a" not in {value for line in lines[1:] for value in line.values()}
    moved = sum(
        abs(float(lines[5][f"{k}_{a}"]) - float(lines[4][f"{k}_{a}"])) * s
        for k, s in (("trans", 1), ("rot", 50))
        for a in "xyz"
    )
    assert float(lines[5]["framewise_displacement"]) == pytest.approx(moved, abs=1e-5)


def test_a_brain_is_the_same_at_every_tr_and_its_noise_as_slow(tmp_path):
    """The noise's autocorrelation over 2 s is the same."""
    found = {}
    for tr_s in (1.0, 2.0):
        settings = settings_for(
            tmp_path,
            tmp_path,
            simulate__layout="fmriprep",
            simulate__tr_s=tr_s,
            simulate__clips_per_segment=400,
            simulate__signal_scale=0.0,
            simulate__noise_scale=100.0,  # next to which the drift is nothing
        )
        subject, timeline = _subject_of(settings)
        noise = detrend(subject.record(timeline, "a"), 1)
        over_2_s = round(2 / tr_s)
        shift = (noise[over_2_s:] * noise[:-over_2_s]).sum(axis=0) / (noise**2).sum(axis=0)
        found[tr_s] = (subject.brain.amplitude, shift.mean())
    assert np.array_equal(found[1.0][0], found[2.0][0])
    assert found[1.0][1] == pytest.approx(found[2.0][1], abs=0.03)
    assert 0.2 < found[2.0][1] < 0.4


def _subject_of(settings):
    """A subject of 60 vertices, and the run in which it lies still for 14 min."""
    maps = np.random.default_rng(0).random((32, 17, 256), np.float32)
    features = {"seg1": FilmFeatures(maps, image_descriptors(maps))}
    layout = LAYOUTS["fmriprep"]
    scan = layout.scan(settings.simulate, settings.data)
    timeline = replace(layout.recordings(1, scan)[0].timeline, shown=(Showing("seg1", 6.0, 16.0),))
    cortex, scale = np.ones(60, bool), scale_of(features)
    known = (settings.simulate, settings.data, [timeline])
    return Subject(1, 0, cortex, features, scale, *known), timeline


@pytest.mark.parametrize("files", ["cifti", "gifti", "volume"])
def test_the_truth_tells_where_every_vertex_lies(tmp_path, files):
    import nibabel as nib

    cortex = brain_files.cortex_of("small")
    series = np.random.default_rng(0).standard_normal((3, len(cortex))).astype(np.float32) + 9
    if files == "cifti":
        brain_files.write_cifti(tmp_path / "a.dtseries.nii", series, 1.49, "small")
        flat = np.asarray(nib.load(tmp_path / "a.dtseries.nii").dataobj)
    elif files == "gifti":
        paths = (tmp_path / "hemi-L.func.gii", tmp_path / "hemi-R.func.gii")
        brain_files.write_gifti(paths, series, "small")
        sides = [nib.load(path).agg_data().T for path in paths]
        assert {side.shape for side in sides} == {(3, 10242)}
        flat = np.concatenate(sides, axis=1)
        assert (flat == 0).all(axis=0).sum() == 2 * 10242 - cortex.sum()
    else:
        paths = (tmp_path / "bold.nii.gz", tmp_path / "mask.nii.gz")
        brain_files.write_volumes(*paths, series, 1.49, "small")
        image, mask = (nib.load(path) for path in paths)
        assert image.header.get_zooms()[3] == pytest.approx(1.49)
        data = np.asarray(image.dataobj)
        flat = data.reshape(-1, 3).T
        assert np.array_equal(np.asarray(mask.dataobj) > 0, (data != 0).all(axis=-1))
    assert np.array_equal(flat[:, brain_files.positions_of("small", files)], series[:, cortex])


def test_a_data_set_of_another_layout_is_refused_and_replaced_whole(tmp_path):
    sizes = {
        "simulate__train_segments": 2,
        "simulate__test_segments": 1,
        "simulate__grayordinates": "small",
        "simulate__clips_per_segment": 5,
        "simulate__test_clips_per_segment": 5,
        "simulate__test_repetitions": 1,
    }
    root = tmp_path / "data"
    simulate.run(settings_for(root, tmp_path, **sizes), root)
    other = settings_for(root, tmp_path, **sizes, simulate__layout="fmriprep")
    with pytest.raises(UserError, match="layout None instead of fmriprep"):
        simulate.run(other, root)
    simulate.run(other, root, overwrite=True)
    assert not (root / "subject1").exists() and (root / "sub-01").is_dir()


def test_cc2017_has_one_volume_per_clip(tmp_path):
    root = tmp_path / "data"
    with pytest.raises(UserError, match="as long as a volume"):
        simulate.run(settings_for(root, tmp_path, simulate__tr_s=1.49), root)
    with pytest.raises(UserError, match="files must be cifti"):
        simulate.run(settings_for(root, tmp_path, simulate__files="gifti"), root)


def _rows_of(layout, **options):
    root = simulated_layout(layout)
    tree = tree_of(root)
    found = recognize(tree)
    assert found.reader.name == layout
    rows = found.reader.run_table(tree, "1", ReaderOptions(**options))
    check_run_table(rows)
    return root, rows


def _on_screen(film, time_s):
    """Return the frame of a film at a time, by PyAV."""
    with av.open(str(film)) as container:
        frames = [f for f in container.decode(video=0) if f.time <= time_s + 1e-6]
    return frames[-1].to_ndarray(format="rgb24").astype(float)


def _frame_of_plan(layout, name, time_s):
    known = LAYOUTS[layout]
    settings = settings_for(Path(), Path(), **SIZES, simulate__layout=layout)
    scan = known.scan(settings.simulate, settings.data)
    plan = next(plan for plan in known.plans(scan, settings.run.seed) if plan.name == name)
    return np.concatenate(list(film_frames(plan, 32)))[round(time_s * 30)].astype(float)


def test_cinebrains_clips_are_the_film_in_pieces_and_its_reader_deals_them_out():
    root, rows = _rows_of("cinebrain")
    assert [row.film.stem for row in rows[:9]] == [f"{n:06d}" for n in range(9)]
    assert [row.scan_start_s for row in rows[7:9]] == [8.25 + 28, 8.25]
    assert [row.film.stem for row in rows if row.split == "test"] == [
        f"{n:06d}" for n in range(7560, 7568)
    ]
    assert {row.tr_s for row in rows} == {0.8}
    with av.open(str(rows[2].film)) as container:
        stream = container.streams.video[0]
        assert (stream.frames, stream.average_rate) == (33, 8)
    drawn = _frame_of_plan("cinebrain", "seg1", 2 * 4 + 1.5)
    assert np.abs(_on_screen(rows[2].film, 1.5) - drawn).mean() < 6
    assert len(_table(root / "stimuli/scenes.csv", ",")) >= 3 * 8


def test_bold_moments_trials_are_shown_as_the_events_say():
    _, rows = _rows_of("bold-moments")
    assert [row.repetition for row in rows if row.film.stem == "vid0003"] == [1, 2]
    train = next(row for row in rows if row.split == "train")
    first = [row for row in rows if row.files == train.files]
    assert sorted(row.film.stem for row in first) == [f"vid{n:04d}" for n in range(1, 9)]
    assert [row.scan_start_s for row in first] == [7.0 + 4 * n for n in range(8)]
    shown = next(row for row in rows if row.film.stem == "vid0005")
    drawn = _frame_of_plan("bold-moments", "seg1", 4 * 3 + 1.0)
    assert np.abs(_on_screen(shown.film, 1.0) - drawn).mean() < 6


def test_algonauts_parcels_are_standardized_runs_with_films():
    _, rows = _rows_of("algonauts")
    assert [(r.film.name, r.split, r.repetition) for r in rows] == [
        ("friends_s01e01a.mkv", "train", 1),
        ("friends_s01e01b.mkv", "train", 1),
        ("life01.mkv", "test", 1),
        ("life01.mkv", "test", 2),
    ]
    run = open_row(rows[0])
    series = run.read()
    assert series.shape == (math.ceil((16 + 8) / 1.49), 1000)
    assert np.abs(series.mean(axis=0)).max() < 1e-4
    assert np.abs(series.std(axis=0) - 1).max() < 1e-3


def test_hcp7t_has_the_real_times_and_one_film_in_all_four_runs(tmp_path):
    """Names and times alone: the films last an hour."""
    layout = LAYOUTS["hcp7t"]
    settings = settings_for(tmp_path, tmp_path, simulate__layout="hcp7t")
    scan = layout.scan(settings.simulate, settings.data)
    recordings = layout.recordings(1, scan)
    assert [one.timeline.volumes for one in recordings] == [921, 918, 915, 901]
    last = [one.timeline.shown[-1] for one in recordings]
    assert {(one.film, one.duration_s) for one in last} == {("test1", 83.0)}
    assert sum(len(one.timeline.shown) for one in recordings) == 18
    finer = layout.scan(
        settings_for(tmp_path, tmp_path, simulate__tr_s=0.8).simulate, settings.data
    )
    assert layout.recordings(1, finer)[0].timeline.volumes == math.ceil(921 / 0.8)
    plans = layout.plans(scan, 0)
    places = {plan.name: layout.places(plan) for plan in plans}
    assert [place.at_s for place in places["test1"]] == [818, 815, 812, 798]
    assert [place.stem for place in places["seg5"]] == ["7T_MOVIE2_HO1_v2"]
