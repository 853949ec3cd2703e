"""Finding and reading data sets: arrangements, volumes, regions, films."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.simulation_world import CORTEX, GRAYORDINATES, copy_of, settings_for, simulated

from neuroclips_cli.data.clip_table import check_captions, read_captions, read_scenes
from neuroclips_cli.data.layout import find_layout
from neuroclips_cli.data.region_files import read_region_file
from neuroclips_cli.data.regions import inside_models
from neuroclips_cli.data.runs import open_row
from neuroclips_cli.data.scan_files import scan_row
from neuroclips_cli.data.stimuli import clip_frames, open_stimulus
from neuroclips_cli.errors import UserError
from neuroclips_cli.simulation.films import film_writer
from neuroclips_cli.stages import preprocess

SEG1 = "subject1/fmri/seg1/cifti/seg1_1_Atlas.dtseries.nii"


def _touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_flat_folders_and_bids_names_are_found(tmp_path):
    runs = [f"{film}_{r}_Atlas.dtseries.nii" for film in ("seg1", "seg2", "test1") for r in (1, 2)]
    _touch(tmp_path, *(f"data/sub-02/{run}" for run in runs))
    _touch(tmp_path, "stimuli/seg1.mp4", "stimuli/seg2.avi", "films/test1.mkv", "sub-01/x.txt")
    layout = find_layout(tmp_path, 2)
    assert [s.name for s in layout.train] == ["seg1", "seg2"]
    assert layout.test[0].split == "test" and set(layout.test[0].runs) == {1, 2}
    assert layout.missing == ()


def test_segments_are_ordered_by_number_not_by_name(tmp_path):
    films = [f"seg{i}" for i in range(1, 13)] + ["test1"]
    _touch(tmp_path, *(f"stimuli/{film}.mp4" for film in films))
    _touch(tmp_path, *(f"subject1/{film}_{r}_x.dtseries.nii" for film in films for r in (1, 2)))
    assert [s.number for s in find_layout(tmp_path, 1).train] == list(range(1, 13))


def test_a_gap_in_the_segments_is_named(tmp_path):
    for film in ("seg1", "seg3", "test1"):
        _touch(tmp_path, f"stimuli/{film}.mp4")
        _touch(tmp_path, *(f"subject1/{film}_{r}.dtseries.nii" for r in (1, 2)))
    with pytest.raises(UserError, match="seg2"):
        find_layout(tmp_path, 1)


def test_a_run_that_is_there_twice_is_named(tmp_path):
    _touch(tmp_path, "stimuli/seg1.mp4", "subject1/a/seg1_1_Atlas.dtseries.nii")
    _touch(tmp_path, "subject1/b/seg1_1_Atlas.dtseries.nii")
    with pytest.raises(UserError, match="twice"):
        find_layout(tmp_path, 1)


def test_cortex_comes_from_the_brain_models_wherever_it_lies(tmp_path):
    import nibabel as nib

    image = nib.load(simulated() / SEG1)
    series, models = (image.header.get_axis(i) for i in range(2))
    order = np.r_[CORTEX:GRAYORDINATES, 0:CORTEX]
    data = np.asarray(image.dataobj)
    moved = tmp_path / "seg1_1_Atlas.dtseries.nii"
    nib.cifti2.Cifti2Image(data[:, order], header=(series, models[order])).to_filename(moved)
    run = open_row(scan_row(moved))
    assert np.array_equal(run.columns, np.arange(300, GRAYORDINATES))
    assert np.array_equal(run.read(), data[:, :CORTEX])
    assert not run.share_geometry(open_row(scan_row(simulated() / SEG1)))


def test_regions_limit_the_selection(tmp_path):
    import nibabel as nib

    models = nib.load(simulated() / SEG1).header.get_axis(1)
    cortex = models[np.arange(CORTEX)]
    labels = {
        0: ("???", (0, 0, 0, 0)),
        1: ("L_V1_ROI", (1, 0, 0, 1)),
        2: ("R_V1_ROI", (0, 1, 0, 1)),
    }
    keys = np.zeros((1, CORTEX), np.float32)
    third, half = CORTEX // 6, CORTEX // 2
    keys[0, :third], keys[0, half : half + 400] = 1, 2
    path = tmp_path / "areas.dlabel.nii"
    axis = nib.cifti2.LabelAxis(["areas"], [labels])
    nib.cifti2.Cifti2Image(keys, header=(axis, cortex)).to_filename(path)
    run, file = open_row(scan_row(simulated() / SEG1)), read_region_file([path])
    assert inside_models(file, ["R_V1_ROI"], run.models).mask.sum() == 400
    assert inside_models(file, ["V1"], run.models).mask.sum() == third + 400
    assert inside_models(file, [], run.models).mask.sum() == third + 400
    with pytest.raises(UserError, match="no region V9"):
        inside_models(file, ["V9"], run.models)
    chosen = settings_for(simulated(), tmp_path, data__mask=str(path), data__regions=["L_V1_ROI"])
    folder = preprocess.run(chosen)
    with np.load(folder / "selection.npz", allow_pickle=False) as selection:
        assert len(selection["index"]) > 0 and selection["index"].max() < third


def test_volumetric_runs_give_the_same_responses_as_cifti(tmp_path):
    import nibabel as nib

    root = copy_of(simulated(), tmp_path / "dataset")
    mask = np.zeros((20, 20, CORTEX // 400 + 1), bool)
    mask.flat[:CORTEX] = True
    affine = np.diag([2.0, 2, 2, 1])
    for path in sorted(root.rglob("*.dtseries.nii")):
        data = np.asarray(nib.load(path).dataobj)[:, :CORTEX]
        volume = np.zeros((*mask.shape, len(data)), np.float32)
        volume[mask] = data.T
        image = nib.Nifti1Image(volume, affine)
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((2, 2, 2, 2))
        folder = path.parent.parent / "mni"
        folder.mkdir(exist_ok=True)
        image.to_filename(folder / path.name.replace("_Atlas.dtseries.nii", "_mni.nii.gz"))
        path.unlink()
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), tmp_path / "mask.nii.gz")
    masked = settings_for(root, tmp_path / "a", data__mask=str(tmp_path / "mask.nii.gz"))
    volumes = preprocess.run(masked)
    cifti = preprocess.run(settings_for(simulated(), tmp_path / "b"))
    assert (volumes / "selection.nii").exists()
    ours, theirs = (np.load(f / "fmri_train.npy") for f in (volumes, cifti))
    assert np.array_equal(ours, theirs)


def test_a_film_at_another_rate_is_sampled_by_time(tmp_path):
    import av

    path = tmp_path / "slow.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for i in range(100):
            picture = np.full((32, 64, 3), 2 * i + 20, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    film = open_stimulus(path)
    assert film.duration_s == pytest.approx(4.0)
    assert film.clips(2.0, 6) == 2
    frames = np.concatenate(list(clip_frames(film, 2, 2.0, 6, 32)))
    shown = [int(t * 25 / 3 + 1e-6) for t in range(12)]
    assert frames.shape == (12, 32, 32, 3)
    assert np.abs(frames.mean(axis=(1, 2, 3)) - (2 * np.array(shown) + 20)).max() < 2.5


@pytest.mark.parametrize("keyframes_every", [4, 7, 30, 250])
def test_frames_that_are_passed_over_change_nothing(tmp_path, keyframes_every):
    import av
    import decord

    path, size = tmp_path / "film.mp4", 64
    noise = np.random.default_rng(0).integers(0, 256, (180, 8, 8, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"bf": "3"})
        stream.width = stream.height = size
        stream.pix_fmt, stream.gop_size = "yuv420p", keyframes_every
        for picture in noise.repeat(8, axis=1).repeat(8, axis=2):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    sampled = np.concatenate(list(clip_frames(open_stimulus(path), 3, 2.0, 6, 32)))
    reader = decord.VideoReader(str(path), width=32, height=32)
    every = np.stack([reader.next().asnumpy() for _ in range(len(reader))])
    assert np.array_equal(sampled, every[::10])


@pytest.mark.parametrize(("frames", "clips"), [(240, 4), (235, 4), (200, 3), (59, 1), (300, 5)])
def test_whole_clips_are_counted(tmp_path, frames, clips):
    path = tmp_path / "film.mp4"
    with film_writer(path, 32) as append:
        append(np.zeros((frames, 32, 32, 3), np.uint8))
    assert open_stimulus(path).clips(2.0, 6) == clips


def test_unknown_scenes_and_captions_stay_empty(tmp_path):
    scenes = read_scenes(tmp_path / "scenes.csv")
    assert scenes.of_clip("seg1", 0, 2) == ("", "")
    assert read_captions(tmp_path / "captions.csv") == {}


def test_a_table_without_its_columns_is_named(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="lacks the column split"):
        read_captions(path)


def test_clips_that_cross_a_cut_are_marked(tmp_path):
    path = tmp_path / "scenes.csv"
    path.write_text("film,scene,start_s,end_s\nseg1,7,0,3.5\nseg1,8,3.5,6\n")
    scenes = read_scenes(path)
    assert [scenes.of_clip("seg1", t, 2.0) for t in (0, 2, 4)] == [
        ("0", "7"),
        ("1", "7"),
        ("0", "8"),
    ]


def test_real_geometry_and_real_videos_go_through_unchanged(shared, tmp_path):
    """Runs written by nibabel alone on HCP's 91282 grayordinates, real films as stimuli."""
    import nibabel as nib

    source = shared / "data"
    models = nib.load(source / "hcp_91282_ones.dscalar.nii").header.get_axis(1)
    videos = ["bikes.mp4", "cockatoo.mp4", "scene_cuts.mp4"]
    names = [*(f"seg{i}" for i in range(1, 9)), "test1"]
    stimuli = tmp_path / "dataset" / "stimuli"
    stimuli.mkdir(parents=True)
    rng = np.random.default_rng(0)
    planted = rng.permutation(59412)[:3000]
    total = 0
    for name, video in zip(names, itertools.cycle(videos), strict=False):
        clips = open_stimulus(source / "videos" / video).clips(2.0, 6)
        total += clips * name.startswith("seg")
        shutil.copy(source / "videos" / video, stimuli / f"{name}.mp4")
        with (stimuli / f"{name}.mp4").open("ab") as stream:  # a copy of it would be leakage
            stream.write(b"\0\0\0\x10free" + name.ljust(8).encode())
        volumes = clips + 5
        shared_signal = rng.normal(0, 400, (volumes, len(planted)))
        for repetition in (1, 2) if name.startswith("seg") else (1,):
            data = rng.standard_normal((volumes, 91282), np.float32) * 20 + 10_000
            data[:, planted] += shared_signal
            series = nib.cifti2.SeriesAxis(0, 2.0, volumes, "SECOND")
            folder = tmp_path / "dataset" / "subject1" / "fmri" / name / "cifti"
            folder.mkdir(parents=True, exist_ok=True)
            image = nib.cifti2.Cifti2Image(data, header=(series, models))
            image.to_filename(folder / f"{name}_{repetition}_Atlas.dtseries.nii")
    chosen = settings_for(
        tmp_path / "dataset", tmp_path, data__detrend_order=1, data__selection_p=1.0
    )
    folder = preprocess.run(chosen)
    with np.load(folder / "selection.npz", allow_pickle=False) as selection:
        assert selection["selected"].shape == (59412,)
        assert selection["index"].max() < 59412
        hits = np.isin(selection["index"], planted)
    assert len(hits) > 500 and hits.mean() > 0.99
    frames = np.load(folder / "frames_train.npy", mmap_mode="r")
    assert len(frames) == total and frames.std() > 20


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (range(3), ""),
        ((), ""),
        (range(4), "holds 4 captions for the 3 test clips .clip 3 does not exist"),
        ((0, 2), "holds 2 captions for the 3 test clips .clip 1 lacks one"),
        ((1, 2, 3), "clip 0 lacks one"),
    ],
)
def test_captions_of_another_length_than_the_clips_are_refused(numbers, said):
    captions = {("test", number): "a boat" for number in numbers}
    counts = {"train": 5, "test": 3}
    if said:
        with pytest.raises(UserError, match=said):
            check_captions(Path("captions.csv"), captions, counts)
    else:
        assert check_captions(Path("captions.csv"), captions, counts) is None
