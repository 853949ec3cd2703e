"""Tables of confounds as fMRIPrep writes them: motion, tissue signals, drift terms, CompCor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.io.atomic import write_json
from neuroclips_cli.io.csv import write_csv
from neuroclips_cli.simulation.timeline import Timeline

_CUTOFF_S = 128.0
_COMPONENTS = 4
_HEAD_MM = 50.0  # radius on which framewise displacement turns rotations into mm
_MOTION = tuple(f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz")


def write_confounds(folder: Path, stem: str, timeline: Timeline, rng: np.random.Generator) -> None:
    """Write ``*_desc-confounds_timeseries.tsv`` and ``.json`` of one run.

    The simulated head moves too little to change the series: the columns are those that tools look
    for, with ``n/a`` where a difference has no predecessor.
    """
    columns = _columns(timeline, rng)
    rows = [
        ["n/a" if np.isnan(value) else f"{value:.8g}" for value in line]
        for line in np.column_stack(list(columns.values()))
    ]
    write_json(folder / f"{stem}_desc-confounds_timeseries.json", _described())
    write_csv(folder / f"{stem}_desc-confounds_timeseries.tsv", list(columns), rows)


def _columns(timeline: Timeline, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    volumes = timeline.volumes
    steps = rng.standard_normal((volumes, len(_MOTION))) * ([0.01] * 3 + [2e-4] * 3)
    motion = dict(zip(_MOTION, steps.cumsum(axis=0).T, strict=True))
    tissue = {
        name: 9000 + 20 * rng.standard_normal(volumes)
        for name in ("global_signal", "csf", "white_matter")
    }
    columns: dict[str, NDArray[np.float64]] = {}
    for name, values in (tissue | motion).items():
        change = np.concatenate([[np.nan], np.diff(values)])
        columns |= {name: values, f"{name}_derivative1": change}
        columns |= {f"{name}_power2": values**2, f"{name}_derivative1_power2": change**2}
    moved = np.abs(np.diff(np.array(list(motion.values())))) * np.array(
        [[1.0]] * 3 + [[_HEAD_MM]] * 3
    )
    columns["framewise_displacement"] = np.concatenate([[np.nan], moved.sum(axis=0)])
    columns["std_dvars"] = np.concatenate([[np.nan], 1 + 0.05 * rng.standard_normal(volumes - 1)])
    for number in range(_COMPONENTS):
        columns[f"a_comp_cor_{number:02d}"] = rng.standard_normal(volumes)
    times = (np.arange(volumes) + 0.5) / volumes
    for number in range(int(2 * volumes * timeline.tr_s / _CUTOFF_S)):
        columns[f"cosine{number:02d}"] = np.cos(np.pi * (number + 1) * times)
    return columns


def _described() -> dict[str, Any]:
    return {
        f"a_comp_cor_{number:02d}": {
            "CumulativeVarianceExplained": round(0.2 * (number + 1), 2),
            "Mask": "combined",
            "Method": "aCompCor",
            "Retained": True,
            "SingularValue": 10.0 - number,
            "VarianceExplained": 0.2,
        }
        for number in range(_COMPONENTS)
    }
