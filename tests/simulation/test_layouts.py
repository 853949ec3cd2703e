"""Layouts that simulate writes: names, times, tables and truth, read with plain libraries."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.simulation_world import settings_for, simulated_layout

from neuroclips_cli.errors import UserError
from neuroclips_cli.signal.detrend import detrend
from neuroclips_cli.simulation import brain_files
from neuroclips_cli.simulation.attributes import image_descriptors
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
