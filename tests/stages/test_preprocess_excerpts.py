"""HCP 7T and CineBrain through preprocess, against responses that numpy and scipy make of them."""

from __future__ import annotations

import csv
import json

import av
import numpy as np
from helpers.bids_tree import write_cifti
from helpers.simulation_world import settings_for
from scipy.interpolate import CubicSpline

from neuroclips_cli.stages import preprocess

VERTICES = 12
EXCERPTS = {
    1: (921, "AP", "CC1", [(20, 264), (284, 506), (526, 714), (734, 798), (818, 901)]),
    2: (918, "PA", "HO1", [(20, 247), (267, 525), (546, 795), (815, 898)]),
}
"""Volumes, phase encoding, film, and seconds of the excerpts of the first two runs."""


def _film(path, seconds, shade):
    """Write a film of one picture per second, of a gray that tells the second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.bit_rate = 4_000_000
        for second in range(seconds):
            gray = np.full((32, 32, 3), shade(second), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gray, format="rgb24")))
        container.mux(stream.encode(None))


def _series(seed, volumes):
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((volumes, VERTICES)).cumsum(axis=0) + rng.normal(1000, 9, VERTICES)
    return (noise + rng.standard_normal((volumes, VERTICES))).astype(np.float32)


def _left(there):
    """Take a line off every column, and give it unit deviation."""
    count = np.arange(len(there))
    lines = [np.polyval(np.polyfit(count, column, 1), count) for column in there.T]
    left = there - np.array(lines).T
    return left / left.std(axis=0, ddof=1)


def test_hcp_excerpts_become_arrays_and_the_last_one_two_repetitions(tmp_path):
    root, runs = tmp_path / "data", {}
    for movie, (volumes, way, name, _) in EXCERPTS.items():
        run = f"tfMRI_MOVIE{movie}_7T_{way}"
        runs[movie] = _series(movie, volumes)
        path = root / "100610" / "MNINonLinear" / "Results" / run / f"{run}_Atlas.dtseries.nii"
        path.parent.mkdir(parents=True)
        write_cifti(path, runs[movie], 1.0)
        film = root / "stimuli" / f"7T_MOVIE{movie}_{name}_v2.mp4"
        _film(film, volumes, lambda second, movie=movie: (second // 4 + 100 * movie) % 250)
    more = {"run__subject": 100610, "data__selection": "atlas", "data__delay_s": 4.0}
    done = preprocess.run(settings_for(root, tmp_path, **more))
    train, test = np.load(done / "fmri_train.npy"), np.load(done / "fmri_test_repetitions.npy")
    expected = []
    for movie, (*_, excerpts) in EXCERPTS.items():
        for start, stop in excerpts:
            places = start + 4 + 2 * np.arange((stop - start) // 2)
            there = runs[movie][places[0] : places[-1] + 1].astype(float)
            expected.append(_left(there)[places - places[0]])
    last = [expected.pop(8), expected.pop(4)][::-1]
    assert np.abs(train[:, 0] - np.concatenate(expected)).max() < 1e-4
    assert np.abs(test - np.stack(last, axis=1)).max() < 1e-4
    shown = np.load(done / "frames_test.npy", mmap_mode="r")[:, 0, 16, 16, 0].astype(int)
    seconds = 818 + 2 * np.arange(41)
    assert np.abs(shown - (seconds // 4 + 100) % 250).max() <= 4


def test_cinebrains_clips_become_arrays_over_the_whole_run(tmp_path):
    root, starts, runs, clip = tmp_path / "data", {1: 8.25, 2: 7.5, 3: 9.1}, {}, 0
    (root / "beh_data").mkdir(parents=True)
    for run, start in starts.items():
        name = f"sub-0003_task-shape_run-{run}_space-fsLR_den-91k_bold"
        runs[run] = _series(run, 60)
        write_cifti(root / "dtseries" / f"{name}.dtseries.nii", runs[run], 0.8)
        (root / "dtseries" / f"{name}.json").write_text(json.dumps({"RepetitionTime": 0.8}))
        with (root / "beh_data" / f"sub_0003_{run}.csv").open("w", newline="") as out:
            csv.writer(out).writerows([["videoStartTime", "videoStopTime"], [start, start + 24]])
        for _ in range(6):
            number = clip if run < 3 else 7560 + clip - 12
            _film(root / "videos" / f"{number:06d}.mp4", 5, lambda _, clip=clip: 10 * clip)
            clip += 1
    more = {"data__clip_s": 4.0, "data__standardize": "run", "data__selection": "atlas"}
    done = preprocess.run(settings_for(root, tmp_path, run__subject=3, **more))
    expected = []
    for run, start in starts.items():
        places = (start + 4 + 4 * np.arange(6)) / 0.8
        places = np.where(np.abs(places - places.round()) < 1e-3, places.round(), places)
        whole = CubicSpline(np.arange(60), _left(runs[run].astype(float)))
        expected.append(whole(places))
    train, test = np.load(done / "fmri_train.npy"), np.load(done / "fmri_test_repetitions.npy")
    assert np.abs(train[:, 0] - np.concatenate(expected[:2])).max() < 1e-4
    assert np.abs(test[:, 0] - expected[2]).max() < 1e-4
    frames = np.load(done / "frames_train.npy")[:, :, 16, 16, 0].astype(int)
    assert np.abs(frames - 10 * np.arange(12)[:, None]).max() <= 4
