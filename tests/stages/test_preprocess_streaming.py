"""Streaming gives what the plain computation gives, whatever the block and the threads."""

from __future__ import annotations

import numpy as np
from helpers.simulation_world import settings_for, simulated

from neuroclips_cli.data.cifti_header_cache import KnownHeader
from neuroclips_cli.data.runs import open_row
from neuroclips_cli.data.scan_files import scan_row
from neuroclips_cli.runtime import threads
from neuroclips_cli.signal.detrend import standardize
from neuroclips_cli.signal.quality import combine_blocks, scan_block, scan_run
from neuroclips_cli.signal.reproducibility import (
    fisher_z,
    interrun_correlation,
    voxel_reproducibility,
)
from neuroclips_cli.stages import _preprocess_arrays, _preprocess_selection, preprocess


def _runs():
    return sorted((simulated() / "subject1" / "fmri").rglob("*.dtseries.nii"))


def test_scores_equal_the_long_way_also_with_drift_nan_and_constants():
    rng = np.random.default_rng(0)
    pair = rng.normal(1e4, 60, (2, 60, 50)).astype(np.float32)
    pair[:, :, 1] += 1e5 * np.linspace(0, 1, 60, dtype=np.float32) ** 3
    pair[0, 3, 2], pair[1, :, 3], pair[0, 4, 4] = np.nan, 9000.1, np.inf
    z, usable = voxel_reproducibility(list(pair), 4)
    (a, good), (b, fine) = (standardize(series, 4) for series in pair)
    assert np.array_equal(usable, good & fine)
    assert np.allclose(z, fisher_z(interrun_correlation(a, b)), atol=1e-10)


def test_blocks_hold_the_whole_run_and_findings_add_up():
    run = open_row(scan_row(_runs()[0]))
    whole = run.read().copy()
    whole[7, 4100], whole[5, 900], whole[:, 12] = np.nan, np.inf, 1
    blocks = [(c, whole[:, c]) for c, _ in run.blocks(1000)]
    assert np.array_equal(np.concatenate([s for _, s in run.blocks(1000)], axis=1), run.read())
    parts, plain = combine_blocks([scan_block(s) for _, s in blocks]), scan_run(whole)
    said = "2 voxels with NaN or infinity (first: volume 5, voxel 900), 1 constant voxels"
    assert parts.in_words() == plain.in_words() == said and parts.scale == plain.scale
    assert np.array_equal(np.flatnonzero(plain.lifeless), [12, 900, 4100])
    assert "constant" not in plain.in_words(np.arange(len(plain.finite)) == 12)


def test_a_known_header_gives_what_nibabel_reads():
    first = open_row(scan_row(_runs()[0]))
    for path in _runs()[1:]:
        assert KnownHeader.of(_runs()[0]).open(path) is not None
        ours, plain = open_row(scan_row(path), like=first), open_row(scan_row(path))
        assert ours.volumes == plain.volumes and np.array_equal(ours.read(), plain.read())
    assert KnownHeader.of(simulated() / "captions.csv") is None


def test_threads_and_blocks_change_nothing(tmp_path, monkeypatch):
    folders = []
    for count, block in ((1, 10_000), (3, 777)):
        monkeypatch.setattr(threads, "workers", lambda count=count: count)
        for part in (_preprocess_arrays, _preprocess_selection):
            monkeypatch.setattr(part, "BLOCK", block)
        folders.append(preprocess.run(settings_for(simulated(), tmp_path / str(block))))
    for name in ("fmri_train", "fmri_test", "fmri_test_repetitions", "frames_train"):
        one, other = (np.load(f / f"{name}.npy") for f in folders)
        assert np.allclose(one, other, atol=1e-6, equal_nan=True), name
