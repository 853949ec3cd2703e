"""Records of the preprocessing (Wen et al. 2017 in Octave)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from neuroclips_cli.signal.detrend import detrend, standardize
from neuroclips_cli.signal.reproducibility import fisher_z, interrun_correlation, select_voxels
from neuroclips_cli.signal.windows import film_window, leading_volumes
from parity.records import FIXTURES, Comparison

TRAILING = 4


def load() -> dict[str, np.ndarray]:
    """Read the record."""
    with np.load(FIXTURES / "preprocess_reference.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def runs(data: dict[str, np.ndarray]) -> list[str]:
    """Return the names of the recorded runs, ``run<volumes>``."""
    return [n.removesuffix("_x1") for n in data if n.startswith("run") and n.endswith("_x1")]


def compare() -> Comparison:
    """Compare every output array."""
    data = load()
    found = Comparison("preprocess_reference", data)
    for run in runs(data):
        _run(run, data, found)
    _segments(data, found)
    _peer(data, found)
    return found


def _run(run: str, data: dict[str, np.ndarray], found: Comparison) -> None:
    series = [data[f"{run}_x{i}"].T for i in (1, 2)]
    volumes = data[f"{run}_detrended1"].shape[1]
    stored = int(data[f"{run}_n_full_voxels"])
    leading = leading_volumes(len(series[0]), volumes, TRAILING, run=run, film="film")
    found.add(f"{run}_drop_first", leading, 0.0)
    found.add(f"{run}_drop_last", len(series[0]) - leading - volumes, 0.0)
    digest = np.cos(0.37 * np.arange(1, volumes + 1))
    scores: list[np.ndarray] = []
    for i, x in enumerate(series, start=1):
        trimmed = x[film_window(leading, volumes)]
        flat = detrend(trimmed)
        z, usable = standardize(trimmed)
        assert usable.all()
        spread = flat.std(axis=0, ddof=1)
        found.add(f"{run}_detrended{i}", flat[:, :stored].T, 1e-8)
        found.add(f"{run}_detrended{i}_std_ddof1", spread, 1e-9)
        found.add(f"{run}_z{i}", z[:, :stored].T, 1e-10)
        found.add(f"{run}_z{i}_dot_cos", digest @ z, 1e-8)
        scores.append(z)
    r = interrun_correlation(*scores)
    found.add(f"{run}_r", r, 1e-11)
    found.add(f"{run}_fisher_z", fisher_z(r), 1e-11)
    single = interrun_correlation(*(z.astype(np.float32) for z in scores))
    found.add(f"{run}_r_from_single", single, 1e-6)
    freedom = volumes - 2
    t = r * np.sqrt(freedom / (1 - r**2))
    found.add(f"{run}_r_pval", 2 * stats.t.sf(np.abs(t), freedom), 1e-10)


def _segments(data: dict[str, np.ndarray], found: Comparison) -> None:
    r = data["seg_r"]
    voxels, segments = r.shape
    z = fisher_z(r)
    found.add("seg_fisher_z", z, 1e-11)
    found.add("seg_fisher_z_from_single", z.astype(np.float32), 1e-5)
    chosen = select_voxels(z.T, 0.05)
    found.add("seg_mean_fisher_z", chosen.mean_z, 1e-11)
    found.add("seg_t", chosen.t, 0.0, relative=1e-9)
    found.add("seg_p_two_sided", chosen.p, 1e-9)
    greater = np.where(chosen.t > 0, chosen.p / 2, 1 - chosen.p / 2)
    found.add("seg_p_greater", greater, 1e-9)
    found.add("seg_df", segments - 1, 0.0).add("seg_num_comparisons", voxels, 0.0)
    found.add("seg_mask_bonf05_two_sided_and_positive", chosen.selected, 0.0)
    found.add("seg_mask_bonf05_two_sided", chosen.p * voxels < 0.05, 0.0)
    found.add("seg_mask_bonf05_greater", greater * voxels < 0.05, 0.0)
    found.add("seg_mask_bonf01_two_sided", chosen.p * voxels < 0.01, 0.0)
    found.add("seg_r", _end_to_end(data, r), 1e-11)


def _end_to_end(data: dict[str, np.ndarray], r: np.ndarray) -> np.ndarray:
    """Correlations with those of the voxels whose raw series are stored computed from these."""
    made = r.copy()
    volumes = data[f"{runs(data)[0]}_detrended1"].shape[1]
    leading = leading_volumes(len(data["seg_raw_x1"][0]), volumes, TRAILING, run="seg", film="film")
    for segment in range(r.shape[1]):
        pair: Any = [
            standardize(data[f"seg_raw_x{i}"][:, :, segment].T[film_window(leading, volumes)])[0]
            for i in (1, 2)
        ]
        made[data["seg_raw_voxels"], segment] = interrun_correlation(*pair)
    return made


def _peer(data: dict[str, np.ndarray], found: Comparison) -> None:
    stored, volumes = data["mindanimator_z1"].shape
    run = runs(data)[0]
    x = data[f"{run}_x1"][:stored].T
    window = film_window(int(data[f"{run}_drop_first"]), volumes)
    found.add("mindanimator_detrended1", detrend(x[window]).T, 1e-8)
    # Mind-Animator divides by the deviation with ddof 0, Wen et al. and we with ddof 1.
    ours = standardize(x[window])[0].T * np.sqrt(volumes / (volumes - 1))
    found.add("mindanimator_z1", ours, 1e-10)
