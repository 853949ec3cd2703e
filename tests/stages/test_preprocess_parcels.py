"""preprocess on parcels of HDF5 files, against responses that numpy and scipy make of them."""

from __future__ import annotations

import h5py
import numpy as np
from helpers.movie_runs import RATE, VOXELS, WrittenRun, write_film
from helpers.simulation_world import settings_for
from scipy.interpolate import CubicSpline

from neuroclips_cli.stages import preprocess

TR_S, CLIPS = 1.49, 18
FRIENDS = ("s01e01a", "s01e01b", "s01e02a")


def _study(root):
    """Write three halves of episodes and a part of Life, each of them seen twice."""
    func = root / "fmri" / "sub-02" / "func"
    func.mkdir(parents=True)
    movies, runs = root / "stimuli" / "movies", {}
    for number, task in enumerate((*FRIENDS, "life01"), start=1):
        friends = task in FRIENDS
        name = f"friends/s1/friends_{task}.mkv" if friends else f"movie10/life/{task}.mkv"
        write_film(movies / name, number, 2.0 * CLIPS)
        file = f"sub-02_task-{'friends' if friends else 'movie10'}_atlas-Schaefer18_bold.h5"
        with h5py.File(func / file, "a") as out:
            for repetition in (1, 2):
                stretch = (number, 0.0, 0.0, 2.0 * CLIPS)
                run = WrittenRun("", 32, TR_S, [stretch], 10 * number + repetition)
                out[f"ses-{repetition:03d}_task-{task}_run-{repetition}"] = run.data
                runs[task, repetition] = run.data
    return runs


def _answer(data):
    """Responses 4 s after every clip's beginning, by a spline through the detrended volumes."""
    places = (2.0 * np.arange(CLIPS) + 4.0) / TR_S
    first, last = int(places[0]), int(np.ceil(places[-1]))
    there, count = data[first : last + 1].astype(float), np.arange(last + 1 - first)
    left = np.stack([s - np.polyval(np.polyfit(count, s, 1), count) for s in there.T], axis=1)
    return CubicSpline(count, left / left.std(axis=0, ddof=1))(places - first)


def test_parcels_and_films_become_arrays(tmp_path):
    runs = _study(tmp_path / "data")
    settings = settings_for(
        tmp_path / "data", tmp_path, run__subject=2, data__test_films=("life*",)
    )
    done = preprocess.run(settings)
    with np.load(done / "selection.npz", allow_pickle=False) as selection:
        index = selection["index"]
    assert VOXELS / 4 < len(index) <= VOXELS
    train, test = np.load(done / "fmri_train.npy"), np.load(done / "fmri_test_repetitions.npy")
    assert (train.shape, test.shape) == ((3 * CLIPS, 2, len(index)), (CLIPS, 2, len(index)))
    for (task, repetition), data in runs.items():
        place = FRIENDS.index(task) if task in FRIENDS else -1
        found = test if place < 0 else train[place * CLIPS : (place + 1) * CLIPS]
        assert np.abs(found[:, repetition - 1] - _answer(data)[:, index]).max() < 1e-4
    frames = np.load(done / "frames_train.npy", mmap_mode="r")[:, 0, 16, 16, 0].astype(int)
    shown = [10 * film + 2 * RATE * clip for film in (1, 2, 3) for clip in range(CLIPS)]
    assert np.abs(frames - np.array(shown) % 250).max() <= 6
