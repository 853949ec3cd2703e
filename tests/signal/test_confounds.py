"""Tables of confounds as fMRIPrep writes them, against least squares written out here."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from neuroclips_cli.errors import UserError
from neuroclips_cli.signal.confounds import STRATEGIES, regress, regressors

pytest.importorskip("nilearn")

VOLUMES = 80
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
TISSUE = ("white_matter", "csf")
Columns = dict[str, NDArray[np.float64]]


def made(seed: int = 0) -> Columns:
    """Return columns named as fMRIPrep names them; derivatives lack their first row."""
    rng = np.random.default_rng(seed)
    columns: Columns = {}
    for name in (*MOTION, *TISSUE):
        values = rng.normal(size=VOLUMES)
        step = np.r_[np.nan, np.diff(values)]
        columns[name] = values
        columns[f"{name}_derivative1"] = step
        columns[f"{name}_power2"] = values**2
        columns[f"{name}_derivative1_power2"] = step**2
    time = (np.arange(VOLUMES) + 0.5) / VOLUMES
    for order in (1, 2):
        columns[f"cosine{order - 1:02d}"] = np.cos(np.pi * order * time)
    for component in range(3):
        columns[f"a_comp_cor_{component:02d}"] = rng.normal(size=VOLUMES)
    columns["framewise_displacement"] = np.r_[np.nan, np.full(VOLUMES - 1, 0.1)]
    columns["std_dvars"] = np.r_[np.nan, np.ones(VOLUMES - 1)]
    return columns


def write(path: Path, columns: Columns) -> Path:
    rows = [
        "\t".join("n/a" if np.isnan(value) else repr(float(value)) for value in row)
        for row in zip(*columns.values(), strict=True)
    ]
    path.write_text("\n".join(["\t".join(columns), *rows, ""]), "utf-8")
    components = {name: {"Method": "aCompCor"} for name in columns if "comp_cor" in name}
    masks = dict(zip(sorted(components), ("combined", "combined", "CSF"), strict=False))
    about = {
        name: {**entry, "Mask": masks[name], "Retained": True} for name, entry in components.items()
    }
    path.with_suffix(".json").write_text(json.dumps(about), "utf-8")
    return path


def taken(columns: Columns, strategy: str) -> NDArray[np.float64]:
    """Return the regressors of a strategy by hand: names by fMRIPrep's rules, first rows filled."""
    names = ["cosine00", "cosine01"]
    kinds = ("", "_derivative1", "_power2", "_derivative1_power2")
    names += [name + kind for name in MOTION for kind in kinds]
    names += {
        "motion": [],
        "simple": list(TISSUE),
        "scrubbing": [name + kind for name in TISSUE for kind in kinds],
        "compcor": ["a_comp_cor_00", "a_comp_cor_01"],
    }[strategy]
    table = np.stack([columns[name] for name in names], axis=1)
    table[0] = np.where(np.isnan(table[0]), table[1], table[0])
    return table


def residual(series: NDArray[np.float64], table: NDArray[np.float64]) -> NDArray[np.float64]:
    design = np.c_[np.ones(len(table)), table]
    fit = np.linalg.lstsq(design, series, rcond=None)[0]
    return series - design @ fit + series.mean(axis=0)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_each_strategy_equals_least_squares_on_its_columns(tmp_path: Path, strategy: str) -> None:
    columns = made()
    path = write(tmp_path / "sub-01_task-film_desc-confounds_timeseries.tsv", columns)
    series = 100 + 10 * np.random.default_rng(1).normal(size=(VOLUMES, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = regress(series, regressors(path, strategy, VOLUMES), 1.49)
    assert np.allclose(found, residual(series, taken(columns, strategy)), atol=1e-4)
    assert not np.allclose(found, series, atol=1)


def test_a_volume_before_the_steady_state_tells_nothing(tmp_path: Path) -> None:
    columns = made()
    for number in (0, 1):
        columns[f"non_steady_state_outlier{number:02d}"] = np.eye(VOLUMES)[number]
    path = write(tmp_path / "sub-01_task-film_desc-confounds_timeseries.tsv", columns)
    series = 100 + 10 * np.random.default_rng(1).normal(size=(VOLUMES, 3))
    wild = series.copy()
    wild[:2] += 1e4
    table = regressors(path, "simple")
    found, without = regress(wild, table, 2.0), regress(series, table, 2.0)
    # The volumes themselves are left at the mean; all others are as if these had not been there.
    centered = [one - one[2:].mean(axis=0) for one in (found, without)]
    assert np.allclose(centered[0][2:], centered[1][2:], atol=1e-4)
    steady = residual(series[2:], taken(columns, "simple")[2:])
    assert np.allclose(centered[1][2:], steady - steady.mean(axis=0), atol=1e-4)


def test_scrubbing_takes_volumes_of_large_motion_out(tmp_path: Path) -> None:
    columns = made()
    columns["framewise_displacement"][40] = 3.0
    path = write(tmp_path / "sub-01_task-film_desc-confounds_timeseries.tsv", columns)
    series = 100 + np.random.default_rng(1).normal(size=(VOLUMES, 2))
    series[40] += 1e3
    found = regress(series, regressors(path, "scrubbing"), 2.0)
    assert np.abs(found[40] - found.mean(axis=0)).max() < 1e-6
    assert np.ptp(np.delete(found, 40, axis=0)) < 20


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_task-film_desc-confounds_regressors.tsv",
        "sub-01_ses-a_task-film_run-02_desc-confounds_timeseries.tsv",
        "my motion.tsv",
    ],
)
def test_the_spelling_of_the_tables_name_does_not_matter(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "tsv of tsv"  # nilearn looks for the .json under a name without "tsv"
    folder.mkdir()
    path = write(folder / name, made())
    assert regressors(path, "compcor").shape == (VOLUMES, 2 + 24 + 2)


def test_constant_and_invalid_columns_come_back_as_they_were(tmp_path: Path) -> None:
    columns = made()
    table = regressors(write(tmp_path / "confounds.tsv", columns), "simple")
    series = np.random.default_rng(1).normal(size=(VOLUMES, 4)).astype(np.float32)
    series[:, 0] = 7.0
    series[5, 1] = np.nan
    series[:, 2] = 1000 + 3 * columns["trans_x"]
    found = regress(series, table, 2.0)
    assert (found[:, 0] == 7.0).all()
    assert np.array_equal(found[:, 1], series[:, 1], equal_nan=True)
    assert np.ptp(found[:, 2]) == 0, "what motion explains wholly is constant, no noise of rounding"
    assert np.isfinite(found[:, 3]).all()
    assert np.ptp(found[:, 3]) > 1


def test_a_short_run_has_no_drift_terms(tmp_path: Path) -> None:
    columns = {name: values for name, values in made().items() if "cosine" not in name}
    assert regressors(write(tmp_path / "c.tsv", columns), "motion").shape == (VOLUMES, 24)


def refused(path: Path, strategy: str, volumes: int | None = None) -> str:
    with pytest.raises(UserError) as caught:
        regressors(path, strategy, volumes)
    return str(caught.value)


def test_bad_tables_are_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "sub-01_task-film_desc-confounds_timeseries.tsv"
    assert f"{VOLUMES} rows, but its run has 79 volumes" in refused(
        write(path, made()), "simple", 79
    )
    columns = made()
    del columns["csf"]
    assert "lacks what this strategy takes: csf" in refused(write(path, columns), "simple")
    columns = made()
    columns["trans_y"][7] = np.nan
    assert "no number in row 8 of column trans_y" in refused(write(path, columns), "simple")
    short = {name: values[:20] for name, values in made().items()}
    assert "nothing would be left" in refused(write(path, short), "scrubbing")
    camel = {"FramewiseDisplacement": np.zeros(VOLUMES), "aCompCor00": np.zeros(VOLUMES)}
    assert "fMRIPrep 1.2 or later" in refused(write(path, camel), "simple")
    write(path, made())
    path.with_suffix(".json").unlink()
    assert "_timeseries.json is missing" in refused(path, "compcor")
    path.with_suffix(".json").write_text("{", "utf-8")
    assert "is not valid JSON" in refused(path, "compcor")
    assert "is not a strategy: choose one of motion" in refused(path, "24p")
    path.unlink()
    path.symlink_to("../.git/annex/objects/aa/bb/MD5E-s1--x.tsv")
    assert "run `datalad get" in refused(path, "simple")


def test_a_missing_nilearn_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'neuroclips[bids]'" in refused(tmp_path / "x.tsv", "simple")
