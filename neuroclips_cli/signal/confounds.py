"""Confound regression: fMRIPrep's tables of confounds, by the strategies that nilearn names.

fMRIPrep removes nothing from the time series; head motion, drift, and signals of white matter and
cerebrospinal fluid stand in a table beside each run. nilearn selects its columns and regresses
them; it is an extra of this package (``pip install 'neuroclips[bids]'``).
"""

from __future__ import annotations

import importlib.util
import json
import re
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroclips_cli.errors import UserError
from neuroclips_cli.io.placeholders import require_content
from neuroclips_cli.signal.detrend import usable_columns

STRATEGIES: Mapping[str, Mapping[str, Any]] = {
    "motion": {"strategy": ("high_pass", "motion"), "motion": "full"},
    "simple": {"strategy": ("high_pass", "motion", "wm_csf"), "motion": "full", "wm_csf": "basic"},
    "scrubbing": {
        "strategy": ("high_pass", "motion", "wm_csf", "scrub"),
        "motion": "full",
        "wm_csf": "full",
        "scrub": 5,
        "fd_threshold": 0.5,
        "std_dvars_threshold": 1.5,
    },
    "compcor": {
        "strategy": ("high_pass", "motion", "compcor"),
        "motion": "full",
        "compcor": "anat_combined",
        "n_compcor": "all",
    },
}
"""Name -> arguments of ``nilearn.interfaces.fmriprep.load_confounds``.

``simple``, ``scrubbing`` and ``compcor`` are those of ``load_confounds_strategy`` (Fox 2005, Power
2014, Behzadi 2007, as benchmarked by Ciric et al. 2017); ``motion`` is the 24 motion parameters of
Friston (1996) and the drift alone, for tables that hold no more.
"""
_ROUNDING = 1e-6
"""Share of a series' size below which what is left of it is rounding of single precision."""
_MEANINGS = {"compcor": "CompCor components (a_comp_cor_00 ...)"}


def regressors(path: Path, strategy: str, volumes: int | None = None) -> NDArray[np.float64]:
    """Read the columns of a table of confounds that a strategy takes.

    Parameters
    ----------
    path : pathlib.Path
        ``*_desc-confounds_timeseries.tsv``, or ``*_desc-confounds_regressors.tsv`` as fMRIPrep
        called it before 20.2; the ``.json`` beside it is read for CompCor.
    strategy : str
        A key of `STRATEGIES`.
    volumes : int, optional
        Volumes of the run, which the table must have as rows.

    Returns
    -------
    numpy.ndarray
        float64 (volumes, k), without a constant column. A volume that is not a steady state yet
        (``non_steady_state_outlier00`` ...), or that scrubbing takes out, has a column of its own:
        it then tells nothing about the other regressors, and nothing of it is left.

    Raises
    ------
    UserError
        If nilearn is not installed, the table lacks columns of the strategy or has another length,
        or a number is missing elsewhere than in the first row, where derivatives have none.

    See Also
    --------
    regress : Removes them from time series.
    nilearn.interfaces.fmriprep.load_confounds

    Notes
    -----
    The first row of derivatives is ``n/a``; nilearn takes the second row's value.
    """
    if strategy not in STRATEGIES:
        raise UserError(
            f"data.confounds = {strategy!r} is not a strategy: choose one of "
            f"{', '.join(STRATEGIES)}"
        )
    require_nilearn()
    require_content(path)
    if "compcor" in STRATEGIES[strategy] and not path.with_suffix(".json").exists():
        raise UserError(
            f"{path.with_suffix('.json')} is missing, which says which CompCor components belong "
            f"to which mask: put it beside the table, or choose another strategy for data.confounds"
        )
    frame, kept = _load(path, STRATEGIES[strategy])
    rows = len(frame) if len(frame.columns) else _rows(path)
    if volumes is not None and rows != volumes:
        raise UserError(
            f"{path} has {rows} rows, but its run has {volumes} volumes: take the table that "
            "fMRIPrep wrote with this run"
        )
    values = frame.to_numpy(np.float64) if len(frame.columns) else np.empty((rows, 0))
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        raise UserError(
            f"{path} has no number in row {row + 1} of column {frame.columns[column]}: only the "
            "first row of a derivative may be n/a; correct the table, or choose another strategy "
            "for data.confounds"
        )
    left_out = np.setdiff1d(np.arange(rows), kept) if kept is not None else np.empty(0, np.intp)
    taken = np.concatenate([values, np.eye(rows)[:, left_out]], axis=1)
    if taken.shape[1] + 1 >= rows:
        raise UserError(
            f"{path} gives {taken.shape[1]} regressors for {rows} volumes: nothing would be left; "
            "choose a strategy with fewer for data.confounds"
        )
    return taken


def unsteady_volumes(path: Path) -> int:
    """Return how many volumes at a run's start its confounds mark as not in steady state.

    Only the header line is read: ``non_steady_state_outlier00`` and so on, one per volume.
    """
    require_content(path)
    try:
        with open(path, encoding="utf-8") as lines:
            header = lines.readline()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a table in UTF-8 ({error}): replace it") from error
    return len(re.findall(r"\bnon_steady_state_outlier\d+", header))


def regress(
    series: NDArray[np.floating], confounds: NDArray[np.float64], tr_s: float
) -> NDArray[np.float64]:
    """Remove confounds from time series by least squares; means stay.

    Parameters
    ----------
    series : numpy.ndarray
        float (volumes, voxels), arbitrary units; the whole run.
    confounds : numpy.ndarray
        float (volumes, k) of `regressors`.
    tr_s : float
        Time between two volumes in s.

    Returns
    -------
    numpy.ndarray
        float64 (volumes, voxels), orthogonal to every confound. Columns that are constant or not
        finite come back as they were; one that the confounds explain wholly is constant.

    See Also
    --------
    neuroclips_cli.signal.detrend.standardize : Follows it.
    nilearn.signal.clean : Does the regression.

    Notes
    -----
    Ordinary least squares of the run's series on the confounds and a constant. The drift terms are
    among the confounds, so that drift and confounds are removed in one projection and neither
    brings the other back (Lindquist et al. 2019). The polynomial detrending of preprocessing
    follows, over the volumes of each film.

    Examples
    --------
    >>> motion = np.array([[0.0], [1.0], [0.0], [-1.0]])
    >>> regress(np.array([[1.0], [5.0], [3.0], [1.0]]), motion, tr_s=2.0).ravel().round(6).tolist()
    [1.0, 3.0, 3.0, 3.0]
    """
    from nilearn.signal import clean

    data = np.array(series, np.float64)
    if not confounds.shape[1]:
        return data
    varying = usable_columns(data)
    if not varying.any():
        return data
    part = data[:, varying]
    mean = part.mean(axis=0)
    size = np.abs(part).max(axis=0)
    left = clean(
        part - mean,
        detrend=False,
        standardize=None,
        confounds=confounds,
        standardize_confounds=True,
        filter=False,
        t_r=tr_s,
    )
    left = np.where(np.abs(left).max(axis=0) > _ROUNDING * size, left, 0.0)
    data[:, varying] = left + mean
    return data


def require_nilearn() -> None:
    """Refuse a regression where nilearn is not installed.

    Raises
    ------
    UserError
        Says how to install it.
    """
    if importlib.util.find_spec("nilearn") is None:
        raise UserError(
            "data.confounds needs nilearn, which is not installed: run "
            "`pip install 'neuroclips[bids]'`, or leave data.confounds empty"
        )


def _load(path: Path, arguments: Mapping[str, Any]) -> tuple[Any, NDArray[np.intp] | None]:
    """Let nilearn select the columns; return them, and the volumes that it keeps (None: all).

    nilearn finds tables by the name of a run in fMRIPrep's present spelling. Copies under such a
    name work for every spelling, and for tables that users name in a run table.
    """
    from nilearn.interfaces.fmriprep import load_confounds
    from nilearn.interfaces.fmriprep.load_confounds_utils import MissingConfoundError

    # nilearn replaces "tsv" by "json" in the whole path: the folder's name has hexadecimal digits.
    folder = Path(tempfile.gettempdir()) / f"confounds-{secrets.token_hex(8)}"
    folder.mkdir(mode=0o700)
    try:
        table = folder / "sub-1_task-film_desc-confounds_timeseries.tsv"
        shutil.copyfile(path, table)
        _copy_sidecar(path, Path(str(table).replace("tsv", "json")))
        frame, kept = load_confounds(
            str(folder / "sub-1_task-film_desc-preproc_bold.nii.gz"), **arguments, demean=True
        )
    except MissingConfoundError as error:
        raise UserError(_missing(path, error.params, error.keywords)) from error
    except KeyError as error:
        raise UserError(_missing(path, re.findall(r"'(\w+)'", str(error)), ())) from error
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).replace(str(folder), str(path.parent)).split())
        raise UserError(
            f"{path} is not a table of confounds of fMRIPrep 1.2 or later ({reason}): give another "
            "table, or leave data.confounds empty"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return frame, kept


def _copy_sidecar(table: Path, there: Path) -> None:
    """Put the table's .json beside its copy; without one, nilearn says what it is needed for."""
    sidecar = table.with_suffix(".json")
    if sidecar.is_symlink() or sidecar.exists():
        require_content(sidecar)
        try:
            json.loads(sidecar.read_bytes())
        except ValueError as error:
            raise UserError(f"{sidecar} is not valid JSON ({error}): replace it") from error
        shutil.copyfile(sidecar, there)


def _missing(path: Path, columns: Sequence[str], keywords: Sequence[str]) -> str:
    what = [*columns, *(_MEANINGS.get(word, word) for word in keywords)]
    return (
        f"{path} lacks what this strategy takes: {', '.join(what)}; choose another strategy for "
        f"data.confounds ({', '.join(STRATEGIES)}), or leave it empty"
    )


def _rows(path: Path) -> int:
    with open(path, encoding="utf-8") as lines:
        return max(0, sum(1 for line in lines if line.strip()) - 1)
